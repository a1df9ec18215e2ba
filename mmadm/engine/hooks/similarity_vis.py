"""Pictures of what ADM sees, while it trains."""

from __future__ import annotations

from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmadm.engine.generators import undisturbed
from mmadm.registry import HOOKS
from mmadm.utils.errors import ConfigError
from mmadm.utils.unwrap import unwrapped
from mmadm.visualization.distiller_maps import similarity_maps
from mmadm.visualization.overlay import rgb_image, similarity_overlays, spread_indices


@HOOKS.register_module()
class SimilarityVisHook(Hook):
    """Writes similarity, consensus and divergence maps of an ``mmadm.Distillation`` to the visualizer's backends.

    For every ADM tap and level, on the same validation images each time, as ``<distiller>_<tap>_<kind>_<image>``. The
    colours have fixed ranges, see :data:`~mmadm.visualization.overlay.SCALES`. The training stays what it is without
    the hook, to the bit; only the main process draws. Add it as ``default_hooks=dict(similarity=dict(type=...))``,
    which leaves the other hooks of a base config in place.

    Args:
        interval: Iterations between pictures.
        images: Number of validation images, taken evenly from the whole set.

    Raises:
        ConfigError: If an argument is below 1; before training, if the model has no ADM distiller or the config no
            validation images.
    """

    def __init__(self, interval: int = 1000, images: int = 2) -> None:
        for key, value in (('interval', interval), ('images', images)):
            if value < 1:
                raise ConfigError(f'mmadm.SimilarityVisHook.{key}={value}: need at least 1')
        self.interval = interval
        self.images = images
        self._items: list[dict[str, Any]] = []

    def before_train(self, runner: Runner) -> None:
        """Check that there is something to draw, and read the images.

        Raises:
            ConfigError: See the class.
        """
        model = unwrapped(runner.model)
        if not any(hasattr(part, 'similarity_maps') for part in getattr(model, 'distillers', {}).values()):
            raise ConfigError(
                'mmadm.SimilarityVisHook draws what mmadm.ADM sees, but the '
                f'{type(model).__name__} of this config has no such distiller; add one to model.distillers or remove '
                'the hook'
            )
        if runner.val_loop is None:
            raise ConfigError(
                'mmadm.SimilarityVisHook draws on validation images, but the config has none; give '
                'val_dataloader, val_evaluator and val_cfg, or remove the hook'
            )
        if is_main_process():
            dataset = runner.val_dataloader.dataset
            with undisturbed():  # a pipeline may draw random numbers
                self._items = [dataset[index] for index in spread_indices(len(dataset), self.images)]

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Draw, if it is time; only the main process has images."""
        if not (self._items and self.every_n_train_iters(runner, self.interval)):
            return
        model = unwrapped(runner.model)
        with undisturbed():
            for number, item in enumerate(self._items):
                image = rgb_image(item)
                for maps in similarity_maps(model, item):
                    for kind, picture in similarity_overlays(image, maps).items():
                        runner.visualizer.add_image(f'{maps.name}_{kind}_{number}', picture, runner.iter + 1)
