"""Score one role of a training with the stock toolbox."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from mmengine.config import Config
from mmengine.runner import Runner

from mmadm.utils.checkpoint import check_same_tensors, read_checkpoint
from mmadm.utils.cli import add_run_arguments, load_config, one_line_errors, require_writable
from mmadm.utils.errors import ConfigError
from mmadm.utils.export import read_role, role_config
from mmadm.utils.unwrap import unwrapped


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Command line of the tool."""
    parser = argparse.ArgumentParser(prog='mmadm test', description=__doc__)
    parser.add_argument('config', help='config file of the training')
    parser.add_argument('checkpoint', help='full checkpoint, or the file of the role')
    parser.add_argument('--role', help='default: the deploy role')
    parser.add_argument('--show-dir', help='where painted predictions go')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation by tta_model and tta_pipeline')
    add_run_arguments(parser)
    return parser.parse_args(arguments)


def paint_into(cfg: Config, folder: str) -> None:
    """Let the visualisation hook paint every image.

    Args:
        cfg: Stock config; changed.
        folder: Where the pictures go.

    Raises:
        ConfigError: If the config has no such hook.
    """
    hook = (cfg.get('default_hooks') or {}).get('visualization')
    if not hook:
        name = {'mmseg': 'Seg', 'mmdet': 'Det'}.get(cfg.get('default_scope'), 'Seg')
        raise ConfigError(f"--show-dir needs default_hooks.visualization, such as dict(type='{name}VisualizationHook')")
    hook.update(draw=True, interval=1)
    cfg.visualizer.save_dir = folder


def augment(cfg: Config) -> None:
    """Let the test augment every image, as the test tools of the toolboxes do.

    Args:
        cfg: Stock config; changed.

    Raises:
        ConfigError: If it does not say how, which it need not in MMDetection.
    """
    if cfg.get('default_scope') == 'mmdet':  # the defaults of its tool
        nms = dict(type='nms', iou_threshold=0.5)
        cfg.setdefault('tta_model', dict(type='DetTTAModel', tta_cfg=dict(nms=nms, max_per_img=100)))
        dataset = cfg.test_dataloader.dataset
        while 'dataset' in dataset:
            dataset = dataset.dataset
        flips = [dict(type='RandomFlip', prob=1.0), dict(type='RandomFlip', prob=0.0)]
        keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip', 'flip_direction')
        packed = [dict(type='PackDetInputs', meta_keys=keys)]
        cfg.setdefault('tta_pipeline', [*dataset.pipeline[:-1], dict(type='TestTimeAug', transforms=[flips, packed])])
    for key in ('tta_model', 'tta_pipeline'):
        if key not in cfg:
            raise ConfigError(f'--tta needs {key} in the config, as the configs of MMSegmentation have it')
    cfg.model = dict(**cfg.tta_model, module=cfg.model)
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the tool."""
    args = parse_args(arguments)
    with one_line_errors():
        cfg = load_config(args)
        require_writable(cfg.work_dir)
        work_dir, launcher = cfg.work_dir, cfg.launcher
        if 'roles' in cfg.model:
            role = args.role or cfg.model.get('deploy', 'student')
            cfg = role_config(cfg, role)
            checkpoint = read_role(args.checkpoint, role)
        elif args.role:
            raise ConfigError(f'--role={args.role}: {args.config} is the config of a single stock model')
        else:
            checkpoint = read_checkpoint(args.checkpoint)
        cfg.merge_from_dict(dict(work_dir=work_dir, launcher=launcher, load_from=None, resume=False))
        if args.show_dir:
            paint_into(cfg, args.show_dir)
        if args.tta:
            augment(cfg)
        runner = Runner.from_cfg(cfg)
        model = unwrapped(runner.model)
        model = model.module if args.tta else model
        check_same_tensors(model, checkpoint['state_dict'], args.checkpoint)
        model.load_state_dict(checkpoint['state_dict'])
        runner.test()
