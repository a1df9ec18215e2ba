"""Some dense heads put out something else in eval mode than in training; what the taps give is the same in both."""

from __future__ import annotations

import pytest
import torch
from small_detectors import SIZE, batch, build, detector, distillation
from tap_reader import TapReader

from mmadm.utils.errors import ConfigError

# `ddod` has a deformable convolution that refuses levels smaller than its kernel
SIZES = dict(ddod=(352, 352))
FAMILIES = (
    'retinanet', 'fcos', 'fcos_norm', 'atss', 'gfl', 'reppoints', 'rtmdet', 'paa', 'vfnet', 'autoassign', 'centernet',
    'fovea', 'fsaf', 'ddod',
)  # fmt: skip
CHANGING = ('fcos_norm', 'reppoints', 'vfnet', 'centernet')  # heads whose stock regression maps depend on the mode


@pytest.fixture(scope='module', params=FAMILIES)
def case(request):
    """A detector's family, the detector with weights that let values pass on undamped, and a batch."""
    model = build(detector(request.param))
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        if parameter.dim() == 4:
            parameter.data.normal_(std=(2 / parameter[0].numel()) ** 0.5, generator=generator)
    return request.param, model, batch(2, size=SIZES.get(request.param, SIZE))


def only_heads_train(model, mode):
    """Tell all modules of other modules that they train, as TokenTraining does, the others that they do not."""
    for module in model.eval().modules():
        parent = any(True for _ in module.children()) and not type(module).__module__.startswith('torch.')
        module.training = mode and parent
    return model


def alike(first, second):
    """Whether the levels of two runs are equal up to rounding."""
    pairs = zip(first, second, strict=True)
    return all(a.shape == b.shape and torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in pairs)


def test_taps_are_the_same_in_training_and_in_eval_mode(case):
    family, model, items = case
    inputs = model.data_preprocessor(items, False)['inputs']
    adapter = TapReader('student', model)
    taps, stock = [], []
    for mode in (True, False):
        taps.append(adapter.features(only_heads_train(model, mode), inputs, ['logits', 'boxes', 'feats']).taps)
        with torch.no_grad():
            stock.append(model.bbox_head(tuple(taps[-1]['feats']))[:2])
    for tap in ('logits', 'boxes'):
        assert alike(taps[0][tap], taps[1][tap])
        assert all(level.std() > 1e-4 for level in taps[0][tap])
    assert alike(stock[0][0], stock[1][0]) and alike(stock[0][1], stock[1][1]) == (family not in CHANGING)


def test_the_boxes_of_vfnet_are_the_refined_ones():
    model = build(detector('vfnet'))
    data = model.data_preprocessor(batch(), True)
    taps = TapReader('student', model).loss(model, **data, taps=['feats', 'boxes']).taps
    _, first, refined = model.bbox_head(tuple(taps['feats']))
    for mine, theirs, other in zip(taps['boxes'], refined, first, strict=True):
        assert torch.equal(mine, theirs) and not torch.equal(mine, other)


def test_guided_anchors_are_refused():
    """In eval mode their maps are zero wherever the head expects no object."""
    distiller = dict(type='MutualLearning', roles=['student', 'teacher'])
    with pytest.raises(ConfigError, match=r'GARetinaHead has no tap `logits`.*not TOODHead and guided anchors'):
        distillation('guided', distillers=[distiller])
