"""What is known of a run before it starts: which config it is, and what its network costs."""

import torch
from mmengine.analysis import get_model_complexity_info
from mmengine.registry import MODELS, init_default_scope
from small_segmentors import build, segmentor
from small_trainings import stock_config

from mmadm.bench import suites
from mmadm.bench.plan import load_config
from mmadm.bench.run_description import describe, fingerprint, flops, size_of_test_images
from mmadm.bench.suites import ROOT


def config(suite, method):
    return load_config(suites.SUITES[suite][method], ())


def test_where_the_data_lie_does_not_make_another_config():
    one, other = stock_config('/here'), stock_config('/there')
    assert fingerprint(one) == fingerprint(other)
    other.train_dataloader.batch_size = 7
    assert fingerprint(one) != fingerprint(other)


def test_where_the_weights_lie_does_not_make_another_config(monkeypatch):
    path = str(ROOT / 'configs/camvid/teacher_mbv2.py')
    monkeypatch.delenv('MMADM_WEIGHTS', raising=False)
    default = load_config(path, ())
    monkeypatch.setenv('MMADM_WEIGHTS', '/elsewhere')
    elsewhere = load_config(path, ())
    assert elsewhere.model != default.model
    assert fingerprint(elsewhere) == fingerprint(default)


def test_flops_are_those_of_the_deploy_role_at_the_size_of_the_test():
    cfg = config('bccd', 'student')
    init_default_scope('mmdet')
    network = MODELS.build(cfg.model).eval()
    expected = get_model_complexity_info(network, (3, 192, 256), show_table=False, show_arch=False)['flops']
    assert describe('student', cfg)['facts']['flops'] == expected
    pair = describe('dml', config('bccd', 'dml'))['facts']
    assert (pair['flops'], pair['deploy']) == (expected, 'student')


def test_flops_are_of_images_of_the_networks_own_channels():
    cfg = segmentor()
    one, four = (build({**cfg, 'backbone': {**cfg['backbone'], 'in_channels': n}}) for n in (1, 4))
    stem = one.backbone.conv1.out_channels * 7 * 7 * 32 * 32  # of 7 x 7 at half of the size, for each channel
    assert flops(four, (64, 64)) - flops(one, (64, 64)) == 3 * stem


def test_a_pipeline_without_resize_says_nothing_about_flops():
    assert size_of_test_images(config('demo', 'student')) is None
    assert flops(torch.nn.Identity(), None) is None
