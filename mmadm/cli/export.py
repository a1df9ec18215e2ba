"""Write the checkpoint, and if asked for the config, with which stock mmseg or mmdet runs one role of a training.

With --tokens, write the receptive tokens of a token training for a masked distillation instead.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmadm.algorithms.tokens import trained_tokens
from mmadm.cli.onnx_file import write_onnx
from mmadm.utils.checkpoint import write_atomically, write_checkpoint
from mmadm.utils.cli import one_line_errors, require_new
from mmadm.utils.errors import CheckpointError, ConfigError
from mmadm.utils.export import read_role, role_config
from mmadm.utils.recorded import recorded_config


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Command line of the tool."""
    parser = argparse.ArgumentParser(prog='mmadm export', description=__doc__)
    parser.add_argument('checkpoint', help='full checkpoint of a training')
    parser.add_argument('--role', help='name of the role')
    parser.add_argument('--out', type=Path, metavar='FILE', help='stock checkpoint to write')
    parser.add_argument('--config-out', type=Path, metavar='FILE.py', help='stock config to write')
    parser.add_argument('--onnx', type=Path, metavar='FILE.onnx', help='network to write for other runtimes')
    parser.add_argument('--size', type=int, nargs=2, metavar=('HEIGHT', 'WIDTH'), help='of the images of --onnx')
    parser.add_argument('--tokens', type=Path, metavar='FILE', help='tokens to write')
    parser.add_argument('--force', action='store_true', help='overwrite files')
    args = parser.parse_args(arguments)
    if args.tokens is not None and (args.role or args.out or args.config_out or args.onnx):
        parser.error('--tokens stands alone: a token training has no role to export')
    if args.tokens is None and not (args.role and (args.out or args.onnx)):
        parser.error('give --role with --out or --onnx, or --tokens')
    return args


def export_tokens(checkpoint: Path, out: Path) -> None:
    """Write the tokens of a token training.

    Args:
        checkpoint: Checkpoint of an ``mmadm.TokenTraining``.
        out: File to write, for ``MaskedTokens.tokens``.

    Raises:
        CheckpointError: If the checkpoint holds no tokens.
    """
    tokens = trained_tokens(checkpoint)
    write_checkpoint(tokens, out)
    print(f'{out}: tokens of {len(tokens)} levels')


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the tool."""
    args = parse_args(arguments)
    with one_line_errors():
        for option in ('out', 'config_out', 'onnx', 'tokens'):
            out, name = getattr(args, option), f'--{option.replace("_", "-")}'
            if out is not None and out.resolve() == Path(args.checkpoint).resolve():
                raise ConfigError(f'{name}={out} is the input: choose another file')
            if out is not None:
                require_new(out, name, args.force)
        if args.tokens is not None:
            export_tokens(Path(args.checkpoint), args.tokens)
            return
        checkpoint = read_role(args.checkpoint, args.role)
        cfg = None
        if args.config_out is not None or args.onnx is not None:
            if 'cfg' not in checkpoint['meta']:
                raise CheckpointError(f'{args.checkpoint} holds no config to make {args.config_out or args.onnx} from')
            cfg = role_config(recorded_config(checkpoint['meta']['cfg'], args.checkpoint), args.role)
        if args.onnx is not None:
            print(f'{args.onnx}: {write_onnx(cfg, checkpoint["state_dict"], args.onnx, args.size)}')
        if args.out is not None:
            write_checkpoint(checkpoint, args.out)
            print(f'{args.out}: role {args.role!r}, {len(checkpoint["state_dict"])} tensors')
        if args.config_out is not None:
            write_atomically(cfg.pretty_text.encode(), args.config_out)
            print(f'{args.config_out}: its stock config')
