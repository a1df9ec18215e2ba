"""Budgets and suites of the benchmark: what a run of each method is made of."""

from pathlib import Path

import pytest
from mmengine.registry import MODELS, DefaultScope

from mmadm.bench import suites
from mmadm.bench.plan import load_config, plan

ROOT = Path(__file__).parents[2]


def config(suite, method, budget):
    path = suites.SUITES[suite][method]
    return load_config(path, suites.method_options(suite, method, load_config(path, ()), budget))


def test_every_method_of_every_suite_has_a_config_and_a_note():
    assert set(suites.NOTES) == set(suites.SUITES)
    missing = {path for methods in suites.SUITES.values() for path in methods.values() if not (ROOT / path).is_file()}
    assert not missing


@pytest.mark.parametrize('suite', suites.SUITES)
def test_the_full_budget_is_what_the_config_says(suite):
    method = next(iter(suites.SUITES[suite]))
    assert suites.method_options(suite, method, config('camvid', 'student', 'full'), 'full') == suites.OPTIONS.get(
        suite, []
    )


def test_a_small_run_keeps_the_shape_of_its_schedule():
    cfg = config('camvid', 'dml', 'small')
    assert (cfg.train_cfg.max_iters, cfg.train_cfg.val_interval, cfg.default_hooks.checkpoint.interval) == (
        500,
        250,
        250,
    )
    warmup, decay = cfg.param_scheduler
    assert (warmup.get('begin', 0), warmup.end, decay.begin, decay.end) == (0, 100, 100, 500)


def test_a_smoke_run_shortens_the_warm_up_too_and_logs_at_least_once():
    cfg = config('bccd', 'adm', 'smoke')
    assert (cfg.train_cfg.max_iters, cfg.default_hooks.logger.interval) == (20, 1)
    assert [(s.get('begin', 0), s.end) for s in cfg.param_scheduler] == [(0, 5), (5, 20)]


def test_where_no_length_is_listed_a_small_run_is_a_tenth():
    cfg = config('cityscapes', 'adm', 'small')
    assert (cfg.train_cfg.max_iters, cfg.param_scheduler[0].end) == (8000, 8000)
    assert config('coco', 'adm', 'small').train_cfg.max_epochs == 1


def test_the_runs_of_a_suite_of_epochs_can_be_planned(tmp_path):
    (job,) = plan('coco', ['dml'], [0], 'full', tmp_path, [])
    assert (job.length, job.unit, job.roles) == (12, 'epochs', ('student', 'teacher'))


def test_a_smoke_run_of_epochs_reads_a_few_images():
    cfg = config('coco', 'cwd', 'smoke')
    assert (cfg.train_cfg.max_epochs, cfg.train_dataloader.dataset.indices, cfg.val_dataloader.dataset.indices) == (
        1,
        16,
        8,
    )


@pytest.mark.parametrize(
    ('suite', 'method', 'base', 'index', 'changes'),
    [
        ('camvid', 'adm_uniform', 'adm', 1, dict(region='uniform')),
        (
            'camvid',
            'adm_avatars',
            'adm',
            1,
            dict(avatars=dict(num=4, perturbation=dict(type='Dropout', p=0.1))),
        ),
        ('bccd', 'adm_warmup', 'adm', 1, dict(schedule=dict(warmup='linear', length=150))),
        (
            'camvid_avatars',
            'akd_cwd_m2_uniform',
            'akd_cwd',
            0,
            dict(avatars=dict(num=2, perturbation=dict(type='Dropout', p=0.1), weighting='uniform')),
        ),
    ],
)
def test_a_variant_differs_in_its_settings_alone_and_can_be_built(suite, method, base, index, changes):
    ours, plain = config(suite, method, 'full'), config(suite, base, 'full')
    ours.model.roles.teacher.pop('checkpoint', None)  # made by an earlier training
    plain.model.roles.teacher.pop('checkpoint', None)
    with DefaultScope.overwrite_default_scope(ours.default_scope):
        MODELS.build(ours.model)
    plain.model.distillers[index].update(changes)
    assert ours.model.to_dict() == plain.model.to_dict()


def test_every_variant_is_named_by_what_it_sets():
    for method in suites.AVATARS:
        avatars = config('camvid_avatars', method, 'full').model.distillers[0].avatars
        weighting = avatars.get('weighting', 'uncertainty')
        assert method == f'akd_cwd_m{avatars.num}' + ('' if weighting == 'uncertainty' else f'_{weighting}')
    assert len(suites.AVATARS) == 6


def test_the_ablation_is_named_by_what_it_sets():
    names = [name for name in suites.SUITES['adm_ablation'] if name.startswith('adm')]
    assert len(names) == 48
    for name in ('adm_a1_b0.01_t0.5_softmax', 'adm_a30_b1_t0.1_topk'):
        cfg = config('adm_ablation', name, 'small')
        adm = cfg.model.distillers[1]
        assert f'adm_a{adm.consensus:g}_b{adm.divergence:g}_t{adm.tau:g}_{adm.region}' == name
        assert cfg.train_cfg.max_iters == 250
    plain = config('camvid', 'adm', 'full').model.distillers[1]
    assert f'adm_a{plain.consensus:g}_b{plain.divergence:g}_t{plain.tau:g}_softmax' in names
