"""Shares and overlaps by class, of batches whose labels are known."""

import pytest
import small_detectors
import small_segmentors
import torch
from role_outputs import run_roles

from mmadm.bench.adm_batches import AdmBatch
from mmadm.bench.positions_by_class import _rows, markdown

NAMES = tuple(f'class{number}' for number in range(5))


def rows_of(helpers, model, data):
    outputs = run_roles(model, model.data_preprocessor(data, True))
    batch = AdmBatch(model.distillers['adm'], outputs, model.step_of('adm').connectors, NAMES[: helpers.CLASSES])
    return list(_rows(batch))


def test_uniform_weights_lie_on_each_class_as_often_as_positions_do():
    roles = dict(student=small_segmentors.segmentor(4), teacher=small_segmentors.segmentor(8))
    adm = dict(type='ADM', at='backbone.layer1', region='uniform')
    model = small_segmentors.distillation(roles=roles, distillers=[adm])
    data = small_segmentors.batch(1, ignored_rows=0)
    # a quarter of the image is class 1, the rest is class 3
    label = data['data_samples'][0].gt_sem_seg.data
    label.fill_(3)
    label[:, :16, :16] = 1
    rows = dict(rows_of(small_segmentors, model, data))
    assert set(rows) == {'class1', 'class3'}
    assert rows['class1'][:2] == pytest.approx([0.25, 1.0])
    assert rows['class3'][:2] == pytest.approx([0.75, 1.0])
    # p / (2 - p)
    assert rows['class1'][-1] == pytest.approx(0.25 / 1.75) and rows['class3'][-1] == pytest.approx(0.75 / 1.25)


def test_a_student_that_agrees_on_one_class_alone():
    """Equal networks agree everywhere but where the teacher's features are turned round."""
    roles = dict(student=small_segmentors.segmentor(4), teacher=small_segmentors.segmentor(4))
    adm = dict(type='ADM', at='backbone.layer1', tau=0.1)
    model = small_segmentors.distillation(roles=roles, distillers=[adm])
    model.roles['teacher'].load_state_dict(model.roles['student'].state_dict())
    model.roles['teacher'].backbone.layer1.register_forward_hook(turned_round)
    data = small_segmentors.batch(1, ignored_rows=0)
    label = data['data_samples'][0].gt_sem_seg.data
    label.fill_(3)
    label[:, :16, :16] = 1
    rows = dict(rows_of(small_segmentors, model, data))
    assert rows['class1'][1] == pytest.approx(4.0, rel=1e-3) and rows['class3'][1] == pytest.approx(0.0, abs=1e-3)
    assert rows['class1'][2] == 1.0


def turned_round(_module, _inputs, output):
    sign = -torch.ones_like(output)
    half = [side // 2 for side in output.shape[2:]]
    sign[:, :, : half[0], : half[1]] = 1
    return output * sign


def test_boxes_of_a_detector_have_their_class():
    model = small_detectors.distillation('retinanet', distillers=[dict(type='ADM', at='backbone.layer1')])
    data = small_detectors.batch(1, objects=1)
    (found,) = {name for name, _ in rows_of(small_detectors, model, data)}
    assert found == NAMES[data['data_samples'][0].gt_instances.labels.item()]


def test_a_table():
    assert markdown({'car': [0.1, 2.0, 0.3, 0.4, 0.5, 0.05]}).splitlines()[-1] == (
        '| car | 0.10 | 2.00 | 0.30 | 0.40 | 0.50 | 0.05 |'
    )
