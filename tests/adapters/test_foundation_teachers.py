"""Foundation models of timm and MMPretrain, narrow and with random weights, as teachers of features."""

from __future__ import annotations

from copy import deepcopy

import extras
import pytest
import small_segmentors
import torch
import torch.nn.functional as F

from mmadm.structures import BatchArea, Kind, Tap

extras.use('mmpretrain.models', 'timm')
SMALL = dict(depth=2, num_heads=2)
DINOV2 = dict(model_name='vit_small_patch14_dinov2', dynamic_img_size=True, img_size=56, embed_dim=16, **SMALL)
DINOV3 = dict(model_name='vit_small_patch16_dinov3', embed_dim=32, **SMALL)
ARCH = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=16)
VIT = dict(type='mmpretrain.VisionTransformer', arch=ARCH, img_size=56, patch_size=14)
TIMM = dict(module='timm:create_model')
SWIN = dict(
    model_name='swin_tiny_patch4_window7_224', embed_dim=8, depths=(1,) * 4, num_heads=(1,) * 4, strict_img_size=False
)


def run(backbone, tap='feats', checkpoint=None):
    """A training step's taps of a teacher, and the images (2, 3, 30, 44) that it saw before they were padded."""
    images = dict(mean=[120.0] * 3, std=[60.0] * 3)
    teacher = dict(cfg=dict(type='mmadm.FeatureTeacher', backbone=backbone, data_preprocessor=images))
    distiller = dict(
        type='mmadm.Transfer', source='teacher', learner='student', loss=dict(type='PearsonDistance'),
        at=dict(student='backbone.layer4', teacher=tap),
    )  # fmt: skip
    roles = dict(student=small_segmentors.segmentor(4), teacher=dict(teacher, checkpoint=checkpoint))
    model = small_segmentors.distillation(roles=roles, frozen=['teacher'], distillers=[distiller])
    data = model.data_preprocessor(deepcopy(small_segmentors.batch(2, size=(30, 44))), True)
    wanted = Tap('teacher', tap)
    taps = {'teacher': [wanted]}
    output = model._runner.run(data['inputs'], data['data_samples'], taps, 0)['teacher']
    logs = model.train_step(small_segmentors.batch(2, size=(30, 44)), small_segmentors.plain_optimiser(model))
    assert logs['student.loss_transfer'].item() > 0
    return model.roles.teacher.backbone, data['inputs']['teacher'], output.area, output.taps[wanted]


@pytest.mark.parametrize(('backbone', 'patch', 'extra'), [
    (dict(TIMM, **DINOV2), 14, 1),
    (dict(TIMM, **DINOV3), 16, 5),
    (dict(type='mmpretrain.TIMMBackbone', **DINOV2), 14, 1),
    (dict(type='mmpretrain.TIMMBackbone', **DINOV3), 16, 5),
    (dict(VIT, out_type='raw'), 14, 1),
])  # fmt: skip
def test_tokens_of_patches_are_the_map(backbone, patch, extra):
    net, images, area, tap = run(backbone)
    rows, columns = -(-30 // patch), -(-44 // patch)
    padded = F.pad(images, (0, columns * patch - 44, 0, rows * patch - 30))
    with torch.no_grad():
        tokens = getattr(net, 'forward_features', net)(padded)
    tokens = tokens[0] if isinstance(tokens, tuple) else tokens
    expected = tokens[:, extra:].reshape(2, rows, columns, -1).permute(0, 3, 1, 2)
    assert tap.kind is Kind.MAP and tap.strides == ((patch, patch),)
    torch.testing.assert_close(tap.levels[0], expected)
    assert area == BatchArea((rows * patch, columns * patch), ((30, 44), (30, 44)))


def test_a_module_inside_gives_maps_too():
    net, images, _, tap = run(dict(TIMM, **DINOV3), 'backbone.blocks.0')
    seen = []
    net.blocks[0].register_forward_hook(lambda *call: seen.append(call[-1]))
    with torch.no_grad():
        net(F.pad(images, (0, 4, 0, 2)))
    torch.testing.assert_close(tap.levels[0], seen[0][:, 5:].reshape(2, 2, 3, -1).permute(0, 3, 1, 2))


def test_maps_as_they_are():
    net, images, _, tap = run(dict(VIT, out_type='featmap'))
    with torch.no_grad():
        torch.testing.assert_close(tap.levels[0], net(F.pad(images, (0, 12, 0, 12)))[0])


def test_channels_at_the_end_come_second():
    net, images, _, tap = run(dict(TIMM, **SWIN))
    with torch.no_grad():
        torch.testing.assert_close(tap.levels[0], net.forward_features(F.pad(images, (0, 0, 0, 2))).permute(0, 3, 1, 2))
    *_, tap = run(dict(TIMM, **SWIN), 'backbone.layers.0')
    assert tap.levels[0].shape == (2, 8, 8, 11) and tap.strides == ((4.0, 4.0),)


@pytest.mark.parametrize('wrapper', [dict(TIMM, **DINOV2), dict(type='mmpretrain.TIMMBackbone', **DINOV2)])
def test_an_official_file_fits_a_wrapped_network_too(tmp_path, wrapper):
    """That of DINOv2 has the names of timm, and a mask token that only its own training needs."""
    import timm

    torch.manual_seed(1)
    trained = timm.create_model(**DINOV2).state_dict()
    torch.save({**trained, 'mask_token': torch.zeros(1, 16)}, tmp_path / 'dinov2.pth')
    found = run(wrapper, checkpoint=str(tmp_path / 'dinov2.pth'))[0]
    state = getattr(found, 'timm_model', found).state_dict()
    assert state.keys() == trained.keys() and all(torch.equal(state[key], value) for key, value in trained.items())
