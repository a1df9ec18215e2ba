"""What the installed toolboxes say about the stock configs that mmadm's configs repeat."""

from __future__ import annotations

from functools import lru_cache

from mmengine.config import Config
from mmengine.fileio import load

from mmadm.utils.config import resolve_config


@lru_cache
def stock(name: str) -> Config:
    return Config.fromfile(resolve_config(name), format_python_code=False)


def official_weights(name: str) -> str:
    """The URL of the official file that the installed toolbox lists for one of its configs."""
    path = resolve_config(name)
    (metafile,) = path.parent.glob('metafile.y*ml')
    content = load(metafile)
    models = content['Models'] if isinstance(content, dict) else content
    (url,) = [m['Weights'] for m in models if m.get('Config') == f'configs/{path.parent.name}/{path.name}']
    return url.replace('https://mmassets.onedl.ai/', 'https://download.openmmlab.com/')  # the onedl forks' mirror


def assert_trains_as(ours: Config, name: str, wrapper: dict | None = None) -> None:
    """Check that a config has the optimiser (`wrapper`, by default its only one), schedule and data of a stock one."""
    theirs = stock(name)
    wrapper = ours.optim_wrapper if wrapper is None else wrapper
    for key in ('optimizer', 'paramwise_cfg', 'clip_grad'):
        assert wrapper.get(key) == theirs.optim_wrapper.get(key)
    assert ours.param_scheduler == theirs.param_scheduler
    for key in ('type', 'max_epochs', 'max_iters', 'val_interval'):
        default = 1 if key == 'val_interval' else None
        assert ours.train_cfg.get(key, default) == theirs.train_cfg.get(key, default)
    loaders = ours.train_dataloader, theirs.train_dataloader
    assert loaders[0].batch_size == loaders[1].batch_size
    pipelines = [
        [{key: value for key, value in step.items() if key != 'backend_args'} for step in loader.dataset.pipeline]
        for loader in loaders
    ]
    assert pipelines[0] == pipelines[1]
