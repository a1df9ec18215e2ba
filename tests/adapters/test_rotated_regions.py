"""Detectors of boxes with an angle, as MMRotate's are: their regions have a sixth number."""

from __future__ import annotations

import pytest
import torch
from mmengine.config import ConfigDict
from small_detectors import batch, build, detector, distillation
from tap_reader import TapReader

from mmadm.utils.errors import ConfigError

KD = dict(type='Transfer', source='teacher', learner='student', at='logits', loss=dict(type='KLDivergence'))


def rotated(family='faster', stages=(0,)):
    cfg = detector(family)
    roi = cfg['roi_head']
    extractors = [ConfigDict(roi['bbox_roi_extractor']) for _ in range(3 if family == 'cascade' else 1)]
    for stage in stages:
        extractors[stage] = ConfigDict(extractors[stage], roi_layer=dict(type='RoIAlignRotated', output_size=7))
    roi['bbox_roi_extractor'] = extractors if family == 'cascade' else extractors[0]
    return cfg


@pytest.mark.parametrize('at', ['logits', 'boxes'])
def test_given_regions_are_scored_with_their_angle(at):
    model = build(ConfigDict(rotated())).eval()
    rois = torch.tensor([[0, 40, 40, 30, 50, 0.7], [0, 60, 50, 70, 20, 0.0], [1, 50, 40, 60, 60, -0.3]])
    data = model.data_preprocessor(batch(), True)
    reader = TapReader('teacher', model)
    assert reader.probe(model, 128, [at]).rois.tolist() == [[0.0, 64.0, 64.0, 128.0, 128.0, 0.0]]
    with torch.no_grad():
        found = reader.features(model, data['inputs'], [at], data['data_samples'])
        expected = model.roi_head._bbox_forward(model.extract_feat(data['inputs']), rois)
    expected = expected['cls_score' if at == 'logits' else 'bbox_pred']
    torch.testing.assert_close(found.on_rois(rois, at), expected)
    turned = rois + torch.tensor([0, 0, 0, 0, 0, 0.5])
    assert not torch.allclose(found.on_rois(turned, at), expected)


def test_a_cascade_whose_stages_take_boxes_of_two_kinds_has_no_scores_of_given_ones():
    roles = dict(student=rotated('cascade', stages=(1, 2)), teacher=rotated('cascade', stages=(1, 2)))
    with pytest.raises(ConfigError, match=r'CascadeRoIHead has no tap `logits`.*if all stages take boxes of one kind'):
        distillation(roles=roles, distillers=[KD])
    assert distillation(roles=roles, distillers=[dict(KD, at='feats', loss=dict(type='ChannelWiseDivergence'))])
