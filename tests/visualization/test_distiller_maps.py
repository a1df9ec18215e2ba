"""What distillers see of one image: maps by hand, without padding, and without a trace in the model."""

import pytest
import small_detectors
import small_segmentors
import torch
import torch.nn.functional as F
from small_trainings import same

from mmadm.visualization.distiller_maps import avatar_variances, similarity_maps

AVATARS = dict(num=3, perturbation=dict(type='Dropout', p=0.3))
LOGITS = dict(type='Transfer', source='teacher', learner='student', loss=dict(type='KLDivergence'), avatars=AVATARS)


def item_of(batch, index=0):
    return {key: values[index] for key, values in batch.items()}


@pytest.fixture(scope='module')
def model():
    """Two taps with connectors, two teachers, one of which does without a connector, and avatars."""
    roles = dict(
        student=small_segmentors.segmentor(4),
        teacher=small_segmentors.segmentor(8),
        second=small_segmentors.segmentor(4),
    )
    adm = dict(type='ADM', teacher=['teacher', 'second'], at=['backbone.layer3', 'backbone.layer4'], tau=0.5)
    return small_segmentors.distillation(roles=roles, distillers=[dict(adm, avatars=AVATARS), LOGITS])


def test_every_pair_tap_and_level_has_its_maps(model):
    item = item_of(small_segmentors.batch())
    found = {maps.name: maps for maps in similarity_maps(model, item)}
    pairs = [('student', 'teacher'), ('student', 'second')]
    assert list(found) == [f'adm_backbone_layer{n}_{s}_{t}' for n in (3, 4) for s, t in pairs]
    maps = found['adm_backbone_layer4_student_teacher']
    assert (maps.student, maps.teacher) == ('student', 'teacher')
    image = (item['inputs'].flip(0).float()[None] - 120) / 58
    model.eval()
    with torch.no_grad():
        student, teacher = (model.roles[role].backbone(image)[-1] for role in ('student', 'teacher'))
        student = model.connectors['adm']['backbone_layer4_student_teacher'](student)
    model.train()
    expected = F.cosine_similarity(student, teacher, dim=1)
    torch.testing.assert_close(maps.similarity, expected)
    for weights, sign in ((maps.consensus, 1), (maps.divergence, -1)):
        torch.testing.assert_close(weights.flatten(1), (sign * expected / 0.5).flatten(1).softmax(1) * expected.numel())


def test_the_model_and_the_generators_stay_as_they_were(model):
    item = item_of(small_segmentors.batch())
    model.roles['student'].backbone.layer1.eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    modes, pixels, draws = [part.training for part in model.modules()], item['inputs'].clone(), torch.get_rng_state()
    similarity_maps(model, item)
    avatar_variances(model, item)
    assert same(model.state_dict(), before)
    assert [part.training for part in model.modules()] == modes and True in modes and False in modes
    assert torch.equal(item['inputs'], pixels) and torch.equal(torch.get_rng_state(), draws)
    assert 'gt_sem_seg' in item['data_samples']
    model.train()


def test_avatars_of_every_distiller_differ_where_the_teachers_map_is_large(model):
    item = item_of(small_segmentors.batch(size=(256, 256)))
    found = avatar_variances(model, item)
    assert {name: len(maps) for name, maps in found.items()} == {'adm': 4, 'transfer': 1}
    (logits,) = found['transfer'].values()
    image = (item['inputs'].flip(0).float()[None] - 120) / 58
    with torch.no_grad():
        energy = model.roles['teacher'].eval()(image, mode='tensor').square().mean(dim=1)
    model.train()
    assert logits.shape == energy.shape
    # an element of size x varies by x^2 p / (1 - p); over three avatars the mean of it is 2 / 3 of that
    assert (logits / energy).mean().item() == pytest.approx(2 / 3 * 0.3 / 0.7, rel=0.1)
    torch.rand(1)
    assert torch.equal(logits, *avatar_variances(model, item)['transfer'].values())


def test_padding_of_a_detector_is_cut_off_on_every_level():
    logits = dict(LOGITS, loss=dict(type='mmdet.MSELoss'))
    model = small_detectors.distillation(distillers=[dict(type='ADM', at='feats'), logits])
    item = item_of(small_detectors.batch(size=(70, 100)))  # padded to 96 x 128
    maps = similarity_maps(model, item)
    assert [m.name for m in maps] == [f'adm_feats_{level}' for level in range(5)]
    sizes = [(9, 13), (5, 7), (3, 4), (2, 2), (1, 1)]
    assert [tuple(m.similarity.shape) for m in maps] == [(1, *size) for size in sizes]
    assert all(m.consensus.mean().item() == pytest.approx(1) for m in maps)
    model.eval()
    with torch.no_grad():
        images = [
            model.roles[role].data_preprocessor(dict(inputs=[item['inputs']], data_samples=[item['data_samples']]))
            for role in ('student', 'teacher')
        ]
        pair = [
            model.roles[r].extract_feat(i['inputs'])[0] for r, i in zip(('student', 'teacher'), images, strict=True)
        ]
    torch.testing.assert_close(maps[0].similarity, F.cosine_similarity(*pair, dim=1)[:, :9, :13])
    # the nine priors of a position are one map
    variances = avatar_variances(model, item)['transfer']
    assert [tuple(v.shape) for v in variances.values()] == [(1, *size) for size in sizes]


def test_scores_of_regions_have_no_map():
    logits = dict(LOGITS, loss=dict(type='mmdet.MSELoss'))
    model = small_detectors.distillation('faster', distillers=[dict(type='ADM', at='feats[0]'), logits])
    item = item_of(small_detectors.batch())
    assert avatar_variances(model, item) == {'transfer': {}}
    assert [maps.name for maps in similarity_maps(model, item)] == ['adm_feats_0']
