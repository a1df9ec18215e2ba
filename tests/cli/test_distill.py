"""``mmadm distill``: what it chooses and writes, and what it refuses with one sentence."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import torch
from distill_command import refused
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from stock_trainings import STOCK

from mmadm.cli import distill
from mmadm.cli.methods_table import FROZEN, METHODS, TEACHES
from mmadm.cli.trial import build_model
from mmadm.utils.config import resolve_config, role_model_cfg

SEGFORMER = """_base_ = 'mmseg::segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py'
model = dict(
    _delete_=True,
    type='mmadm.Distillation',
    roles=dict(
        student=dict(cfg={{_base_.model}}),
        teacher=dict(cfg='mmseg::segformer/segformer_mit-b1_8xb2-160k_ade20k-512x512.py'),
    ),
    distillers=[dict(type='mmadm.MutualLearning', roles=['student', 'teacher'], at='logits')],
)
optim_wrapper = dict(constructor='mmadm.RoleOptimWrapperConstructor')
val_cfg = dict(type='mmadm.RoleValLoop', role_val=True)
default_hooks = dict(checkpoint=dict(type='mmadm.RoleCheckpointHook'), guard=dict(type='mmadm.NonFiniteGuardHook'))
"""


def test_a_config_of_a_toolbox_is_inherited_by_name(here):
    student, teacher = (STOCK['segformer'].replace('b0', size) for size in ('b0', 'b1'))
    distill.main([student, teacher, '--method', 'dml'])
    written = Path('dml_segformer_mit-b0_8xb2-160k_ade20k-512x512.py')
    comments, _, rest = written.read_text().partition('_base_')
    beside = Path(f'{written.stem}_base.py')
    if beside.exists():  # on the forks, see below
        assert Config.fromfile(beside).pretty_text == Config.fromfile(resolve_config(student)).pretty_text
        rest = rest.replace(beside.name, student)
    assert '_base_' + rest == SEGFORMER
    assert f'mmadm distill {student} {teacher} --method dml' in comments
    cfg = Config.fromfile(written)
    stock = Config.fromfile(resolve_config(student)).param_scheduler
    assert [{**step, '_scope_': 0} for step in cfg.param_scheduler] == [{**step, '_scope_': 0} for step in stock] != []
    wrapper = build_optim_wrapper(build_model(cfg), cfg.optim_wrapper)
    groups = wrapper['student'].optimizer.param_groups
    # the student's own recipe: AdamW with a head of ten times the rate
    assert {round(group['lr'], 7) for group in groups} == {6e-5, 6e-4}
    assert wrapper['teacher'].optimizer.__class__ is torch.optim.AdamW


def test_paths_start_where_the_config_lies(folder, here, monkeypatch):
    distill.main(
        ['../pspnet_student.py', '../pspnet_teacher.py', '--out', 'deep/cwd.py', '--method', 'cwd', '--no-frozen']
    )
    monkeypatch.chdir('/')
    cfg = Config.fromfile(here / 'deep/cwd.py')
    assert cfg.train_dataloader == Config.fromfile(folder / 'pspnet_student.py').train_dataloader
    assert role_model_cfg(cfg.model.roles.teacher)['backbone']['base_channels'] == 12


def test_a_checkpoint_makes_methods_of_one_direction_offline_and_brings_the_guard(folder, here, capsys):
    distill.main(
        ['../pspnet_student.py', '../pspnet_teacher.py', '--method', 'cwd', '--teacher-checkpoint', '../pspnet.pth']
    )
    cfg = Config.fromfile('cwd_pspnet_student.py')
    assert cfg.model.frozen == ['teacher']
    assert cfg.default_hooks.teacher_guard.type == 'mmadm.TeacherGuardHook'
    assert cfg.val_cfg == dict(type='mmadm.RoleValLoop')
    model = build_model(cfg)
    own = torch.load(folder / 'pspnet.pth')['state_dict']
    assert all(torch.equal(value, own[key]) for key, value in model.roles.teacher.state_dict().items())
    told = capsys.readouterr().out
    assert 'MMRazor' in told and '../pspnet_student.py' in told


@pytest.mark.parametrize(
    ('words', 'frozen'),
    [
        (['--method', 'adm', '--teacher-checkpoint', '../pspnet.pth'], []),
        (['--method', 'adm', '--teacher-checkpoint', '../pspnet.pth', '--frozen'], ['teacher']),
        (['--method', 'kd', '--teacher-checkpoint', '../pspnet.pth', '--no-frozen'], []),
    ],
)
def test_who_is_frozen(here, words, frozen):
    distill.main(['../pspnet_student.py', '../pspnet_teacher.py', '--out', 'a.py', *words])
    assert Config.fromfile('a.py').model.get('frozen', []) == frozen


@pytest.mark.parametrize('kind', ['pspnet', 'retinanet'])
@pytest.mark.parametrize('method', METHODS)
def test_every_method_is_written_for_both_tasks_or_refused(kind, method, here, capsys):
    words = [f'../{kind}_student.py', '--method', method, '--out', 'a.py']
    words += [] if method == 'ffsd' else [f'../{kind}_teacher.py']
    words += ['--teacher-checkpoint', f'../{kind}.pth'] if METHODS[method].teacher in (FROZEN, TEACHES) else []
    words += ['--set', 'model.distillers.0.start=1'] if method == 'crosskd' else []  # its head has one convolution
    not_for = {'pspnet': ('fgd', 'bckd', 'ld', 'crosskd'), 'retinanet': ('dkd', 'cirkd', 'ld')}
    if method in not_for[kind]:
        told = refused(capsys, *words)
        assert f'is not for {dict(pspnet="EncoderDecoder", retinanet="RetinaNet")[kind]}; what fits: adm, dml,' in told
        return
    distill.main(words)
    cfg = Config.fromfile('a.py')
    assert (cfg.get('find_unused_parameters') is True) == (method == 'switokd')
    deploy = 'leader' if method == 'ffsd' else 'student'
    assert cfg.model.get('deploy', 'student') == deploy
    wrapper = build_optim_wrapper(build_model(cfg), cfg.optim_wrapper)
    rates = {role: member.optimizer.param_groups[0]['lr'] for role, member in wrapper.items()}
    if method == 'sokd':
        assert rates['bridge'] == pytest.approx(rates['student'] / 10)


def test_published_weights_of_each_level_are_multiplied_by_the_levels(here):
    words = ['../retinanet_student.py', '../retinanet_teacher.py', '--no-frozen', '--method']
    distill.main([*words, 'cwd', '--out', 'a.py'])
    assert 'weight=5 * 10.0' in Path('a.py').read_text()
    distill.main([*words, 'pkd', '--out', 'b.py'])
    assert 'weight=4 * 10.0' in Path('b.py').read_text()


def test_taps_and_settings_of_ones_own(here):
    further = ['model.distillers.0.weight=2.5', 'train_dataloader.dataset.pipeline.3.cat_max_ratio=0.5', 'resume=True']
    at = ['student=backbone.layer3', 'teacher=backbone.layer2']
    words = ['../pspnet_student.py', '../pspnet_teacher.py', '--method', 'mgd', '--no-frozen']
    distill.main([*words, '--at', *at, '--set', *further])
    cfg = Config.fromfile('mgd_pspnet_student.py')
    (only,) = cfg.model.distillers
    assert only['at'] == dict(student='backbone.layer3', teacher='backbone.layer2')
    assert only.weight == 2.5 and cfg.resume is True
    stock = Config.fromfile('../pspnet_student.py').train_dataloader
    stock.dataset.pipeline[3].cat_max_ratio = 0.5
    assert cfg.train_dataloader == stock


def test_other_classes_go_to_every_network_that_learns(here):
    words = ['../pspnet_student.py', '../pspnet_teacher.py', '--classes', '4', '--method', 'dml', '--out', 'a.py']
    distill.main(words)
    model = build_model(Config.fromfile('a.py'))
    assert {model.roles[role].decode_head.num_classes for role in ('student', 'teacher')} == {4}
    assert model.roles.student.auxiliary_head.num_classes == 4


def test_adm_leaves_class_scores_out_where_classes_differ(here, capsys):
    words = ['--teacher-checkpoint', '../pspnet.pth', '--frozen', '--classes', '4', '--out', 'a.py']
    distill.main(['../pspnet_student.py', '../pspnet_teacher.py', *words])
    assert [cfg.type for cfg in Config.fromfile('a.py').model.distillers] == ['mmadm.ADM']
    assert 'without mmadm.MutualLearning' in capsys.readouterr().out


def test_the_padded_size_of_the_teacher_follows_the_images(folder, here, capsys):
    cfg = Config.fromfile('../pspnet_teacher.py')
    cfg.model.data_preprocessor.size = (512, 512)
    cfg.dump('large.py')
    distill.main(['../pspnet_student.py', 'large.py', '--out', 'a.py'])
    assert 'in place of (512, 512)' in ' '.join(capsys.readouterr().out.split())
    crop = Config.fromfile('../pspnet_student.py').crop_size
    assert role_model_cfg(Config.fromfile('a.py').model.roles.teacher)['data_preprocessor']['size'] == crop


def test_nothing_is_overwritten_without_force(here, capsys):
    words = ['../pspnet_student.py', '../pspnet_teacher.py', '--out', 'a.py']
    distill.main([*words, '--method', 'dml'])
    before = Path('a.py').read_text()
    distill.main([*words, '--method', 'dml'])  # the same once more is no loss
    capsys.readouterr()
    assert 'a.py exists: give another --out, or --force' in refused(capsys, *words, '--method', 'kdcl')
    assert Path('a.py').read_text() == before
    distill.main([*words, '--method', 'kdcl', '--force'])
    assert Path('a.py').read_text() != before


def test_a_command_that_writes_the_same_again_is_no_loss(here, capsys):
    """As after a training that failed: now with another folder, or without starting it."""
    words = ['../pspnet_student.py', '../pspnet_teacher.py', '--method', 'dml', '--out', 'a.py']
    distill.main(words)
    before = Path('a.py').read_text()
    distill.main([*words, '--work-dir', 'elsewhere'])
    assert Path('a.py').read_text() == before
    Path('a.py').write_text(before.replace('logits', 'feats'))
    assert 'a.py exists' in refused(capsys, *words)


def test_a_training_is_started_as_asked(here, monkeypatch):
    started = []
    monkeypatch.setattr(distill.subprocess, 'call', lambda words: started.append(words) or 3)
    words = ['../pspnet_student.py', '../pspnet_teacher.py', '--method', 'dml', '--out', 'a.py', '--train']
    for options in (['--launcher', 'pytorch', '--gpus', '2', '--work-dir', 'w', '--amp'], []):
        with pytest.raises(SystemExit) as ended:
            distill.main([*words, *options])
        assert ended.value.code == 3  # that of the training
    torchrun = ['-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2']
    training = ['-m', 'mmadm', 'train', 'a.py']
    assert started == [
        [sys.executable, *torchrun, *training, '--work-dir', 'w', '--amp', '--launcher', 'pytorch'],
        [sys.executable, *training],
    ]


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['--method', 'cdw'], "--method='cdw': unknown; did you mean 'cwd'"),
        (['--method', 'kd'], 'give --teacher-checkpoint FILE, or --no-frozen to train it at the same time'),
        (['--method', 'fgd'], '--method=fgd is not for EncoderDecoder; what fits: adm, dml,'),
        (['--method', 'kd', '--frozen'], 'a frozen teacher needs trained weights; give --teacher-checkpoint FILE'),
        (['--method', 'dml', '--frozen'], 'its teacher learns; methods for --frozen are adm, kd,'),
        (['--method', 'ffsd'], 'has no teacher, only copies of STUDENT'),
        (['--method', 'kd', '--teacher-checkpoint', 'no.pth'], "no.pth': no such file"),
        (['--method', 'kd', '--teacher-checkpoint', '../retinanet.pth'], 'another architecture'),
        (
            ['--method', 'kd', '--teacher-checkpoint', '../pspnet.pth', '--classes', '4'],
            'predicts 19 classes and the student 4; methods that compare features: adm, mgd,',
        ),
        (['--at', 'backbone.layer9'], "no tap 'backbone.layer9'; did you mean 'backbone.layer"),
        (['--at', 'feats', 'student=feats'], 'one tap for all roles, or ROLE=TAP for each'),
        (['--at', 'student=feats', 'techer=feats'], "no role 'techer' is compared; did you mean 'teacher'?"),
        (['--set', 'pixel_queue=9'], '--set pixel_queue=9: no key of a training config'),
        (['--set', 'train_dataloader.dataset.pipeline.99.type=A'], '--set train_dataloader.dataset.pipeline.99.type'),
        (['--out', 'a.txt'], '--out=a.txt: a config ends with .py'),
        (['--out', '/dev/null/a.py'], "--out='/dev/null' cannot be written to: "),
        (['--classes', '0'], '--classes=0: must be at least 1'),
        (['--gpus', '4'], 'several GPUs need --launcher'),
    ],
)
def test_bad_input_is_one_sentence(here, capsys, words, message):
    assert message in refused(capsys, '../pspnet_student.py', '../pspnet_teacher.py', *words)


def test_a_method_without_taps_takes_none(here, capsys):
    words = ['../retinanet_student.py', '../retinanet_teacher.py', '--teacher-checkpoint', '../retinanet.pth']
    told = refused(capsys, *words, '--method', 'bckd', '--at', 'feats')
    assert '--at=feats: --method=bckd reads class scores and boxes; leave it out' in told
    told = refused(capsys, *words, '--method', 'bckd', '--classes', '4')
    assert 'methods that compare features: adm, cwd, mgd,' in told and 'crosskd' not in told


def test_networks_that_are_none(here, capsys):
    told = refused(capsys, '../pspnet_studnt.py', '../pspnet_teacher.py')
    assert "no such file; did you mean 'pspnet_student.py'? Give a path" in told
    assert 'no such file. Give a path' in refused(capsys, 'student.py', '../pspnet_teacher.py')
    near = (
        "mmseg has no config 'pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x512.py'; did you mean 'pspnet/pspnet_r18-d8"
    )
    assert near in refused(capsys, STOCK['pspnet'].replace('x1024.py', 'x512.py'))
    assert 'is for detection, STUDENT ../pspnet_student.py for semantic segmentation' in refused(
        capsys, '../pspnet_student.py', '../retinanet_teacher.py'
    )
    assert 'needs a TEACHER' in refused(capsys, '../pspnet_student.py')


@pytest.mark.parametrize('lacks', ['distribution', 'pkg_resources'])
def test_where_mmengine_cannot_inherit_the_whole_base_lies_beside(folder, here, monkeypatch, lacks):
    """As on the forks, which have no distribution of that name, or with a setuptools that is too new for mmengine."""

    def missing(name: str) -> None:
        if lacks == 'distribution':
            raise PackageNotFoundError(name)

    monkeypatch.setattr(
        f'mmadm.cli.written_config.{"distribution" if lacks == "distribution" else "find_spec"}', missing
    )
    name = STOCK['rtmdet']
    distill.main([name, name, '--method', 'pkd', '--no-frozen', '--out', 'a.py'])
    assert Path('a.py').read_text().count("_base_ = 'a_base.py'\n") == 1
    written, stock = Config.fromfile('a.py'), Config.fromfile(resolve_config(name))
    for key in ('train_dataloader', 'param_scheduler', 'train_cfg', 'default_scope'):
        assert written[key] == stock[key]
    assert build_model(written).roles.student.bbox_head.num_classes == 80


def test_a_student_in_the_new_style(folder, here):
    text = (folder / 'pspnet_student.py').read_text().replace("type='EncoderDecoder'", 'type=EncoderDecoder')
    Path('inner.py').write_text(f'from mmseg.models import EncoderDecoder\n{text}')
    Path('new.py').write_text('from mmengine.config import read_base\nwith read_base():\n    from .inner import *\n')
    distill.main(['new.py', '../pspnet_teacher.py', '--method', 'mgd', '--no-frozen', '--out', 'a.py'])
    cfg = Config.fromfile('a.py')
    assert cfg.train_dataloader == Config.fromfile('../pspnet_student.py').train_dataloader
    assert build_model(cfg).roles.student.backbone.base_channels == 8
