"""Part: how fast and how exact a frozen teacher is in lower precision, channels-last and compiled."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

import torch
from torch import Tensor, nn

from mmadm.adapters import build_adapter
from mmadm.algorithms.frozen import compile_around, lowered, teacher_precision
from mmadm.bench.gpu_check.clock import milliseconds
from mmadm.bench.gpu_check.large import PSPNET, batches, learner, load
from mmadm.bench.gpu_check.report import Report, Setting
from mmadm.structures import Tap

#: By name: precision, TF32, channels-last, compiled; what takes longest to prepare comes last
VARIANTS: dict[str, tuple[str, bool, bool, bool]] = {
    'float32': ('float32', False, False, False),
    'float32 with TF32': ('float32', True, False, False),
    'float32 with TF32, channels-last': ('float32', True, True, False),
    'bfloat16': ('bfloat16', True, False, False),
    'bfloat16, channels-last': ('bfloat16', True, True, False),
    'float16, channels-last': ('float16', True, True, False),
    'bfloat16, channels-last, compiled': ('bfloat16', True, True, True),
    'float32 with TF32, channels-last, compiled': ('float32', True, True, True),
}
#: Largest deviation of the logits from float32: norm of the difference over norm
TOLERANCES = dict(float32=5e-3, bfloat16=5e-2, float16=1e-2)


def frozen_teacher(setting: Setting, report: Report) -> None:
    """Part: PSPNet R101 to its logits, two images of 512x1024."""
    torch.backends.cudnn.benchmark = True
    model = learner(PSPNET, load(PSPNET, 'kd', setting.tiny), setting.device).model
    given = model.data_preprocessor(batches(PSPNET, setting.tiny, 1)[0], True)
    inputs = given['inputs']['teacher']
    network = settle(model.roles['teacher'], inputs)
    paths = build_adapter('teacher', network).paths(network, [Tap('teacher', 'logits')])
    with ExitStack() as stack:
        if setting.tiny:  # a compiler takes longer than a test has
            torch.compiler.set_stance('force_eager')
            stack.callback(torch.compiler.set_stance, 'default')
        right, began = None, 0.0
        for name, (precision, tf32, last, compiled) in VARIANTS.items():
            with report.attempt(f'teacher in {name}'):
                torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
                network.to(memory_format=torch.channels_last if last else torch.contiguous_format)
                if compiled and not any(part._compiled_call_impl for part in network.modules()):
                    compile_around(network, paths)
                run = partial(forward, network, inputs, teacher_precision(precision))
                prepared = report.seconds
                logits = run(0).float()
                prepared = report.seconds - prepared
                took = milliseconds(run, setting.device, *((2, 1) if setting.tiny else (20, 3)))
                if right is None:
                    right, began = logits, took
                gap = ((logits - right).norm() / right.norm()).item()
                report.figure(f'teacher in {name}: forward pass', took, 'ms', note=f'first call {prepared:.1f} s')
                report.figure(f'teacher in {name}: speed-up', began / took, 'times')
                report.figure(f'teacher in {name}: deviation of the logits', gap, '', TOLERANCES[precision])


def forward(network: nn.Module, inputs: Tensor, dtype: torch.dtype | None, _: int) -> Tensor:
    """Logits in a precision."""
    with torch.no_grad(), lowered(dtype, inputs.device):
        return network(inputs, mode='tensor')


def settle(network: nn.Module, inputs: Tensor) -> nn.Module:
    """Give a random frozen network the statistics of its images, without which its numbers would grow and grow."""
    norms = [part for part in network.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    for part in norms:
        part.train()
        part.momentum = 1.0
    with torch.no_grad():
        network(inputs, mode='tensor')
    return network.eval()
