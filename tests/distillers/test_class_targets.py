"""The truth at the positions of class scores, and what KDCL and SwitOKD make of it, with sigmoids and softmax."""

from math import log

import pytest
import small_detectors
import torch
import torch.nn.functional as F
from role_outputs import as_facts, logged, role_outputs
from small_segmentors import batch, build, segmentor
from tap_reader import TapReader

from mmadm.distillers import KDCL, SwitOKD
from mmadm.distillers.class_targets import class_targets
from mmadm.distillers.grids import Grid
from mmadm.modules import resize_like
from mmadm.structures import BatchArea, GroundTruth, Kind, RoleOutput, Step

ROLES = ('student', 'teacher')
LABELS = torch.tensor([[[0, 2], [255, 1]]])
#: In an image of 16 x 16: a large box of class 1, in it a small one of class 0; the second image is empty
BOXES = GroundTruth(
    boxes=[torch.tensor([[0.0, 0.0, 16.0, 8.0], [8.0, 0.0, 16.0, 8.0]]), torch.zeros(0, 4)],
    box_labels=[torch.tensor([1, 0]), torch.zeros(0, dtype=torch.long)],
)


def targets(truth, scores, kind, padded):
    """Truth of a role of unpadded images at maps (N * A, K, h, w)."""
    stride = (padded[0] / scores.shape[2], padded[1] / scores.shape[3]) if scores.dim() == 4 else None
    area = BatchArea(padded, (padded,) * 2)
    return class_targets(RoleOutput(truth=truth, area=area), Grid(scores, stride, area), kind)


def test_a_sigmoid_segmentor_has_one_true_class_at_labelled_pixels():
    expected = torch.tensor([[[[1, 0], [0, 0]], [[0, 0], [0, 1]], [[0, 1], [0, 0]]]]).bool()
    found = [targets(GroundTruth(LABELS), torch.zeros(1, k, 2, 2), Kind.SIGMOID_SCORES, (2, 2)) for k in (3, 1)]
    assert torch.equal(found[0], expected)
    assert found[1].tolist() == [[[[False, False], [False, True]]]]


def test_a_softmax_segmentor_has_class_ids():
    wide = GroundTruth(LABELS.repeat_interleave(2, dim=2))
    assert torch.equal(targets(wide, torch.zeros(1, 3, 2, 2), Kind.SOFTMAX_SCORES, (2, 4)), LABELS)


@pytest.mark.parametrize('channels', [1, 2])
def test_the_truth_of_a_sigmoid_segmentor_is_that_of_the_stock_loss(channels):
    cfg = segmentor(4, classes=2)
    cfg['decode_head'].update(out_channels=channels, loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=True))
    model = build(cfg)
    data = model.data_preprocessor(batch(classes=2), True)
    read = TapReader('student', model).loss(model, **data, taps=['logits'])
    output = read.output
    logits = resize_like(read.taps['logits'][0], output.truth.labels.unsqueeze(1))
    assert logits.shape[1] == channels and read.by_sigmoid
    truth = class_targets(output, Grid(logits, (1.0, 1.0), output.area), Kind.SIGMOID_SCORES)
    entropy = F.binary_cross_entropy_with_logits(logits, truth.float(), reduction='none')
    expected = (entropy * (output.truth.labels != 255).unsqueeze(1)).mean()
    assert output.losses['decode.loss_ce'].item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_sigmoid_detector_has_every_class_of_the_boxes_at_a_location():
    found = targets(BOXES, torch.zeros(4, 2, 2, 2), Kind.SIGMOID_SCORES, (16, 16))  # two priors
    expected = torch.tensor([[[0, 1], [0, 0]], [[1, 1], [0, 0]]]).bool()
    assert torch.equal(found, torch.stack([expected, expected, *torch.zeros(2, 2, 2, 2).bool()]))
    assert targets(BOXES, torch.zeros(5, 2), Kind.SIGMOID_SCORES, (16, 16)) is None


def test_a_softmax_detector_has_the_class_of_the_smallest_box_or_background():
    found = targets(BOXES, torch.zeros(4, 3, 2, 2), Kind.SOFTMAX_SCORES, (16, 16))
    inside, outside = [[1, 0], [2, 2]], [[2, 2], [2, 2]]
    assert found.tolist() == [inside, inside, outside, outside]


# ---- what the distillers make of it ---------------------------------------------------------------------------------


def roles(student, teacher, sigmoid=False, labels=None, boxes=None):
    """Outputs of two roles with logits (1, K, 1, w) given as a list of channels."""
    taps = {
        role: dict(logits=[torch.tensor(z)[None, :, None]]) for role, z in zip(ROLES, (student, teacher), strict=True)
    }
    if boxes is not None:
        return role_outputs(taps, boxes, BatchArea((8, 16), ((8, 16),)), sigmoid)
    return role_outputs(taps, GroundTruth(labels), sigmoid=sigmoid)


def computed(distiller, found):
    assert not distiller.bind(as_facts(found), ROLES)
    return {key: value.item() for key, value in logged(distiller(found, Step())).items()}


#: One box of the only class covers the left of two cells; the second channel of a softmax is background
LEFT = GroundTruth(boxes=[torch.tensor([[0.0, 0.0, 8.0, 8.0]])], box_labels=[torch.tensor([0])])
THIRD = log(3.0)  # logit of a probability of 3/4
#: Bernoulli (or two-class) divergences of 3/4 from 1/2 and of 1/2 from 3/4
FROM_HALF = 0.75 * log(1.5) + 0.25 * log(0.5)
TO_HALF = 0.5 * log(2 / 3) + 0.5 * log(2.0)


@pytest.mark.parametrize('ensemble', ['naive', 'minlogit'])
@pytest.mark.parametrize(
    ('found', 'positions'),
    [
        # the teacher is right on the true class 0, the student on the absent class 1
        (roles([[0.0], [0.0]], [[THIRD], [THIRD]], labels=torch.tensor([[[0]]]), sigmoid=True), 1),
        # one channel: the teacher is right where class 1 is, the student elsewhere; the third pixel is ignored
        (roles([[0.0, 0.0, 9.0]], [[THIRD, THIRD, -9.0]], labels=torch.tensor([[[1, 0, 255]]]), sigmoid=True), 2),
        # the teacher is right in the box, the student on the background
        (roles([[0.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [-THIRD, -THIRD]], boxes=LEFT), 2),
    ],
    ids=['sigmoids', 'one-channel', 'softmax-detector'],
)
def test_kdcl_takes_the_better_half_of_each_role(ensemble, found, positions):
    losses = computed(KDCL(ROLES, ensemble, tau=1.0), found)
    assert losses['student.loss_kdcl'] == pytest.approx(FROM_HALF / positions, rel=1e-5)
    assert losses['teacher.loss_kdcl'] == pytest.approx(TO_HALF / positions, rel=1e-5)


@pytest.mark.parametrize(
    'found',
    [
        roles([[-THIRD, THIRD], [-1e3] * 2], [[THIRD, 0.0], [-1e3] * 2], labels=torch.tensor([[[0, 0]]]), sigmoid=True),
        roles([[-THIRD, THIRD, 0.0]], [[THIRD, 0.0, -9.0]], labels=torch.tensor([[[1, 1, 255]]]), sigmoid=True),
        roles([[0.0, 0.0], [THIRD, THIRD]], [[THIRD, 0.0], [0.0, 0.0]], boxes=LEFT),
    ],
    ids=['sigmoids', 'one-channel', 'softmax-detector'],
)
def test_the_teacher_pauses_by_the_probabilities_of_its_head(found):
    """Probability of the truth: student 1/4 and 3/4, teacher 3/4 and 1/2. With a softmax all distances are twice these.

    So G = 0.375, s = 0.5, t = 0.375, delta = 0.5 - exp(-3/7) * 0.375 = 0.256 < G, and t < s.
    """
    assert computed(SwitOKD(), found)['teacher.expert'] == 1


def test_a_stock_softmax_detector_is_right_where_it_sees_background():
    cfgs = {role: small_detectors.detector('retinanet') for role in ROLES}
    for cfg in cfgs.values():
        cfg['bbox_head']['loss_cls'] = dict(type='CrossEntropyLoss', use_sigmoid=False)
    distillers = [dict(type='KDCL', roles=ROLES, tau=1.0), dict(type='SwitOKD')]
    model = small_detectors.distillation(roles=cfgs, distillers=distillers)
    with torch.no_grad():  # of three classes and background the teacher sees the latter, the student the third class
        for role, bias in zip(ROLES, ([-9.0, -9.0, 0.0, -2.0], [-9.0, 0.0, -9.0, 2.0]), strict=True):
            classifier = model.roles[role].bbox_head.retina_cls
            classifier.weight.mul_(1e-3)
            classifier.bias.copy_(torch.tensor(bias).repeat(9))
    losses = model(**model.data_preprocessor(small_detectors.batch(objects=0), True), mode='loss')
    assert losses['teacher.expert'] == 1
    # the ensemble is the teacher everywhere
    assert losses['student.loss_kdcl'].item() == pytest.approx(losses['student.loss_switokd'].item(), rel=1e-6)
