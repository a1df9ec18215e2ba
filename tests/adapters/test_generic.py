"""Any model of mmengine is a role, and a user's own adapter counts before those of mmadm."""

from __future__ import annotations

from copy import deepcopy

import pytest
import small_segmentors
import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from tap_reader import TapReader
from torch import nn

from mmadm.adapters import Adapter, GenericAdapter, SegmentationAdapter, build_adapter
from mmadm.adapters.taps import Reading
from mmadm.registry import ADAPTERS
from mmadm.structures import Kind
from mmadm.utils.errors import ConfigError

PKD = dict(type='Transfer', source='teacher', learner='student', at='encoder', loss=dict(type='PearsonDistance'))


@pytest.fixture(scope='module', autouse=True)
def _registered():
    """A network of the user's own, which knows nothing of the toolboxes."""

    @MODELS.register_module(name='Regressor')
    class Regressor(BaseModel):
        def __init__(self, width=4, scale=1.0, **kwargs):
            super().__init__(kwargs.get('data_preprocessor'))
            self.scale = scale
            self.encoder = nn.Sequential(nn.Conv2d(3, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU())
            self.head = nn.Linear(width, 1)
            self.runs = []

        def extract_feat(self, images):
            self.runs.append('extract_feat')
            return self.encoder(images * self.scale)

        def forward(self, inputs, data_samples=None, mode='tensor'):
            self.runs.append(mode)
            found = self.head(self.extract_feat(inputs).mean(dim=(2, 3))).squeeze(1)
            if mode != 'loss':
                return found
            wanted = torch.stack([sample.target for sample in data_samples])
            return dict(loss_square=((found - wanted) ** 2).mean())

    yield Regressor
    MODELS._module_dict.pop('Regressor')


@pytest.fixture
def own_adapter():
    """Registers an adapter for the test."""
    before = dict(ADAPTERS.module_dict)
    yield ADAPTERS.register_module()
    ADAPTERS._module_dict.clear()
    ADAPTERS._module_dict.update(before)


def regressor(width=4, **kwargs):
    return dict(type='Regressor', width=width, data_preprocessor=dict(type='ImgDataPreprocessor'), **kwargs)


def batch():
    """Images as a data loader gives them, with a number to learn in each sample."""
    made = small_segmentors.batch(2)
    for index, sample in enumerate(made['data_samples']):
        sample.set_field(torch.tensor(float(index)), 'target', dtype=None)
    return made


def pair(distiller=PKD, **kwargs):
    roles = dict(student=regressor(), teacher=regressor(8))
    return small_segmentors.distillation(roles=roles, frozen=['teacher'], distillers=[distiller], **kwargs)


def test_a_network_of_ones_own_learns_by_its_own_loss_and_from_a_teacher():
    model = pair()
    before = deepcopy(model.state_dict())
    logs = model.train_step(batch(), small_segmentors.plain_optimiser(model))
    assert logs['student.loss'] == logs['student.loss_square'] + logs['student.loss_transfer']
    moved = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert {'roles.student.head.weight', 'roles.student.encoder.0.weight'} <= moved
    assert not [key for key in moved if key.startswith('roles.teacher')]
    stock = small_segmentors.build(regressor())
    stock.load_state_dict({k[14:]: v for k, v in before.items() if k.startswith('roles.student.')})
    alone = stock.train_step(batch(), small_segmentors.plain_optimiser(stock))
    assert torch.equal(alone['loss_square'], logs['student.loss_square'])


def test_a_frozen_network_runs_no_more_than_its_taps_need():
    model = pair()
    teacher = model.roles.teacher
    teacher.runs.clear()
    model.train_step(batch(), small_segmentors.plain_optimiser(model))
    assert teacher.runs == ['extract_feat']
    model = pair(dict(PKD, at='head', loss=dict(type='HintMSE')))
    model.roles.teacher.runs.clear()
    model.train_step(batch(), small_segmentors.plain_optimiser(model))
    assert model.roles.teacher.runs == ['tensor', 'extract_feat']


@pytest.mark.parametrize(('scale', 'way'), [(1.0, ['backbone']), (0.5, ['extract_feat'])])
def test_a_shorter_way_counts_only_if_it_gives_the_same(_registered, scale, way):
    """A network may scale its images before its backbone: that cannot be run alone."""

    class WithBackbone(_registered):
        def __init__(self):
            super().__init__(scale=scale)
            self.backbone, self.encoder = self.encoder, nn.Identity()

        def extract_feat(self, images):
            self.runs.append('extract_feat')
            return self.encoder(self.backbone(images * self.scale))

    model = WithBackbone().eval()
    model.backbone.register_forward_hook(lambda *_: model.runs.append('backbone'))
    reader = TapReader('student', model)
    reader.probe(model, 32, ['feats'])
    model.runs.clear()
    images = torch.rand(2, 3, 16, 16)
    (feats,) = reader.features(model, images, ['feats']).taps['feats']
    assert model.runs[0] == way[0] and len(model.runs) == (1 if scale == 1.0 else 2)
    assert torch.equal(feats, model.backbone(images * scale))


def test_taps_that_are_not_there_say_what_there_is():
    with pytest.raises(ConfigError, match='of a Regressor nobody says what its `logits` are; tap a module path'):
        pair(dict(PKD, at='logits'))
    with pytest.raises(ConfigError, match="'student' has no tap 'feats'; valid: 'data_preprocessor', 'encoder', "):
        pair(dict(PKD, at='feats'))
    with pytest.raises(ConfigError, match=r"no tap 'encoder\.9'; did you mean 'encoder.2'"):
        pair(dict(PKD, at='encoder.9'))


def test_a_loader_of_pairs_without_data_samples_does_too(_registered):
    """As in mmengine's own tutorial, with a data set of torchvision."""

    class Pairs(_registered):
        def forward(self, images, targets, mode):
            found = self.head(self.extract_feat(images).mean(dim=(2, 3))).squeeze(1)
            return dict(loss=((found - targets) ** 2).mean()) if mode == 'loss' else found

    MODELS.register_module(name='Pairs', module=Pairs)
    try:
        roles = dict(student=dict(type='Pairs'), teacher=dict(type='Pairs', width=8))
        model = small_segmentors.distillation(roles=roles, frozen=['teacher'], distillers=[PKD])
        images, targets = torch.rand(2, 3, 16, 16), torch.tensor([1.0, 2.0])
        stock = deepcopy(model.roles.student).train_step((images, targets), small_segmentors.plain_optimiser(model))
        logs = model.train_step((images, targets), small_segmentors.plain_optimiser(model))
    finally:
        MODELS._module_dict.pop('Pairs')
    assert logs['student.loss'] == logs['student.loss_transfer'] + stock['loss'] and logs['student.loss_transfer'] > 0


def test_a_network_that_takes_no_image_says_what_to_do(_registered):
    class Points(_registered):
        def forward(self, inputs, data_samples=None, mode='tensor'):
            return self.encoder(inputs['points'])

    with pytest.raises(ConfigError, match=r'no blank image goes through Points up to encoder.*or tap another module'):
        TapReader('student', Points().eval()).probe(Points(), 32, ['encoder'])


def test_what_is_no_model_of_mmengine_is_no_role():
    with pytest.raises(ConfigError, match=r'roles\.student: Linear is no mmengine\.model\.BaseModel, and no adapter'):
        build_adapter('student', nn.Linear(1, 1))


# ---- adapters of one's own ------------------------------------------------------------------------------------------


def test_an_own_adapter_counts_before_those_of_mmadm(own_adapter):
    model = small_segmentors.build(small_segmentors.segmentor())
    assert type(build_adapter('student', model)) is SegmentationAdapter

    class Mine(SegmentationAdapter):
        priority = Adapter.priority

    class Later(Mine):
        pass

    class Unfit(Mine):
        priority = 9

        @classmethod
        def fits(cls, model):
            return False

    for kind in (Mine, Later, Unfit):
        own_adapter(kind)
    assert type(build_adapter('student', model)) is Later


def test_an_own_adapter_names_class_scores(own_adapter, _registered):
    @own_adapter
    class ScoresOfRegressor(GenericAdapter):
        priority = 1

        def __init__(self, name, model):
            super().__init__(name, model, dict(logits=Reading(('head',), kind=Kind.SIGMOID_SCORES)))

        @classmethod
        def fits(cls, model):
            return isinstance(model, _registered)

    model = pair(dict(type='MutualLearning', roles=['student', 'teacher']))
    data = model.data_preprocessor(batch(), True)
    losses = model(**data, mode='loss')
    with torch.no_grad():
        scores = [role(data['inputs'][name]) for name, role in model.train().roles.items()]
    p, q = (torch.sigmoid(score) for score in scores)
    divergence = q * (q / p).log() + (1 - q) * ((1 - q) / (1 - p)).log()
    torch.testing.assert_close(losses['student.loss_mutual'], divergence.mean())
