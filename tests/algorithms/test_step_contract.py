"""What travels from adapters to distillers: kinds of taps, names, the iteration, and what trains."""

from __future__ import annotations

import pytest
import small_detectors
import torch
from mmengine.logging import MessageHub
from role_outputs import run_roles
from small_segmentors import batch, build, distillation, plain_optimiser, segmentor, train
from tap_reader import TapReader

from mmadm.functional import kl_divergence
from mmadm.structures import DistillerOutput, Kind, Tap
from mmadm.utils.errors import ConfigError

KL = dict(type='Transfer', source='teacher', learner='student', loss=dict(type='KLDivergence', tau=1.0))
HINT = dict(type='Transfer', source='teacher', learner='student', at='backbone.layer4', loss=dict(type='HintMSE'))
ADM = dict(type='ADM', at='backbone.layer4')


# ---- kinds of taps --------------------------------------------------------------------------------------------------


def test_the_scorer_of_a_segmentor_is_compared_as_its_logits():
    def loss(at):
        roles = dict(student=segmentor(4), teacher=segmentor(8))
        for role in roles.values():
            role['decode_head']['loss_decode'] = dict(type='CrossEntropyLoss', use_sigmoid=True)
        return train(distillation(roles=roles, distillers=[dict(KL, at=at)]), 1)[0]['student.loss_transfer']

    assert loss('logits') == loss('decode_head.conv_seg') > 0


def test_the_scorer_of_a_detector_is_compared_as_its_logits():
    def loss(at):
        model = small_detectors.distillation('retinanet', distillers=[dict(KL, at=at)])
        torch.manual_seed(0)
        return model(**model.data_preprocessor(small_detectors.batch(), True), mode='loss')[
            'student.loss_transfer'
        ].item()

    assert loss('logits') == loss('bbox_head.retina_cls') > 0


def test_boxes_of_gfl_are_four_distributions():
    model = small_detectors.distillation('gfl', distillers=[dict(KL, at='boxes')])
    data = model.data_preprocessor(small_detectors.batch(), True)
    outputs = run_roles(model, data)
    pairs = [outputs[role].taps[Tap(role, 'boxes')] for role in ('student', 'teacher')]
    assert all(pair.kind is Kind.BOX_DISTRIBUTIONS for pair in pairs)
    bins = model.roles['student'].bbox_head.reg_max + 1
    expected = []
    for mine, theirs, area in zip(pairs[0].levels, pairs[1].levels, pairs[0].strides, strict=True):
        assert mine.shape[1] == bins
        rows, columns = (
            [-(-image[axis] // int(area[axis])) for image in outputs['student'].area.images] for axis in (0, 1)
        )
        kept = []
        for image in range(2):
            part = slice(4 * image, 4 * image + 4)
            inside = (
                x[part, :, : rows[image], : columns[image]].movedim(1, -1).reshape(-1, bins) for x in (mine, theirs)
            )
            kept.append(tuple(inside))
        student, teacher = (torch.cat(x) for x in zip(*kept, strict=True))
        expected.append(kl_divergence(student, teacher))
    found = model.distillers['transfer'](outputs, model.step_of('transfer')).losses['student.loss_transfer']
    torch.testing.assert_close(found, torch.stack(expected).mean())


@pytest.mark.parametrize(
    ('family', 'at', 'message'),
    [
        ('retinanet', 'boxes', "'boxes' of 'student': KLDivergence: makes no sense for box regression"),
        ('faster', 'boxes', "'boxes' of 'student': KLDivergence: makes no sense for box regression"),
    ],
)
def test_a_loss_that_makes_no_sense_at_a_tap_says_what_fits(family, at, message):
    with pytest.raises(ConfigError, match=message):
        small_detectors.distillation(family, distillers=[dict(KL, at=at)])


def vit():
    """A segmentor on a small ViT, whose layers put out tokens (N, 1 + 4, 8)."""
    cfg = segmentor(4)
    cfg['backbone'] = dict(type='VisionTransformer', img_size=32, patch_size=16, embed_dims=8, num_layers=2,
                           num_heads=2, out_indices=(1,))  # fmt: skip
    cfg['decode_head'].update(in_channels=8, in_index=0)
    return cfg


def test_tokens_are_normalised_over_their_channels():
    model = distillation(roles=dict(student=vit(), teacher=vit()), distillers=[dict(KL, at='backbone.layers.1')])
    outputs = run_roles(model, model.data_preprocessor(batch(), True))
    read = [outputs[role].taps[Tap(role, 'backbone.layers.1')] for role in ('student', 'teacher')]
    assert read[0].kind is Kind.TOKENS and read[0].levels[0].shape == (2, 8, 5)
    mine, theirs = (r.levels[0].transpose(1, 2).reshape(-1, 8) for r in read)
    found = model.distillers['transfer'](outputs, model.step_of('transfer')).losses['student.loss_transfer']
    torch.testing.assert_close(found, kl_divergence(mine, theirs))


def test_strides_come_from_the_dry_run():
    model = build(segmentor(4)).eval()
    reader = TapReader('student', model)
    reader.probe(model, 128, ['feats'])
    odd = reader.features(model, torch.zeros(1, 3, 41, 33), ['feats'])
    assert [tuple(level.shape[2:]) for level in odd.taps['feats']] == [(11, 9), (6, 5), (3, 3), (3, 3)]
    assert list(odd.strides['feats']) == [(4, 4), (8, 8), (16, 16), (16, 16)]


# ---- what trains, and who is who ------------------------------------------------------------------------------------


def test_the_accuracy_of_a_role_whose_name_holds_loss_does_not_train():
    model = distillation(roles=dict(student=segmentor(4), lossy_teacher=segmentor(4)))
    total, log_vars = model.parse_losses(model(**model.data_preprocessor(batch(), True), mode='loss'))
    assert 'lossy_teacher.decode.acc_seg' in log_vars
    expected = log_vars['student.decode.loss_ce'] + log_vars['lossy_teacher.decode.loss_ce']
    assert total.item() == pytest.approx(expected.item())
    assert log_vars['lossy_teacher.loss'].item() == log_vars['lossy_teacher.decode.loss_ce'].item()


def test_names_and_fields_of_a_distillers_output_agree():
    one = torch.ones(())
    with pytest.raises(ValueError, match='in monitors'):
        DistillerOutput(monitors={'student.loss_x': one})
    with pytest.raises(ValueError, match='in losses'):
        DistillerOutput({'lossy_student.x': one})


def connectors(*distillers):
    return set(distillation(distillers=list(distillers)).connectors)


def test_a_new_distiller_renames_no_connector():
    assert connectors(HINT, HINT) == connectors(dict(type='SwitOKD'), HINT, HINT) == {'transfer', 'transfer_1'}
    assert connectors(dict(HINT, name='deep'), HINT) == {'deep', 'transfer'}
    with pytest.raises(ConfigError, match=r"model\.distillers\[1\]\.name='deep': must be a word"):
        connectors(dict(HINT, name='deep'), dict(HINT, name='deep'))


def test_connectors_of_former_checkpoints_find_their_place():
    """Version 0.1 numbered a distiller by its place among all of them."""
    model = distillation(distillers=[dict(type='SwitOKD'), HINT, HINT])
    state = model.state_dict()
    former = {key.replace('connectors.transfer_1.', 'connectors.transfer_2.'): torch.randn_like(value.float())
              for key, value in state.items()}  # fmt: skip
    wanted = [former[f'connectors.{name}.backbone_layer4.weight'] for name in ('transfer', 'transfer_2')]
    missing, unexpected = model.load_state_dict(former, strict=False)
    assert not missing and not unexpected
    for name, value in zip(('transfer', 'transfer_1'), wanted, strict=True):
        assert torch.equal(model.connectors[name]['backbone_layer4'].weight, value)


# ---- the iteration --------------------------------------------------------------------------------------------------


def test_another_hub_does_not_send_schedules_back_to_the_start():
    hub = MessageHub.get_instance('of the runner that builds this model')
    MessageHub._instance_dict.move_to_end(hub.instance_name)
    model = distillation(distillers=[dict(ADM, schedule=dict(warmup='linear', length=10))])
    optimiser, factors = plain_optimiser(model, lr=0.0), []
    for iteration in (4, 5):
        hub.update_info('iter', iteration)
        MessageHub.get_instance(f'of a hook {iteration}')
        factors.append(model.train_step(batch(), optimiser)['student.loss_consensus'].item())
    assert model.progress.iteration == 5
    assert factors[1] / factors[0] == pytest.approx(5 / 4, rel=1e-3)


def test_without_a_runner_every_step_draws_other_avatars():
    avatars = dict(num=1, perturbation=dict(type='GaussianNoise', std=1.0))
    model = distillation(distillers=[dict(HINT, avatars=avatars)])
    for role in model.roles.values():
        role.eval()
    data = model.data_preprocessor(batch(), True)
    drawn = [model(**data, mode='loss')['student.loss_transfer'].item() for _ in range(3)]
    assert len(set(drawn)) == 3


def test_every_rank_draws_other_avatars(monkeypatch):
    from mmadm.utils import random

    avatars = dict(num=1, perturbation=dict(type='GaussianNoise', std=1.0))

    def drawn(rank):
        monkeypatch.setattr(random, 'get_rank', lambda: rank)
        model = distillation(distillers=[dict(HINT, avatars=avatars)])
        for role in model.roles.values():
            role.eval()
        return model(**model.data_preprocessor(batch(), True), mode='loss')['student.loss_transfer'].item()

    assert drawn(0) == drawn(0) != drawn(1)
