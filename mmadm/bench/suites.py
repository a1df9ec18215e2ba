"""What the benchmark suites hold: the config of every method, how long it trains, and what a reader must know."""

from __future__ import annotations

from itertools import product
from pathlib import Path

from mmengine.config import Config

_PACKAGE = Path(__file__).resolve().parents[1]
#: Folder that holds ``configs`` and ``tools``: of a wheel ``mmadm/.mim``, else the checkout
ROOT = _PACKAGE / '.mim' if (_PACKAGE / '.mim').is_dir() else _PACKAGE.parent

PLAIN = ('student', 'teacher', 'dml', 'adm')
ONLINE = (*PLAIN, 'kdcl', 'kdcl_adm', 'switokd', 'switokd_adm', 'two_teachers_adm', 'two_students_adm')
OFFLINE = ('cwd', 'mgd', 'akd_cwd', 'akd_mgd', 'sokd')
#: Methods that are another one with other settings of a distiller: that method, the distiller and the settings
VARIANTS: dict[str, tuple[str, int, dict[str, object]]] = {
    # every position counts alike: a control for ADM's choice of positions
    'adm_uniform': ('adm', 1, {'region': 'uniform'}),
    # the consensus looks at perturbed copies of the features of a teacher that learns, too
    'adm_avatars': (
        'adm',
        1,
        {'avatars.num': 4, 'avatars.perturbation.type': 'Dropout', 'avatars.perturbation.p': 0.1},
    ),
    # brought in slowly: features of a network that starts from random weights are short, and the shorter they are, the
    # larger is the gradient of the divergence
    'adm_warmup': ('adm', 1, {'schedule.warmup': 'linear', 'schedule.length': 150}),
    # the plain mean over positions, nearly all of them background, in place of weights and positives, and the reverse
    'kd_mean': ('kd', 0, {'loss.normaliser': 'mean'}),
    'dml_positives': ('dml', 0, {'normaliser': 'positives'}),
    # number and weighting of the avatars; `akd_cwd` itself has four, weighted by uncertainty
    'akd_cwd_m1': ('akd_cwd', 0, {'avatars.num': 1}),
    'akd_cwd_m2': ('akd_cwd', 0, {'avatars.num': 2}),
    'akd_cwd_m2_uniform': ('akd_cwd', 0, {'avatars.num': 2, 'avatars.weighting': 'uniform'}),
    'akd_cwd_m4_uniform': ('akd_cwd', 0, {'avatars.weighting': 'uniform'}),
    'akd_cwd_m1_batchnorm': ('akd_cwd', 0, {'avatars.num': 1, 'avatars.weighting': 'batchnorm'}),
    'akd_cwd_m4_batchnorm': ('akd_cwd', 0, {'avatars.weighting': 'batchnorm'}),
}
AVATARS = tuple(method for method, (base, *_) in VARIANTS.items() if base == 'akd_cwd')
# ADM on top of DML with other weights (alpha, beta), temperatures and regions; the temperature is the softmax's alone
ABLATION: dict[str, tuple[str, int, dict[str, object]]] = {
    f'adm_a{alpha:g}_b{beta:g}_t{tau:g}_{region}': (
        'adm',
        1,
        {'consensus': alpha, 'divergence': beta, 'tau': tau, 'region': region},
    )
    for (tau, region), alpha, beta in product(
        ((0.1, 'softmax'), (0.5, 'softmax'), (0.1, 'topk'), (0.1, 'uniform')),
        (1.0, 10.0, 30.0, 100.0),
        (0.01, 0.1, 1.0),
    )
}
# the paired suites: ADM with other weights, and mutual learning brought in slowly: the teacher's head starts at random
SLOWLY = {'schedule.warmup': 'linear', 'schedule.length': 500}
WEIGHTS: dict[str, tuple[str, int, dict[str, object]]] = {
    f'adm_a{alpha:g}_b{beta:g}': ('adm', 1, {'consensus': alpha, 'divergence': beta})
    for alpha, beta in product((0.1, 1.0, 3.0, 30.0), (0.0, 0.01, 0.1))
}
UNIFORM = {'avatars.weighting': 'uniform'}
BLOCKS = {f'avatars.perturbation.{index}.type': 'BlockMask' for index in range(4)}
# avatars of one step that differ in strength, in single elements or in squares of 4 x 4 positions
UNEQUAL: dict[str, tuple[str, int, dict[str, object]]] = {
    'akd_cwd_unequal_uniform': ('akd_cwd_unequal', 0, UNIFORM),
    'akd_cwd_unequal_blocks': ('akd_cwd_unequal', 0, BLOCKS),
    'akd_cwd_unequal_blocks_uniform': ('akd_cwd_unequal', 0, BLOCKS | UNIFORM),
}
VARIANTS |= ABLATION | WEIGHTS | UNEQUAL | {'dml_slowly': ('dml', 0, SLOWLY), 'adm_slowly': ('adm', 0, SLOWLY)}
# both roles train in one step and teach each other nothing: what a pair's training itself does
VARIANTS['side_by_side'] = ('dml', 0, {'weight': 0.0})
VARIANTS['adm_alone'] = ('adm', 0, {'weight': 0.0})
# mutual learning whose weight grows to its whole size over the whole training, as FFSD's and SOKD's do
RAMPED = {'schedule.warmup': 'exponential', 'schedule.length': 3000}
VARIANTS['dml_ramped'] = ('dml', 0, RAMPED)
PAIRED = (
    *PLAIN,
    'kdcl',
    'kdcl_adm',
    'kd',
    'cwd',
    'adm_kd',
    'akd_cwd',
    'sokd',
    'ffsd',
    'side_by_side',
    'online_kd',
    'adm_alone',
    'dml_slowly',
    'adm_slowly',
    *WEIGHTS,
)


def small(folder: str, *methods: str) -> dict[str, str]:
    """Configs of a small pair by method.

    Args:
        folder: Folder of configs; in ``camvid`` the pair with the MobileNetV2 teacher is meant.
        methods: Methods that have a config there, or are a variant of one that has.
    """
    suffix = '_mbv2' if folder == 'camvid' else ''
    bases = {method: VARIANTS[method][0] if method in VARIANTS else method for method in methods}
    return {method: f'configs/{folder}/{base}{suffix}.py' for method, base in bases.items()}


def large(student: str, teacher: str, pair: str, **methods: str) -> dict[str, str]:
    """Configs of a pair on Cityscapes or COCO by method.

    Args:
        student: Name of the plain student's config.
        teacher: Name of the plain teacher's.
        pair: What the others' names end in.
        methods: By folder the methods that have a config there, with spaces between.
    """
    plain = {'student': f'configs/baselines/{student}.py', 'teacher': f'configs/baselines/{teacher}.py'}
    found = {m: f'configs/{folder}/{m}_{pair}.py' for folder, listed in methods.items() for m in listed.split()}
    return plain | found


PSPNET, RETINANET = '4xb2-80k_cityscapes-512x1024', 'fpn_1x_coco'
SUITES: dict[str, dict[str, str]] = {
    'demo': {m: f'configs/demo/{m}.py' for m in ('student', 'dml', 'adm', 'student_det', 'adm_det')},
    'camvid': small('camvid', *ONLINE, 'adm_uniform', 'adm_avatars', 'kd', 'adm_kd', 'cirkd', *OFFLINE)
    | {'ffsd': 'configs/camvid/ffsd.py'},
    'camvid_avatars': small('camvid', 'student', 'cwd', 'akd_cwd', *AVATARS),
    'camvid_original': small('camvid', *PLAIN),
    'adm_ablation': small('camvid', 'student', 'dml', *ABLATION),
    'bccd': small(
        'bccd',
        *ONLINE,
        'adm_warmup',
        'dml_positives',
        'kd',
        'kd_mean',
        'pkd',
        'fgd',
        'bckd',
        'crosskd',
        'reviewkd',
        *OFFLINE,
        'ffsd',
    ),
    'camvid_paired': small('camvid_paired', *PAIRED, 'dml_ramped', 'cirkd', 'reviewkd', 'akd_cwd_unequal', *UNEQUAL),
    'bccd_paired': small(
        'bccd_paired', *PAIRED, 'dml_positives', 'kd_mean', 'pkd', 'mgd', 'fgd', 'bckd', 'crosskd', 'reviewkd'
    ),
    'cityscapes': large(
        f'pspnet_r18-d8_{PSPNET}',
        f'pspnet_r101-d8_{PSPNET}',
        f'pspnet_r101-d8_r18-d8_{PSPNET}',
        baselines='dml kd dkd cwd dist mgd at fitnet cirkd',
        adm='adm',
        kdcl='kdcl kdcl_adm',
        switokd='switokd switokd_adm',
        akd='akd_cwd akd_mgd',
        sokd='sokd',
    )
    | {'ffsd': f'configs/ffsd/ffsd_pspnet_r18-d8_{PSPNET}.py'},
    # all with the 1x schedule; AKD and SOKD have the 2x schedule of AKD's paper and so are no rows of this table
    'coco': large(
        f'retinanet_r50_{RETINANET}',
        f'retinanet_r101_{RETINANET}',
        f'retinanet_r101_r50_{RETINANET}',
        baselines='dml kd cwd dist mgd pkd at fitnet fgd reviewkd crosskd',
        adm='adm',
        kdcl='kdcl kdcl_adm',
        switokd='switokd switokd_adm',
    )
    | {'ffsd': f'configs/ffsd/ffsd_retinanet_r50_{RETINANET}.py'},
}
# Options of all methods of a suite: the original split of CamVid, whose val and test show other streets than its train
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
BCCD_NOTE = (
    'Blood cells at low resolution with small detectors: compare the methods with each other, not with published '
    'BCCD results. Methods were chosen on val.'
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
    'adm_ablation': (
        "ADM's hyper-parameters on CamVid",
        'ADM on top of DML: alpha is the weight of the consensus, beta of the divergence. ' + CAMVID_NOTE,
    ),
    'bccd': ('mmadm on BCCD', BCCD_NOTE),
    'camvid_paired': ('mmadm on CamVid, both networks from ImageNet', CAMVID_NOTE),
    'bccd_paired': ('mmadm on BCCD, both networks from ImageNet', BCCD_NOTE),
    'cityscapes': ('mmadm on Cityscapes', 'PSPNet R101 and R18, 512x1024; scores on val, as Cityscapes is reported.'),
    'coco': ('mmadm on COCO', 'RetinaNet R101 and R50, 1x schedule; scores on val2017, as COCO is reported.'),
}

# Iterations of one run; `full` is what the config says. `small` takes at most five minutes on one core where it is
# listed, elsewhere it is a tenth of the schedule.
BUDGETS: dict[str, dict[str, int]] = {
    'smoke': {},
    'small': {
        'demo': 200,
        'camvid': 500,
        'camvid_avatars': 500,
        'camvid_original': 500,
        'adm_ablation': 250,
        'bccd': 300,
        'camvid_paired': 1000,
        'bccd_paired': 500,
    },
}
SMOKE = 20


def method_options(suite: str, method: str, cfg: Config, budget: str) -> list[str]:
    """``--cfg-options`` that turn a config into a method of a suite with a budget.

    Args:
        suite: Name of the suite.
        method: Name of the method.
        cfg: Its config as the file says.
        budget: ``smoke``, ``small`` or ``full``.

    Returns:
        ``key=value`` words.
    """
    _, distiller, settings = VARIANTS.get(method, ('', 0, {}))
    chosen = [
        *OPTIONS.get(suite, ()),
        *(f'model.distillers.{distiller}.{key}={value}' for key, value in settings.items()),
    ]
    if budget == 'full':
        return chosen
    if 'max_epochs' in cfg.train_cfg:
        return chosen + fewer_epochs(cfg, budget)
    return chosen + fewer_iterations(cfg, BUDGETS[budget].get(suite, SMOKE if budget == 'smoke' else 0))


def fewer_iterations(cfg: Config, length: int) -> list[str]:
    """Options for a shorter training; its schedule is shortened with it.

    Args:
        cfg: Config of an iteration-based training.
        length: Iterations, a tenth of the config's if 0.
    """
    whole = cfg.train_cfg.max_iters
    length = min(whole, length or whole // 10)
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


def fewer_epochs(cfg: Config, budget: str) -> list[str]:
    """Options for a tenth of the epochs, or for one epoch of a few images; the rate is then never lowered."""
    epochs = 1 if budget == 'smoke' else max(1, cfg.train_cfg.max_epochs // 10)
    options = [f'train_cfg.max_epochs={epochs}']
    if budget == 'smoke':
        options += ['train_dataloader.dataset.indices=16', 'val_dataloader.dataset.indices=8']
        options += ['default_hooks.logger.interval=1']
    return options
