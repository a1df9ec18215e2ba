"""TokenTraining: the frozen teacher's own loss trains the tokens, nothing else moves, and the file can be read."""

from __future__ import annotations

import pytest
import small_detectors
import small_segmentors
import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner.checkpoint import save_checkpoint

from mmadm.cli import export
from mmadm.functional import masked_distance, receptive_masks
from mmadm.losses import MaskedTokens
from mmadm.utils.checkpoint import read_checkpoint
from mmadm.utils.errors import ConfigError


def training(teacher, scope='mmdet', seed=0, **kwargs):
    """Build ``mmadm.TokenTraining`` on a teacher with random weights."""
    with DefaultScope.overwrite_default_scope(scope):
        torch.manual_seed(seed)
        model = MODELS.build(dict(type='mmadm.TokenTraining', roles=dict(teacher=teacher), **kwargs))
        model.init_weights()
    return model.train()


def transparent(model):
    """Two tokens of zeros: two masks of one half each, so that the features stay as they are."""
    with torch.no_grad():
        for level in model.tokens.parameters():
            level.zero_()
    return model


@pytest.fixture(params=['detector', 'segmentor'])
def case(request):
    """A token training and its batch; both teachers have BatchNorm, the segmentor dropout too."""
    if request.param == 'detector':
        teacher = small_detectors.detector('fcos_norm')
        teacher['backbone']['norm_eval'] = False
        return training(teacher), small_detectors.batch(2)
    return training(small_segmentors.segmentor(8, dropout=0.5), 'mmseg', at='backbone.layer4'), small_segmentors.batch(
        2
    )


def test_tokens_learn_and_the_teacher_stays(case):
    model, batch = case
    teacher = {key: value.clone() for key, value in model.teacher.state_dict().items()}
    tokens = [level.clone() for level in model.tokens.parameters()]
    optimiser = small_segmentors.plain_optimiser(model.tokens, lr=0.5, momentum=0)
    for _ in range(2):
        model.train_step(batch, optimiser)
    assert not any(torch.equal(a, b) for a, b in zip(tokens, model.tokens.parameters(), strict=True))
    after = model.teacher.state_dict()
    assert all(torch.equal(after[key], value) for key, value in teacher.items())
    assert not any(p.requires_grad for p in model.teacher.parameters())
    assert {key.partition('.')[0] for key in model.state_dict()} == {'roles', 'tokens'}


def test_task_loss_and_similarity_both_reach_the_tokens(case):
    model, batch = case
    losses = model(**model.data_preprocessor(batch, True), mode='loss')
    tokens = list(model.tokens.parameters())
    for name in ('loss_similarity', 'loss_cls' if 'loss_cls' in losses else 'decode.loss_ce'):
        gradients = torch.autograd.grad(losses[name], tokens, retain_graph=True, allow_unused=True)
        assert any(g is not None and g.abs().sum() > 0 for g in gradients), name


@pytest.mark.parametrize('family', ['retinanet', 'fcos_norm', 'reppoints', 'faster'])
def test_transparent_tokens_give_the_losses_of_the_stock_training(family):
    # heads that put out something else in eval (FCOS with normalised boxes, RepPoints) would give other losses
    model = transparent(training(small_detectors.detector(family), tokens=2))
    stock = small_detectors.build(ConfigDict(small_detectors.detector(family)))
    stock.load_state_dict(model.teacher.state_dict())
    torch.manual_seed(0)  # two-stage heads sample regions
    mine = model(**model.data_preprocessor(small_detectors.batch(2), True), mode='loss')
    torch.manual_seed(0)
    theirs = stock(**stock.data_preprocessor(small_detectors.batch(2), True), mode='loss')
    assert set(mine) == {*theirs, 'loss_similarity'}
    mine.pop('loss_similarity')
    torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize('at', ['backbone.conv1', 'backbone.layer1'])
def test_the_size_to_which_a_batch_is_padded_changes_nothing(at):
    """Near the images: deeper modules see where the padding ends. Zeros beside an image are what a convolution adds."""

    def similarity(divisor):
        teacher = small_detectors.detector('retinanet')
        teacher['data_preprocessor']['pad_size_divisor'] = divisor
        model = training(teacher, at=at)
        with torch.no_grad():
            for level in model.tokens.parameters():
                level.mul_(100)  # masks that differ by position
        losses = model(**model.data_preprocessor(small_detectors.batch(2), True), mode='loss')
        return losses['loss_similarity'].item()

    small = similarity(32)
    assert 0.1 < small < 0.95
    assert similarity(128) == pytest.approx(small, rel=1e-5 if at == 'backbone.conv1' else 0.01)


@pytest.mark.parametrize('divisor', [32, 128])
def test_so_does_the_loss_that_uses_them(tmp_path, divisor):
    """By hand, from the part of each map that is image."""
    torch.save({'0': torch.randn(3, 4, generator=torch.Generator().manual_seed(0))}, tmp_path / 'tokens.pth')
    loss = dict(type='MaskedTokens', tokens=str(tmp_path / 'tokens.pth'))
    distiller = dict(type='Transfer', source='teacher', learner='student', at='backbone.conv1', loss=loss)
    roles = {name: small_detectors.detector('retinanet') for name in ('student', 'teacher')}
    for cfg in roles.values():
        cfg['data_preprocessor']['pad_size_divisor'] = divisor
    model = small_detectors.distillation(roles=roles, distillers=[distiller], frozen=['teacher'])
    data = model.data_preprocessor(small_detectors.batch(2), True)
    expected = []
    for image, sample in enumerate(data['data_samples']['student']):
        rows, columns = (-(-side // 2) for side in sample.img_shape)
        maps = [role.backbone.conv1(data['inputs']['student'][[image]]) for role in model.roles.values()]
        student, teacher = (found[:, :, :rows, :columns] for found in maps)
        masks = receptive_masks(model.distillers.transfer.loss.get_buffer('level0'), teacher)
        expected.append(masked_distance(student, teacher, masks))
    losses = model(**data, mode='loss')
    torch.testing.assert_close(losses['student.loss_transfer'], torch.stack(expected).mean())


def test_validation_predicts_from_masked_features():
    model = transparent(
        training(small_segmentors.segmentor(8, dropout=0.5), 'mmseg', at='backbone.layer4', tokens=2)
    ).eval()
    with torch.no_grad():
        plain = model.teacher.val_step(small_segmentors.batch(2))[0].seg_logits.data
        assert torch.equal(model.val_step(small_segmentors.batch(2))[0].seg_logits.data, plain)
        next(model.tokens.parameters()).fill_(-1.0)
        assert not torch.equal(model.val_step(small_segmentors.batch(2))[0].seg_logits.data, plain)


def test_the_loss_falls():
    model, batch = training(small_detectors.detector('retinanet', 8)), small_detectors.batch(2)
    optimiser = small_segmentors.OptimWrapper(torch.optim.Adam(model.tokens.parameters(), lr=0.1))
    logs = [{key: float(value) for key, value in model.train_step(batch, optimiser).items()} for _ in range(15)]
    assert logs[-1]['loss'] < logs[0]['loss'] - 0.1
    assert logs[-1]['loss_similarity'] < logs[0]['loss_similarity'] - 0.05


def test_the_exported_file_is_what_masked_tokens_reads(tmp_path, capsys):
    model = training(small_detectors.detector('retinanet'), tokens=3)
    save_checkpoint(dict(meta={}, state_dict=model.state_dict()), str(tmp_path / 'iter_2.pth'))
    export.main([str(tmp_path / 'iter_2.pth'), '--tokens', str(tmp_path / 'tokens.pth')])
    assert 'tokens of 5 levels' in capsys.readouterr().out
    loss = MaskedTokens(str(tmp_path / 'tokens.pth'))
    assert loss.levels == 5
    for level, tokens in enumerate(model.tokens.parameters()):
        assert torch.equal(loss.get_buffer(f'level{level}'), tokens)


def test_export_refuses_what_is_no_token_training(tmp_path, capsys):
    path = tmp_path / 'iter_2.pth'
    save_checkpoint(
        dict(meta={}, state_dict=small_segmentors.build(small_segmentors.segmentor()).state_dict()), str(path)
    )
    for arguments, message in [
        (['--tokens', str(tmp_path / 'tokens.pth')], 'iter_2.pth holds no tokens'),
        (['--tokens', str(path)], 'is the input'),
        (['--tokens', 'a.pth', '--role', 'teacher'], '--tokens stands alone'),
        (['--role', 'teacher'], 'give --role with --out or --onnx, or --tokens'),
    ]:
        with pytest.raises(SystemExit):
            export.main([str(path), *arguments])
        assert message in capsys.readouterr().err
    assert 'state_dict' in read_checkpoint(path) and not (tmp_path / 'tokens.pth').exists()


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(at='logits'), r"model.at='logits'.*name `feats` or a module path"),
        (dict(at='feats[1]'), r"model.at='feats\[1\]'"),
        (dict(at='nekc'), r"no tap 'nekc'.*did you mean 'neck'"),
        (dict(at='roi_head.bbox_head.fc_cls'), r'roi_head'),
    ],
)
def test_a_place_that_cannot_be_masked_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        training(small_detectors.detector('faster'), **options)


def test_tokens_belong_to_one_teacher():
    roles = dict(a=small_segmentors.segmentor(), b=small_segmentors.segmentor())
    with pytest.raises(ConfigError, match=r"model.roles=\['a', 'b'\].*one role"):
        MODELS.build(dict(type='mmadm.TokenTraining', roles=roles))
