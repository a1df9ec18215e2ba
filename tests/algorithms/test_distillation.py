"""Building from a config: connectors, checkpoints, preprocessing, and errors before training."""

from copy import deepcopy

import pytest
import torch
from mmengine.registry import DefaultScope
from small_segmentors import SIZE, batch, build, distillation, plain_optimiser, segmentor, train

from mmadm.utils.errors import CheckpointError

ADM = dict(type='ADM', at='backbone.layer4')
MUTUAL = dict(type='MutualLearning', roles=['student', 'teacher'])


# ---- connectors -----------------------------------------------------------------------------------------------------


def test_connectors_are_inferred_named_and_trained():
    model = distillation(distillers=[MUTUAL, dict(ADM, at=['backbone.layer3', 'backbone.layer4'])])
    shapes = {k: tuple(v.shape) for k, v in model.state_dict().items() if k.startswith('connectors.')}
    assert shapes == {
        'connectors.adm.backbone_layer3.weight': (32, 16, 1, 1),
        'connectors.adm.backbone_layer4.weight': (64, 32, 1, 1),
    }
    before = deepcopy(model.connectors.state_dict())
    train(model, 1)
    assert all(not torch.equal(before[k], v) for k, v in model.connectors.state_dict().items())


def test_equal_channels_need_no_connector_and_a_pyramid_gets_one_for_each_level():
    same = dict(student=segmentor(4), teacher=segmentor(4))
    assert not list(distillation(roles=same, distillers=[dict(ADM, at='feats')]).connectors.parameters())
    model = distillation(distillers=[dict(ADM, at='feats')])
    assert sorted(model.connectors.adm) == ['feats_0', 'feats_1', 'feats_2', 'feats_3']


def test_taps_of_other_size_and_name_are_compared():
    at = dict(student='backbone.layer4', teacher='backbone.layer2')  # 2x2 against 4x4 on these images
    model = distillation(distillers=[dict(ADM, at=at)])
    assert model.connectors.adm.backbone_layer4.weight.shape == (16, 32, 1, 1)
    log = train(model, 1)[0]
    assert 0 < log['student.loss_consensus'] < 2


def test_the_dry_run_leaves_no_trace():
    def statistics(model):
        return {k: v.clone() for k, v in model.state_dict().items() if 'running' in k or 'tracked' in k}

    model = distillation(distillers=[MUTUAL, ADM])
    assert all(v == 0 for k, v in statistics(model).items() if k.endswith('num_batches_tracked'))
    assert all(m.training for name in model.trainable for m in model.roles[name].modules())


def test_every_parameter_is_owned_once():
    model = distillation(distillers=[ADM, dict(ADM, student='teacher', teacher='student', at='backbone.layer3')])
    owned = [id(p) for role in ('student', 'teacher') for p in model.owned_by(role).parameters()]
    assert len(owned) == len(set(owned)) and set(owned) == {id(p) for p in model.parameters()}
    assert [n for n, _ in model.owned_by('teacher').named_parameters() if n.startswith('connectors.')] == [
        'connectors.adm_1_backbone_layer3.weight'
    ]


def test_a_connector_that_no_loss_reaches_is_frozen():
    for idle in (dict(ADM, consensus=0, divergence=1), dict(ADM, consensus=0, divergence=0)):
        assert not any(p.requires_grad for p in distillation(distillers=[idle]).connectors.parameters())
    frozen_student = distillation(distillers=[ADM], frozen=['student'], deploy='teacher')
    assert not any(p.requires_grad for p in frozen_student.connectors.parameters())
    assert all(p.requires_grad for p in distillation(distillers=[ADM]).connectors.parameters())


def test_a_stopped_connector_still_gets_a_gradient_for_ddp():
    model = distillation(distillers=[dict(ADM, schedule=dict(stop=1))])
    logs = train(model, 2)
    assert 'idle_loss' not in logs[0] and logs[1]['idle_loss'] == 0
    assert logs[1]['loss'] == pytest.approx(logs[1]['student.loss'] + logs[1]['teacher.loss'], rel=1e-6)


def test_two_distillers_of_one_kind_keep_their_losses_apart():
    both = [dict(ADM), dict(ADM, at='backbone.layer3')]
    log = train(distillation(distillers=both), 1)[0]
    assert {'student.loss_consensus', 'student.loss_consensus_adm_1'} <= set(log)
    assert log['student.loss_consensus'] != log['student.loss_consensus_adm_1']


# ---- schedules ------------------------------------------------------------------------------------------------------


def test_a_linear_warm_up_scales_the_loss():
    full = [log['student.loss_consensus'] for log in train(distillation(distillers=[ADM]), 1)]
    model = distillation(distillers=[dict(ADM, schedule=dict(warmup='linear', length=4))])
    optimiser = plain_optimiser(model, lr=0.0)
    found = [model.train_step(batch(seed=0), optimiser)['student.loss_consensus'].item() for _ in range(2)]
    assert found[0] == 0 and full[0] > 0
    # dropout draws other numbers in the second iteration, but not before the tap
    assert found[1] == pytest.approx(full[0] / 4, rel=1e-3)


def test_each_role_gets_what_its_own_preprocessor_makes():
    roles = dict(student=segmentor(4), teacher=segmentor(8, std=30.0), twin=segmentor(4))
    roles['teacher']['data_preprocessor'].update(bgr_to_rgb=False, size=(48, 40), pad_val=7)
    model = distillation(roles=roles)
    data = batch(size=(28, 30))
    done = model.data_preprocessor(deepcopy(data), True)
    for name, role in model.roles.items():
        alone = role.data_preprocessor(deepcopy(data), True)
        assert torch.equal(done['inputs'][name], alone['inputs'])
        for mine, theirs in zip(done['data_samples'][name], alone['data_samples'], strict=True):
            assert torch.equal(mine.gt_sem_seg.data, theirs.gt_sem_seg.data)
            assert mine.img_shape == theirs.img_shape
    assert done['inputs']['student'] is done['inputs']['twin']
    assert done['data_samples']['student'][0] is not done['data_samples']['twin'][0]
    assert done['inputs']['student'].shape[2:] == SIZE and done['inputs']['teacher'].shape[2:] == (48, 40)


def test_a_top_level_preprocessor_serves_roles_that_name_none():
    # a Runner passes the config's own `data_preprocessor` to the outer model
    roles = dict(student=segmentor(4), teacher=segmentor(8, std=30.0))
    common = roles['student'].pop('data_preprocessor')
    model = distillation(roles=roles, data_preprocessor=common)
    stds = {name: float(role.data_preprocessor.std.flatten()[0]) for name, role in model.roles.items()}
    assert stds == {'student': 58.0, 'teacher': 30.0}


def test_roles_with_other_preprocessing_learn_together():
    roles = dict(student=segmentor(4), teacher=segmentor(8, std=30.0))
    log = train(distillation(roles=roles, distillers=[MUTUAL, ADM]), 1)[0]
    assert log['student.loss_mutual'] > 0 and log['teacher.loss_divergence'] > 0


# ---- checkpoints of roles -------------------------------------------------------------------------------------------


@pytest.fixture()
def teacher_file(tmp_path):
    path = tmp_path / 'teacher.pth'
    torch.save(dict(meta={}, state_dict=build(segmentor(8), seed=3).state_dict()), path)
    return path


def roles_with(path, width=8):
    return dict(student=segmentor(4), teacher=dict(cfg=segmentor(width), checkpoint=str(path)))


def test_a_role_starts_from_its_checkpoint(teacher_file):
    model = distillation(roles=roles_with(teacher_file))
    expected = torch.load(teacher_file, weights_only=True)['state_dict']
    assert all(torch.equal(v, expected[k]) for k, v in model.roles['teacher'].state_dict().items())
    # and the student is not moved by how the teacher was made
    other = distillation()
    for a, b in zip(model.roles['student'].parameters(), other.roles['student'].parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_checkpoint_replaces_pretrained_weights_without_looking_for_them(teacher_file):
    roles = roles_with(teacher_file)
    roles['teacher']['cfg']['backbone']['init_cfg'] = dict(type='Pretrained', checkpoint='/nowhere.pth')
    model = distillation(roles=roles)
    expected = torch.load(teacher_file, weights_only=True)['state_dict']['backbone.conv1.weight']
    assert torch.equal(model.roles['teacher'].backbone.conv1.weight, expected)


def test_checkpoint_of_another_architecture_says_how_many_keys(teacher_file):
    with pytest.raises(CheckpointError, match=r'roles\.teacher\.checkpoint.* of another shape'):
        distillation(roles=roles_with(teacher_file, width=4))
    torch.save(dict(weird=torch.zeros(1)), teacher_file)
    with pytest.raises(CheckpointError, match=r'of 1\d\d keys \d+ are missing, 1 unexpected'):
        distillation(roles=roles_with(teacher_file))


def test_a_config_file_without_a_scope_has_that_of_the_training(tmp_path):
    files = {}
    for name, scope in (('student', ''), ('teacher', "default_scope = 'mmseg'\n")):
        files[name] = tmp_path / f'{name}.py'
        files[name].write_text(f'{scope}model = {segmentor(4)!r}\n')
    model = distillation(roles={name: dict(cfg=str(path)) for name, path in files.items()})
    assert type(model.roles['student']) is type(model.roles['teacher']) is type(build(segmentor(4)))


def test_missing_and_truncated_checkpoints(teacher_file, tmp_path):
    with pytest.raises(CheckpointError, match='no such file'):
        distillation(roles=roles_with(tmp_path / 'gone.pth'))
    whole = teacher_file.read_bytes()
    teacher_file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match='truncated'):
        distillation(roles=roles_with(teacher_file))
    assert teacher_file.read_bytes() == whole[: len(whole) // 2]


def test_a_full_checkpoint_is_recognised(teacher_file):
    torch.save(dict(state_dict=distillation().state_dict()), teacher_file)
    with pytest.raises(CheckpointError, match=r'tools/export\.py'):
        distillation(roles=roles_with(teacher_file))


# ---- stock configs -------------------------------------------------------------------------------------------------


def test_a_stock_config_by_name_builds_with_its_own_scope():
    roles = dict(student=dict(cfg='mmseg::fastscnn/fast_scnn_8xb4-160k_cityscapes-512x1024.py'))
    with DefaultScope.overwrite_default_scope('mmdet'):  # not the role's toolbox
        from mmadm.registry import MODELS

        model = MODELS.build(dict(type='mmadm.Distillation', roles=roles))
    assert type(model.roles['student'].backbone).__name__ == 'FastSCNN'


# ---- a loss that is not finite --------------------------------------------------------------------------------------


def test_losses_are_shown_before_the_weights_move():
    model = distillation(distillers=[MUTUAL])
    shown = []
    before = deepcopy(model.roles['student'].state_dict())

    def stop(total, log_vars):
        shown.append((total, log_vars))
        raise RuntimeError

    model.check_losses = stop
    with pytest.raises(RuntimeError):
        train(model, 1)
    ((total, log_vars),) = shown
    assert log_vars['loss'] is total and {'student.loss', 'teacher.loss_mutual'} <= set(log_vars)
    assert all(torch.equal(before[k], v) for k, v in model.roles['student'].state_dict().items() if 'running' not in k
               and 'tracked' not in k)  # fmt: skip


# ---- prediction -----------------------------------------------------------------------------------------------------


def test_the_deploy_role_predicts_as_the_stock_model_does():
    model = distillation(distillers=[ADM]).eval()
    data = batch(seed=9)
    for role in ('student', 'teacher'):
        model.predicting = role
        mine = model.val_step(deepcopy(data))
        theirs = model.roles[role].val_step(deepcopy(data))
        for a, b in zip(mine, theirs, strict=True):
            assert torch.equal(a.seg_logits.data, b.seg_logits.data)
