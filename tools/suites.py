"""What the benchmark suites hold: the config of every method, how long it trains, and what a reader must know."""

from __future__ import annotations

from mmengine.config import Config

PLAIN = ('student', 'teacher', 'dml', 'adm')
ONLINE = (*PLAIN, 'kdcl', 'kdcl_adm', 'switokd', 'switokd_adm', 'two_teachers_adm', 'two_students_adm')
OFFLINE = ('cwd', 'mgd', 'akd_cwd', 'akd_mgd', 'sokd')
# number and weighting of the avatars; `akd_cwd` itself has four, weighted by uncertainty
AVATARS = ('m1', 'm2', 'm2_uniform', 'm4_uniform', 'm1_batchnorm', 'm4_batchnorm')


def camvid(*methods: str) -> dict[str, str]:
    """Configs of the pair with the MobileNetV2 teacher by method."""
    return {method: f'configs/camvid/{method}_mbv2.py' for method in methods}


SUITES: dict[str, dict[str, str]] = {
    'demo': {m: f'configs/demo/{m}.py' for m in ('student', 'dml', 'adm', 'student_det', 'adm_det')},
    'camvid': camvid(*ONLINE, 'adm_avatars', 'kd', 'adm_kd', *OFFLINE) | {'ffsd': 'configs/camvid/ffsd.py'},
    'camvid_avatars': camvid('student', 'cwd', 'akd_cwd', *(f'akd_cwd_{name}' for name in AVATARS)),
    'camvid_original': camvid(*PLAIN),
    'bccd': {method: f'configs/bccd/{method}.py' for method in (*ONLINE, 'pkd', *OFFLINE, 'ffsd')},
}
# the original split of CamVid, whose val and test show other streets than its train
OPTIONS: dict[str, list[str]] = {
    'camvid_original': [
        f'{part}_dataloader.dataset.{key}={value}'
        for part in ('train', 'val', 'test')
        for key, value in (
            ('ann_file', f'splits/{part}.txt'),
            ('data_prefix.img_path', f'images/{part}'),
            ('data_prefix.seg_map_path', f'annotations/{part}'),
        )
    ]
}
CAMVID_NOTE = (
    'A reduced CamVid at low resolution with small networks: compare the methods with each other, not with published '
    'CamVid results. Methods were chosen on val.'
)
NOTES = {
    'demo': (
        'mmadm demo: learning together on generated streets',
        'Small-scale demo figures: tiny networks, a short training and generated street scenes. They show that '
        'everything works and what it looks like. They are not Cityscapes results and say nothing about them; with one '
        'seed, a difference of a point or two is noise.',
    ),
    'camvid': ('mmadm on CamVid', CAMVID_NOTE),
    'camvid_original': ('mmadm on CamVid, original split', CAMVID_NOTE),
    'camvid_avatars': (
        'Avatars on CamVid',
        'Number and weighting of the avatars; akd_cwd itself has four, weighted by uncertainty. ' + CAMVID_NOTE,
    ),
    'bccd': (
        'mmadm on BCCD',
        'Blood cells at low resolution with small detectors: compare the methods with each other, not with published '
        'BCCD results. Methods were chosen on val.',
    ),
}

# iterations of one run; `full` is what the config says. `small`: at most five minutes on one core, or a tenth on GPUs
BUDGETS: dict[str, dict[str, int]] = {
    'smoke': {},
    'small': {'demo': 200, 'camvid': 500, 'camvid_avatars': 500, 'camvid_original': 500, 'bccd': 300},
}
SMOKE = 20


def shortened(suite: str, cfg: Config, budget: str) -> list[str]:
    """``--cfg-options`` that bring a config to a budget; its schedule is shortened with it.

    Args:
        suite: Name of the suite.
        cfg: A config of it.
        budget: ``smoke``, ``small`` or ``full``.

    Returns:
        ``key=value`` words; none for ``full``.
    """
    if budget == 'full':
        return []
    whole = cfg.train_cfg.max_iters
    length = min(whole, BUDGETS[budget].get(suite, SMOKE if budget == 'smoke' else whole // 10))
    half, warmup = max(1, length // 2), max(1, length // 4)
    options = {
        'train_cfg.max_iters': length,
        'train_cfg.val_interval': half,
        'default_hooks.checkpoint.interval': half,
        'default_hooks.logger.interval': min(max(1, length // 20), cfg.default_hooks.logger.interval),
    }
    for index, scheduler in enumerate(cfg.param_scheduler):
        for key in ('begin', 'end', 'T_max'):
            if value := scheduler.get(key):
                # what lasts as long as the training goes on doing so, a warm-up may take a quarter of it
                options[f'param_scheduler.{index}.{key}'] = length if value == whole else min(value, warmup)
    return [f'{key}={value}' for key, value in options.items()]
