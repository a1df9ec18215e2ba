"""Two-stage detectors: both roles score the regions that the learner sampled."""

from __future__ import annotations

import pytest
import torch
from mmdet.structures.bbox import bbox2roi
from mmengine.config import ConfigDict
from small_detectors import CLASSES, batch, build, detector, distillation
from tap_reader import TapReader

from mmadm.functional import kl_divergence
from mmadm.structures import Tap
from mmadm.utils.config import role_model_cfg, without_pretrained
from mmadm.utils.errors import ConfigError

ADM = dict(type='ADM', at='feats')
MUTUAL = dict(type='MutualLearning', roles=['student', 'teacher'])
KD = dict(type='Transfer', source='teacher', learner='student', loss=dict(type='KLDivergence'))
FAMILIES = ('faster', 'mask', 'cascade')


def stock(cfg):
    """Build a stock detector as a Runner does, which passes attributes of its config on."""
    return build(ConfigDict(cfg))


@pytest.fixture(scope='module', params=FAMILIES)
def family(request) -> str:
    return request.param


@pytest.fixture(scope='module')
def model(family):
    return stock(detector(family))


def preprocessed(model, masks=True, **kwargs):
    return model.data_preprocessor(batch(masks=masks, **kwargs), True)


def last_head(roi_head):
    return roi_head.bbox_head[-1] if isinstance(roi_head.bbox_head, torch.nn.ModuleList) else roi_head.bbox_head


def score(model, levels, rois):
    """What a head predicts on given regions, by stock parts; for a cascade the mean over its stages."""
    head = model.roi_head
    if not hasattr(head, 'num_stages'):
        return head._bbox_forward(levels, rois)['cls_score']
    scores = []
    for stage in range(head.num_stages):
        found = head._bbox_forward(stage, levels, rois)
        scores.append(found['cls_score'])
        label = found['cls_score'][:, :-1].argmax(1)
        refined = []
        for index, sample in enumerate(preprocessed(model)['data_samples']):
            mine = rois[:, 0] == index
            refined.append(
                head.bbox_head[stage].regress_by_class(
                    rois[mine, 1:], label[mine], found['bbox_pred'][mine], sample.metainfo
                )
            )
        rois = bbox2roi(refined)
    return torch.stack(scores).mean(0)


@pytest.fixture(scope='module')
def rois() -> torch.Tensor:
    """Regions of two images, unequally many."""
    return torch.tensor([[0, 0, 0, 40, 50], [0, 20, 10, 90, 90], [0, 60, 5, 120, 70], [1, 5, 5, 60, 60]]).float()


def test_the_learner_taps_what_its_own_loss_sees(model):
    model.train()
    seen = []
    handle = last_head(model.roi_head).loss_cls.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    output = TapReader('student', model).loss(model, **preprocessed(model), taps=['logits', 'boxes', 'feats'])
    handle.remove()
    (logits,), (boxes,) = output.taps['logits'], output.taps['boxes']
    assert logits.shape == (48, CLASSES + 1) and torch.equal(logits, seen[0])  # 24 regions of each image
    assert output.rois.shape == (48, 5) and sorted(set(output.rois[:, 0].tolist())) == [0, 1]
    arguments = (2,) if hasattr(model.roi_head, 'num_stages') else ()
    stock = model.roi_head._bbox_forward(*arguments, tuple(output.taps['feats']), output.rois)
    assert torch.equal(logits, stock['cls_score']) and torch.equal(boxes, stock['bbox_pred'])
    assert not output.by_sigmoid


def test_a_role_scores_given_regions_from_its_own_neck(family, model, rois):
    """Trainable or frozen, and for a cascade by what it predicts: the mean over its stages."""
    adapter = TapReader('teacher', model)
    done = preprocessed(model)
    with torch.no_grad():
        levels = model.eval().extract_feat(done['inputs'])
        expected = score(model, levels, rois)
    model.train()
    trained = adapter.loss(model, **done, taps=['logits'])
    mine = [trained.on_rois(rois, 'logits')]
    bare = [type(sample)(metainfo=sample.metainfo) for sample in done['data_samples']]
    frozen = adapter.features(model.eval(), done['inputs'], ['logits'], bare)
    mine.append(frozen.on_rois(rois, 'logits'))
    for scores in mine:
        torch.testing.assert_close(scores, expected)
        assert not scores.requires_grad
    assert expected.shape == (4, CLASSES + 1) and expected.std(0).min() > 0
    stage = (2,) if family == 'cascade' else ()
    with torch.no_grad():
        boxes = model.roi_head._bbox_forward(*stage, levels, rois)['bbox_pred']
    torch.testing.assert_close(frozen.on_rois(rois, 'boxes'), boxes)
    probed = adapter.probe(model, 64, ['logits[0]', 'boxes']).taps
    assert probed['logits[0]'][0].shape == (1, CLASSES + 1) and probed['boxes'][0].shape[1] % 4 == 0
    # no region, in one image or in both
    alone = frozen.on_rois(rois[3:], 'logits')
    torch.testing.assert_close(alone, expected[3:])
    assert frozen.on_rois(rois[:0], 'logits').shape == (0, CLASSES + 1)


@pytest.mark.parametrize('teacher', ['faster', 'cascade'])
def test_roles_exchange_their_regions_not_their_necks(teacher):
    model = distillation(roles=dict(student=detector('faster'), teacher=detector(teacher, 8)), distillers=[MUTUAL])
    done = model.data_preprocessor(batch(), True)
    calls: dict[str, list] = {name: [] for name in model.roles}
    necks = {}
    for name, role in model.roles.items():
        last = role.roi_head.bbox_roi_extractor
        last = last[-1] if isinstance(last, torch.nn.ModuleList) else last
        last.register_forward_pre_hook(lambda _, args, name=name: calls[name].append(args))
        role.neck.register_forward_hook(lambda *args, name=name: necks.update({name: args[2]}))
    losses = model(**done, mode='loss')
    student, peer = calls['student'], calls['teacher']
    assert len(student) == len(peer) == 2  # one's own regions, then the other's
    for name, (own, foreign) in dict(student=(student, peer), teacher=(peer, student)).items():
        for levels, _ in own:  # each role pools from its own neck
            assert all(torch.equal(level, mine) for level, mine in zip(levels, necks[name], strict=False))
        if teacher == 'faster':  # a cascade's last stage looks at refined regions
            assert torch.equal(foreign[1][1], own[0][1])
    assert not torch.equal(student[0][1], student[1][1])
    with torch.no_grad():
        mine = model.roles['student'].roi_head._bbox_forward(*student[0])['cls_score']
        theirs = score(model.roles['teacher'], necks['teacher'], student[0][1])
    assert losses['student.loss_mutual'].item() == pytest.approx(kl_divergence(mine, theirs).item(), rel=1e-4)
    assert losses['student.loss_mutual'] > 0


def test_scoring_leaves_statistics_and_modes_alone(rois):
    cfg = detector('faster')
    cfg['roi_head']['bbox_head'].update(
        type='ConvFCBBoxHead', num_shared_convs=2, num_shared_fcs=1, conv_out_channels=16, norm_cfg=dict(type='BN')
    )
    model = stock(cfg)
    output = TapReader('teacher', model).loss(model, **preprocessed(model), taps=['logits'])
    resting = next(m for m in model.roi_head.modules() if isinstance(m, torch.nn.BatchNorm2d))
    resting.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = {name: module.training for name, module in model.named_modules()}
    assert any('running_mean' in name for name in before if name.startswith('roi_head'))
    first = output.on_rois(rois, 'logits')
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert {name: module.training for name, module in model.named_modules()} == modes
    # running statistics, so a region's score does not depend on the others
    torch.testing.assert_close(output.on_rois(rois[:2], 'logits'), first[:2])


@pytest.mark.parametrize('at', ['backbone', 'feats', 'logits'])
def test_a_frozen_role_proposes_nothing_and_runs_no_further_than_its_taps(family, model, at):
    adapter = TapReader('teacher', model)
    done = preprocessed(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    seen = []
    handles = [m.register_forward_hook(lambda *_, name=name: seen.append(name)) for name, m in model.named_modules()]
    adapter.features(model.eval(), done['inputs'], [at], done['data_samples'])
    for handle in handles:
        handle.remove()
    assert 'backbone' in seen and ('neck' in seen) == (at != 'backbone')
    assert not [name for name in seen if name.startswith(('rpn_head', 'roi_head'))]
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_frozen_teacher_is_asked_once_for_the_regions_of_the_student():
    model = distillation('mask', distillers=[KD], frozen=['teacher'])
    teacher = model.roles['teacher']
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    seen = []
    for name, module in teacher.named_modules():
        module.register_forward_hook(lambda *_, name=name: seen.append(name))
    total, _ = model.parse_losses(model(**model.data_preprocessor(batch(masks=True), True), mode='loss'))
    total.backward()
    assert seen.count('roi_head.bbox_head') == seen.count('neck') == 1
    assert not [name for name in seen if name.startswith('rpn_head') or 'mask' in name or 'loss' in name]
    assert all(p.grad is None for p in teacher.parameters())
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())


@pytest.mark.parametrize('teacher', ['faster', 'cascade'])
def test_a_frozen_teacher_of_lower_precision_scores_nearly_the_same(teacher):
    def loss(**options):
        roles = dict(student=detector('faster'), teacher=detector(teacher, 8))
        model = distillation(roles=roles, distillers=[KD], frozen=['teacher'], **options)
        torch.manual_seed(0)
        return model(**preprocessed(model), mode='loss')['student.loss_transfer'].item()

    exact, lower = loss(), loss(teacher_dtype='bfloat16')
    assert exact != lower == pytest.approx(exact, rel=0.05)


@pytest.mark.parametrize('name', ['bfloat16', 'float32'])
@pytest.mark.parametrize('teacher', ['faster', 'cascade'])
def test_a_frozen_teacher_scores_regions_in_its_own_precision(teacher, name):
    roles = dict(student=detector('faster'), teacher=detector(teacher, 8))
    model = distillation(roles=roles, distillers=[KD, ADM], frozen=['teacher'], teacher_dtype=name)
    data = preprocessed(model)
    precisions = []
    for module in model.roles['teacher'].modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
            module.register_forward_hook(lambda *call: precisions.append(call[-1].dtype))
    logits, feats = Tap('teacher', 'logits'), Tap('teacher', 'feats')
    taps = {'student': [Tap('student', 'logits')], 'teacher': [logits, feats]}
    outputs = model._runner.run(data['inputs'], data['data_samples'], taps, 0)
    with torch.autocast('cpu', dtype=torch.bfloat16, enabled=name == 'float32'):  # float32 inside an AMP run
        model._runner._score_regions(outputs, [('student', logits)])
    wanted, teacher = getattr(torch, name), outputs['teacher']
    assert len(precisions) > 20 and set(precisions) == {wanted}
    # as every other tap of this teacher
    scores = teacher.regional['student', logits].levels
    assert len(scores[0]) == len(outputs['student'].rois) > 0
    assert {found.dtype for found in [*scores, *teacher.taps[feats].levels]} == {wanted}


@pytest.mark.parametrize('learner', ['faster', 'cascade'])
@pytest.mark.parametrize('teacher', ['faster', 'cascade'])
def test_a_batch_without_any_region_gives_a_loss_of_zero(learner, teacher):
    roles = dict(student=detector(learner), teacher=detector(teacher, 8))
    for cfg in roles.values():
        cfg['train_cfg']['rpn_proposal']['min_bbox_size'] = 1000
    model = distillation(roles=roles, distillers=[MUTUAL, dict(KD, avatars=dict(num=2))])
    losses = model(**model.data_preprocessor(batch(objects=0), True), mode='loss')
    total, logged = model.parse_losses(losses)
    assert logged['student.loss_mutual'] == logged['teacher.loss_mutual'] == logged['student.loss_transfer'] == 0
    total.backward()
    assert torch.isfinite(total)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


# ---- what cannot work is refused before training --------------------------------------------------------------------


def sparse_rcnn() -> dict:
    """Sparse R-CNN of one stage: its head is a cascade, but scores queries."""
    cfg = without_pretrained(role_model_cfg(dict(cfg='mmdet::sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco.py')))
    cfg['backbone'] = detector('faster')['backbone']
    cfg['neck'].update(in_channels=[4, 8, 16, 32], out_channels=32)
    cfg['rpn_head'].update(proposal_feature_channel=32)
    head = dict(cfg['roi_head']['bbox_head'][0], num_classes=CLASSES, in_channels=32, feedforward_channels=32)
    head['dynamic_conv_cfg'] = dict(head['dynamic_conv_cfg'], in_channels=32, feat_channels=16, out_channels=32)
    cfg['roi_head'].update(num_stages=1, stage_loss_weights=[1], proposal_feature_channel=32, bbox_head=[head])
    cfg['roi_head']['bbox_roi_extractor'].update(out_channels=32)
    cfg['train_cfg']['rcnn'] = cfg['train_cfg']['rcnn'][:1]
    return cfg


@pytest.mark.parametrize('at', ['logits', 'boxes'])
def test_a_head_with_queries_says_which_heads_score_regions(at):
    roles = dict(student=sparse_rcnn(), teacher=detector('faster'))
    with pytest.raises(ConfigError, match=f"'student': SparseRoIHead has no tap `{at}`: only StandardRoIHead and Casc"):
        distillation(roles=roles, distillers=[dict(KD, at=at)])
    distillation(roles=roles, distillers=[dict(ADM, at=dict(student='feats', teacher='feats[:4]'))])


@pytest.mark.parametrize(
    ('change', 'distiller', 'message'),
    [
        (dict(), dict(ADM, at='logits'), r"ADM.at: tap 'logits' of 'student' gives no maps .* of 2 dimensions"),
        (dict(classes=4), MUTUAL, "'student' predicts 4 classes and 'teacher' 5"),
        (dict(), dict(ADM, at='roi_head.bbox_head.shared_fcs.0'), 'modules inside roi_head see regions of their own'),
        (dict(family='retinanet'), MUTUAL, "'student' gives 1 levels, 'logits' of 'teacher' gives 5"),
    ],
    ids=['maps', 'classes', 'inside', 'dense'],
)
def test_roles_that_do_not_correspond_are_refused(change, distiller, message):
    roles = dict(student=detector('faster'), teacher=detector(**{'family': 'faster', **change}))
    with pytest.raises(ConfigError, match=message):
        distillation(roles=roles, distillers=[distiller])
