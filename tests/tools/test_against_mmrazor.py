"""The same step in mmrazor: what can be compared, in which words, and where mmrazor is installed, the comparison."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

import pytest
import tiny
import tiny_det
import torch
from tiny_runs import load_tool, role_config, write_images

from mmadm.utils.cost import WHOLE
from mmadm.utils.errors import ConfigError

INSTALLED = find_spec('mmrazor') is not None
CWD, PKD = dict(type='ChannelWiseDivergence', tau=2.0), dict(type='PearsonDistance')
KL, MGD = dict(type='KLDivergence', tau=2.0), dict(type='MaskedGeneration', mask_ratio=0.5)


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp('data'))


@pytest.fixture(scope='module')
def tool():
    return load_tool('benchmark')


@pytest.fixture(scope='module')
def pairs(tool):
    return import_module('mmrazor_pair')  # the tool has told Python where its parts are


def transfer(**options):
    return dict(type='mmadm.Transfer', source='teacher', learner='student', **options)


def offline(data, **options):
    """Config of a student and a frozen teacher of twice its channels."""
    cfg = role_config(data)
    cfg.model.update(frozen=['teacher'], distillers=[transfer(**options)])
    cfg.optim_wrapper.pop('teacher')
    return cfg


def larger_teacher(cfg):
    """Give the teacher logits of twice the student's height and width, as without the stride before layer4."""
    cfg.model.roles.teacher.cfg.backbone.update(strides=(1, 2, 1, 1))
    return cfg


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (
            dict(frozen=[]),
            r"model.roles=\['student', 'teacher'\] with model.frozen=\[\] has no counterpart there",
        ),
        (dict(teacher_dtype='bfloat16'), "model.teacher_dtype='bfloat16' .* leave it out"),
        (dict(compile=True), 'model.compile=True'),
        (dict(distillers=[]), r'model.distillers of the types \[\] .* need one mmadm.Transfer'),
        (dict(distillers=[dict(type='mmadm.ADM', at='feats')]), r"types \['mmadm.ADM'\]"),
        (dict(distillers=[transfer(loss=CWD)] * 2), 'need one mmadm.Transfer'),
        (dict(distillers=[transfer(loss=dict(type='DIST'))]), r"\[0\].loss of the type 'DIST' .* comparable: Channel"),
        (dict(distillers=[transfer(loss=CWD, at='backbone.layer4')]), r"\[0\].at='backbone.layer4' .* comparable: log"),
        (dict(distillers=[transfer(loss=CWD, at=['logits', 'feats'])]), r"\[0\].at=\['logits', 'feats'\]"),
        (dict(distillers=[transfer(loss=CWD, at=dict(student='feats[0]', teacher='logits'))]), r'\[0\].at='),
        (dict(distillers=[transfer(loss=CWD, avatars=dict(num=2))]), r'\[0\].avatars'),
        (dict(distillers=[transfer(loss=CWD, schedule=dict(stop=9))]), r'\[0\].schedule'),
    ],
)
def test_what_mmrazor_cannot_do_is_named(pairs, data, change, message):
    cfg = offline(data, loss=CWD)
    assert pairs.read_pair(cfg).student == 'student'
    cfg.model.update(change)
    with pytest.raises(ConfigError, match=f'--against mmrazor: .*{message}'):
        pairs.read_pair(cfg)


def test_other_things_that_mmrazor_cannot_do_are_named(pairs, data):
    cfg = offline(data, loss=CWD)
    cfg.model.roles.teacher.cfg.data_preprocessor.std = [1.0] * 3
    with pytest.raises(ConfigError, match='data_preprocessor that differs'):
        pairs.read_pair(cfg)
    for loss, refused in ((CWD, True), (KL, False)):
        cfg = offline(data, loss=loss)
        cfg.custom_hooks = [dict(type='mmadm.ChannelsLastHook', roles=['teacher'])]
        if refused:
            with pytest.raises(ConfigError, match=r'ChannelsLastHook .* --cfg-options custom_hooks=\[\]'):
                pairs.read_pair(cfg)
        else:
            pairs.read_pair(cfg)


def test_scores_that_mean_something_else_there_are_named(pairs, data):
    cfg = offline(data, loss=KL)
    sigmoid = dict(type='CrossEntropyLoss', use_sigmoid=True)
    for role in (cfg.model.roles.student, cfg.model.roles.teacher.cfg):
        role.decode_head.loss_decode = sigmoid
    with pytest.raises(ConfigError, match="KLDivergence of sigmoid scores, as 'student' has"):
        pairs.find_levels(pairs.read_pair(cfg), tiny.build(cfg.model), tiny.batch())
    model = dict(
        type='mmadm.Distillation',
        roles=dict(student=tiny_det.detector('fcos'), teacher=tiny_det.detector('fcos', 8)),
        frozen=['teacher'],
        distillers=[transfer(loss=KL)],
    )
    cfg.model.update(distillers=model['distillers'])
    with pytest.raises(ConfigError, match=r"tap 'logits' of the role 'student', FCOS .* of detectors feats"):
        pairs.find_levels(pairs.read_pair(cfg), tiny_det.build(model), tiny_det.batch())


def test_the_classifiers_outputs_in_mmrazors_words(pairs, data):
    pair = pairs.read_pair(larger_teacher(offline(data, loss=KL, weight=3.0)))
    model = tiny.build(larger_teacher(offline(data, loss=KL, weight=3.0)).model)
    sources, levels = pairs.find_levels(pair, model, tiny.batch())
    assert model.training and model.roles.student.training and not model.roles.teacher.training
    found = pairs.mmrazor_model(pair, sources, levels)
    student, teacher = found.pop('architecture'), found.pop('teacher')
    assert student['_scope_'] == teacher['_scope_'] == 'mmseg'
    assert (student['backbone']['base_channels'], teacher['backbone']['base_channels']) == (4, 8)
    recorder = dict(tap=dict(type='ModuleOutputs', source='decode_head.conv_seg'))
    resize = dict(size=[4, 4], mode='bilinear', align_corners=False)
    assert found == dict(
        _scope_='mmrazor',
        type='SingleTeacherDistill',
        distiller=dict(
            type='ConfigurableDistiller',
            student_recorders=recorder,
            teacher_recorders=recorder,
            # 5 classes: the mean over all elements is a fifth of the mean over the positions
            distill_losses=dict(loss_0=dict(type='KLDivergence', tau=2.0, reduction='mean', loss_weight=15.0)),
            connectors=dict(
                loss_0=[dict(type='TorchFunctionalConnector', function_name='interpolate', func_args=resize)]
            ),
            loss_forward_mappings=dict(
                loss_0=dict(
                    preds_S=dict(from_student=True, recorder='tap', data_idx=None, connector='loss_0'),
                    preds_T=dict(from_student=False, recorder='tap', data_idx=None),
                )
            ),
        ),
    )


def test_features_in_mmrazors_words(pairs, data):
    """Two of four levels; the weight is that of their mean, and the student's channels are half the teacher's."""
    cfg = offline(data, loss=MGD, at=dict(student='feats[2:]', teacher='feats[2:4]'), weight=3.0)
    pair, model = pairs.read_pair(cfg), tiny.build(cfg.model)
    sources, levels = pairs.find_levels(pair, model, tiny.batch())
    found = pairs.mmrazor_model(pair, sources, levels)
    assert found['type'] == 'FpnTeacherDistill'
    distiller = found['distiller']
    assert distiller['student_recorders'] == dict(tap=dict(type='ModuleOutputs', source='backbone'))
    assert distiller['distill_losses'] == {f'loss_{n}': dict(type='MGDLoss', alpha_mgd=1.5) for n in (0, 1)}
    assert distiller['connectors'] == {
        f'loss_{n}': [dict(type='MGDConnector', student_channels=c, teacher_channels=2 * c, lambda_mgd=0.5)]
        for n, c in ((0, 16), (1, 32))
    }
    assert [m['preds_S']['data_idx'] for m in distiller['loss_forward_mappings'].values()] == [2, 3]
    assert [m['preds_T']['data_idx'] for m in distiller['loss_forward_mappings'].values()] == [2, 3]
    weights = pairs.mmrazor_weights(pair, model, 2)
    ours = model.connectors['transfer']
    assert len(ours) == 2
    second = 'distiller.connectors.loss_1.0'
    assert torch.equal(weights[f'{second}.generation.2.bias'], list(ours.values())[1].generate[2].bias)
    assert torch.equal(weights[f'{second}.align.bias'], torch.zeros(64))
    assert torch.equal(weights['teacher.decode_head.conv_seg.bias'], model.roles.teacher.decode_head.conv_seg.bias)


@pytest.mark.parametrize(
    ('loss', 'channels', 'there'),
    [
        (CWD, 7, dict(type='ChannelWiseDivergence', tau=2.0, loss_weight=4.0)),
        (PKD, 7, dict(type='PKDLoss', loss_weight=4.0)),
        (dict(type='KLDivergence'), 7, dict(type='KLDivergence', tau=4.0, reduction='mean', loss_weight=28.0)),
    ],
)
def test_losses_in_mmrazors_words(pairs, data, loss, channels, there):
    distiller = pairs.read_pair(offline(data, loss=loss)).transfer
    assert pairs.mmrazor_loss(distiller.loss, 4.0, channels) == there


def command(cfg, folder, *arguments):
    cfg.dump(folder / 'tiny.py')
    return ['cost', str(folder / 'tiny.py'), '--iterations', '1', *arguments]


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--against-python', 'python'], '--against-python=python: only with --against mmrazor'),
        (['--against', 'mmrazor', '--against-python', '/no/such'], '--against-python=/no/such: No such file'),
        (['--against', 'mmrazor', '--cfg-options', 'model.frozen=[]'], 'need one student and one frozen teacher'),
    ],
)
def test_wrong_arguments_are_told(tool, data, tmp_path, capsys, arguments, message):
    assert tool.main(command(offline(data, loss=CWD), tmp_path, *arguments)) == 2
    assert message in ' '.join(capsys.readouterr().out.split())


@pytest.mark.skipif(INSTALLED, reason='mmrazor is installed')
def test_a_missing_mmrazor_is_told(tool, data, tmp_path, capsys):
    assert tool.main(command(offline(data, loss=CWD), tmp_path, '--against', 'mmrazor')) == 2
    out = ' '.join(capsys.readouterr().out.split())
    assert "No module named 'mmrazor'" in out and '-m pip install mmrazor==1.0.0 joblib' in out


@pytest.mark.skipif(not INSTALLED, reason='needs mmrazor 1.0.0: pip install mmrazor==1.0.0 joblib')
@pytest.mark.parametrize(
    'options',
    [
        dict(loss=CWD, weight=5.0),
        dict(loss=CWD, at='feats[1:3]', weight=5.0),
        dict(loss=KL, weight=3.0),
        dict(loss=PKD, at='feats', weight=2.0),
    ],
)
def test_mmrazor_makes_the_same_step(tool, data, options):
    """Both distillation losses are equal: the same weights, batch, tap, connector, resizing and reduction."""
    cfg = larger_teacher(offline(data, **options))
    if options['loss'] is not CWD:
        cfg.custom_hooks = [dict(type='mmadm.ChannelsLastHook', roles=['teacher'])]
    with tool.Rival(tool.read_pair(cfg), tool.sys.executable) as rival:
        costs = tool.cost.measure(cfg, 2, rival)
        assert rival._channels_last(cfg) == ([] if options['loss'] is CWD else ['teacher'])
    here, there = costs.distillation
    # the absolute part: their divergence is the difference of two sums in float32
    assert here > 1e-4 and there == pytest.approx(here, rel=1e-5, abs=1e-6)
    row = 'step of mmrazor 1.0.0'
    times = costs.milliseconds
    assert len(times[row]) == 2 and min(times[row]) > 0 and costs.memory[row] > 0
    assert [ratio.name for ratio in costs.ratios[-2:]] == [f'{row} / {WHOLE}', f'peak memory of {row} / {WHOLE}']
    rounds = [theirs / ours for theirs, ours in zip(times[row], times[WHOLE], strict=True)]
    assert costs.ratios[-2].value == pytest.approx(sum(rounds) / 2)
    assert costs.ratios[-1].value == costs.memory[row] / costs.memory[WHOLE]


@pytest.mark.skipif(not INSTALLED, reason='needs mmrazor 1.0.0: pip install mmrazor==1.0.0 joblib')
def test_the_command_prints_both_losses(tool, data, tmp_path, capfd):
    """Masks are drawn at random, so these losses are close and no more; nothing else is printed by the other side."""
    cfg = offline(data, loss=MGD, at='feats')
    assert tool.main(command(cfg, tmp_path, '--against', 'mmrazor')) == 0
    out = capfd.readouterr().out
    assert 'distillation loss of one batch' in out and 'step of mmrazor 1.0.0 / whole step' in out
    here, there = (float(out.split(' no dropout: ')[1].split()[n]) for n in (0, 2))
    assert there == pytest.approx(here, rel=0.2)
