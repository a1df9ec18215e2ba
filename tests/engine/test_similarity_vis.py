"""The hook that draws what ADM sees: the right pictures, and a training that is the same to the bit."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest
import torch
import torch.nn.functional as F
from mmengine.hooks import Hook
from small_trainings import losses_of, role_config, runner_of, same, stock_config, weights_of, write_images

from mmadm.engine.generators import snapshot
from mmadm.engine.hooks import SimilarityVisHook, similarity_vis
from mmadm.utils.errors import ConfigError
from mmadm.visualization.overlay import SCALES, heat_overlay, rgb_image

ITERATIONS = 4
HOOK = dict(type='mmadm.SimilarityVisHook', interval=2, images=2)


class Witness(Hook):
    """Notes what every iteration starts with and leaves; one normalisation is in eval, as a frozen stage would be."""

    priority = 'LOWEST'

    def __init__(self):
        self.starts, self.ends = [], []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        runner.model.roles['student'].backbone.bn1.eval()
        self.starts.append((snapshot(), data_batch['inputs']))

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        modes = [part.training for part in runner.model.modules()]
        self.ends.append((modes, [parameter.requires_grad for parameter in runner.model.parameters()]))


def config(data: Path, *hooks: dict):
    """A training whose validation images are drawn at random, and read in the process that trains."""
    cfg = role_config(data, ITERATIONS, val_interval=ITERATIONS + 1, save_interval=ITERATIONS)
    cfg.val_dataloader.dataset.pipeline.insert(2, dict(type='RandomFlip', prob=0.5))
    cfg.val_dataloader.dataset.pipeline.insert(3, dict(type='PhotoMetricDistortion'))
    cfg.custom_hooks = list(hooks)
    return cfg


def pictures(work_dir: Path) -> dict[str, Path]:
    return {path.name: path for path in work_dir.glob('*/vis_data/vis_image/*.png')}


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('similarity')
    write_images(folder / 'data')
    return folder


@pytest.fixture(scope='module')
def runs(folder):
    """The same training without and with the hook: the runner and what its iterations were like."""
    found = {}
    for name, hooks in (('without', []), ('with', [HOOK])):
        runner = runner_of(config(folder / 'data', *hooks), folder / name)
        witness = Witness()
        runner.register_hook(witness)
        runner.train()
        found[name] = runner, witness
    return found


def test_the_training_is_the_same_to_the_bit(folder, runs):
    saved = [weights_of(folder / name / f'iter_{ITERATIONS}.pth') for name in ('without', 'with')]
    assert same(*saved)
    assert any('running_mean' in key for key in saved[0])
    assert losses_of(folder / 'without') == losses_of(folder / 'with') and len(losses_of(folder / 'with')) == ITERATIONS
    assert pictures(folder / 'with') and not pictures(folder / 'without')
    one, other = (witness for _, witness in runs.values())
    assert one.ends == other.ends and {True, False} == {mode for modes, _ in one.ends for mode in modes}
    for (state, images), (other_state, other_images) in zip(one.starts, other.starts, strict=True):
        assert torch.equal(state.pop('torch'), other_state.pop('torch')) and state == other_state
        assert all(torch.equal(*pair) for pair in zip(images, other_images, strict=True))


def test_every_kind_is_drawn_for_every_image_at_every_interval(folder, runs):
    assert set(pictures(folder / 'with')) == {
        f'adm_backbone_layer4_{kind}_{image}_{step}.png' for kind in SCALES for image in (0, 1) for step in (2, 4)
    }


def test_pictures_show_the_network_of_their_step_on_a_fixed_image(folder, runs):
    runner = runs['with'][0]
    (hook,) = [hook for hook in runner.hooks if isinstance(hook, SimilarityVisHook)]
    item = hook._items[1]
    assert item['data_samples'].img_path.endswith('val/2.png')  # the second of two out of three
    model = runner.model.eval()
    with torch.no_grad():
        image = (item['inputs'].flip(0).float()[None] - 120) / 58
        student, teacher = (model.roles[role].backbone(image)[-1] for role in ('student', 'teacher'))
        (connector,) = model.connectors['adm'].values()
        similarity = F.cosine_similarity(connector(student), teacher, dim=1)[0]
    expected = heat_overlay(rgb_image(item), similarity, *SCALES['similarity'])
    drawn = {
        step: cv2.imread(str(pictures(folder / 'with')[f'adm_backbone_layer4_similarity_1_{step}.png']))[..., ::-1]
        for step in (2, 4)
    }
    assert (drawn[4] == expected).all()
    assert not (drawn[2] == expected).all()


def test_only_the_main_process_draws(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(similarity_vis, 'is_main_process', lambda: False)
    cfg = config(folder / 'data', HOOK)
    cfg.train_cfg.max_iters = 2
    runner = runner_of(cfg, tmp_path)
    runner.model.look = None  # nothing may be computed either
    runner.train()
    assert not pictures(tmp_path)


def refused(cfg, work_dir) -> str:
    cfg.custom_hooks = [HOOK]
    runner = runner_of(cfg, work_dir)
    with pytest.raises(ConfigError) as error:
        runner.train()
    assert runner.iter == 0
    return str(error.value)


def test_what_cannot_be_drawn_is_told_before_training(folder, tmp_path):
    data = folder / 'data'
    assert 'EncoderDecoder of this config has no such distiller' in refused(stock_config(data), tmp_path)
    mutual = role_config(data)
    mutual.model.distillers = mutual.model.distillers[:1]
    assert 'add one to model.distillers' in refused(mutual, tmp_path)
    unvalidated = role_config(data)
    unvalidated.val_dataloader = unvalidated.val_evaluator = unvalidated.val_cfg = None
    assert 'give val_dataloader' in refused(unvalidated, tmp_path)


@pytest.mark.parametrize('key', ['interval', 'images'])
def test_numbers_below_one_are_refused(key):
    with pytest.raises(ConfigError, match=rf'SimilarityVisHook\.{key}=0'):
        SimilarityVisHook(**{key: 0})
