"""Mutate configs and see that each ends in a model or in one line that names the key.

``python tests/campaigns/config_fuzz.py`` prints a table and writes it to ``benchmarks/campaigns``. What
is built also makes a training step.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'tests')]

import small_detectors  # noqa: E402
import small_segmentors  # noqa: E402

from mmadm.registry import MODELS  # noqa: E402
from mmadm.utils.errors import CheckpointError, ConfigError  # noqa: E402

OUT = ROOT / 'benchmarks' / 'campaigns' / 'config_fuzz.json'
PAIR = dict(student=small_segmentors.segmentor(4), teacher=small_segmentors.segmentor(8))
BOXES = dict(student=small_detectors.detector('retinanet'), teacher=small_detectors.detector('retinanet', 8))
SGD = dict(optimizer=dict(type='SGD', lr=0.01), clip_grad=dict(max_norm=1.0))
ROLES = ['student', 'teacher']


BATCHES = dict(mmseg=small_segmentors.batch, mmdet=small_detectors.batch)


def config(scope: str, roles: dict[str, Any], *distillers: dict[str, Any], **options: Any) -> dict[str, Any]:
    """A config of a model and its optimisers."""
    learning = [role for role in roles if role not in options.get('frozen', ())]
    model = dict(type='mmadm.Distillation', roles=roles, distillers=list(distillers), deploy='student', **options)
    wrapper = dict(constructor='mmadm.RoleOptimWrapperConstructor', **{role: deepcopy(SGD) for role in learning})
    return dict(scope=scope, model=model, optim_wrapper=wrapper)


def transfer(loss: str, at: str, **options: Any) -> dict[str, Any]:
    """A transfer from the teacher to the student."""
    return dict(type='mmadm.Transfer', source='teacher', learner='student', at=at, loss=dict(type=loss), **options)


CONFIGS = {
    'adm': config(
        'mmseg', PAIR, dict(type='mmadm.MutualLearning', roles=ROLES, at='logits'),
        dict(type='mmadm.ADM', student='student', teacher='teacher', at='backbone.layer4', consensus=1.0,
             divergence=0.1, tau=0.5, schedule=dict(warmup='linear', length=10)),
    ),
    'kd': config('mmseg', PAIR, transfer('KLDivergence', 'logits', weight=1.0), frozen=['teacher']),
    'cwd': config('mmseg', PAIR, transfer('ChannelWiseDivergence', 'backbone.layer4', weight=5.0), frozen=['teacher']),
    'akd': config(
        'mmseg', PAIR, transfer('ChannelWiseDivergence', 'feats[3]', avatars=dict(
            num=2, perturbation=dict(type='Dropout', p=0.1), weighting='uncertainty')), frozen=['teacher'],
        teacher_dtype='bfloat16',
    ),
    'mgd': config('mmseg', PAIR, transfer('MaskedGeneration', 'backbone.layer4', schedule=dict(stop=5))),
    'kdcl': config('mmseg', PAIR, dict(type='mmadm.KDCL', roles=ROLES, ensemble='naive', tau=2.0, weight=1.0)),
    'switokd': config('mmseg', PAIR, dict(type='mmadm.SwitOKD', student='student', teacher='teacher', tau=1.0)),
    'sokd': config(
        'mmseg', dict(PAIR, bridge=dict(like='teacher', train=['backbone.layer4', 'decode_head'])),
        dict(type='mmadm.SOKD', student='student', teacher='teacher', bridge='bridge', tau=4.0), frozen=['teacher'],
    ),
    'boxes': config(
        'mmdet', BOXES, dict(type='mmadm.MutualLearning', roles=ROLES, at='logits'),
        dict(type='mmadm.ADM', at='feats', foreground=True), transfer('PearsonDistance', 'feats[1:3]'),
    ),
    'ffsd': config(
        'mmseg', {role: small_segmentors.segmentor(4) for role in ('first', 'second', 'student')},
        dict(type='mmadm.FFSD', students=['first', 'second'], leader='student', shallow=['backbone.layer3'], warmup=5),
    ),
}  # fmt: skip
CONFIGS['ffsd']['optim_wrapper'].update(fusion=deepcopy(SGD), self_distillation=deepcopy(SGD))
#: In place of a value
OTHERS: tuple[Any, ...] = (
    None,
    '',
    'nonsense',
    -1,
    0,
    1.5,
    float('nan'),
    True,
    [],
    {},
    ['student'],
    {'a': 1},
    'feats[',
    'teacher',
)


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of everything in a config that mmadm reads; the insides of stock networks are the toolboxes' own."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield (*path, key)
        inside_network = isinstance(value, dict) and 'backbone' in value
        if not inside_network:
            yield from places(value, (*path, key))


def mutated(cfg: dict[str, Any], draw: random.Random) -> tuple[dict[str, Any], str]:
    """Change one place of a copy; returns it and what was done."""
    cfg = deepcopy(cfg)
    # these two say whether mmadm is asked at all
    others = (('model', 'type'), ('optim_wrapper', 'constructor'))
    path = draw.choice([p for p in places(cfg) if p[0] != 'scope' and len(p) > 1 and p not in others])
    node = cfg
    for key in path[:-1]:
        node = node[key]
    key, kind = path[-1], draw.choice(['drop', 'misspell', 'change', 'change', 'change'])
    told = '.'.join(map(str, path))
    if kind == 'drop':
        del node[key]
        return cfg, f'without {told}'
    if kind == 'misspell' and isinstance(key, str):
        letters = list(key)
        letters[draw.randrange(len(letters))] = draw.choice('aqz_')
        node[''.join(letters)] = node.pop(key)
        return cfg, f'{told} as {"".join(letters)}'
    value = draw.choice(OTHERS)
    if isinstance(node[key], str) and draw.random() < 0.3:
        value = node[key] + draw.choice('xs1')
    node[key] = deepcopy(value)
    return cfg, f'{told}={value!r}'


def outcome(cfg: dict[str, Any]) -> tuple[str, str]:
    """Build model and optimisers; returns ``built``, ``refused`` or ``traceback`` and what was said."""
    try:
        with DefaultScope.overwrite_default_scope(cfg['scope']), warnings.catch_warnings():
            warnings.simplefilter('ignore')
            torch.manual_seed(0)
            model = MODELS.build(ConfigDict(cfg['model']))
            wrapper = build_optim_wrapper(model, ConfigDict(cfg['optim_wrapper']))
            model.train_step(BATCHES[cfg['scope']](), wrapper)
    except (ConfigError, CheckpointError) as error:
        return 'refused', str(error)
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return 'traceback', f'{type(error).__name__}: {str(error)[:200]} ({Path(place.filename).name}:{place.lineno})'
    return 'built', ''


def main() -> int:
    """Run; returns 1 if there was a raw traceback."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--mutations', type=int, default=600)
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    MMLogger.get_instance('fuzz', log_level='ERROR')
    draw, counts, raw = random.Random(args.seed), Counter(), []
    for name, cfg in CONFIGS.items():
        assert outcome(cfg)[0] == 'built', (name, outcome(cfg))
    for number in range(args.mutations):
        name = list(CONFIGS)[number % len(CONFIGS)]
        cfg, what = mutated(CONFIGS[name], draw)
        kind, said = outcome(cfg)
        counts[name, kind] += 1
        if kind == 'traceback':
            raw.append({'config': name, 'mutation': what, 'said': said})
    table = Table('config', 'built', 'refused', 'traceback')
    for name in CONFIGS:
        table.add_row(name, *(str(counts[name, kind]) for kind in ('built', 'refused', 'traceback')))
    Console().print(table)
    for entry in raw:
        print(entry['config'], '|', entry['mutation'], '|', entry['said'])
    OUT.parent.mkdir(parents=True, exist_ok=True)
    totals = {kind: sum(n for (_, k), n in counts.items() if k == kind) for kind in ('built', 'refused', 'traceback')}
    OUT.write_text(json.dumps({'mutations': args.mutations, 'seed': args.seed, **totals, 'raw': raw}, indent=1) + '\n')
    return int(bool(raw))


if __name__ == '__main__':
    sys.exit(main())
