"""Weight schedules by hand."""

import math

import pytest

from mmadm.distillers.schedule import WeightSchedule
from mmadm.utils.errors import ConfigError


def test_constant_linear_and_exponential():
    assert [WeightSchedule()(i) for i in (0, 5)] == [1, 1]
    linear = WeightSchedule('linear', length=4)
    assert [linear(i) for i in range(6)] == [0, 0.25, 0.5, 0.75, 1, 1]
    ramp = WeightSchedule('exponential', length=5)
    assert ramp(0) == pytest.approx(math.exp(-5)) and ramp(3) == pytest.approx(math.exp(-5 * 0.4**2)) and ramp(5) == 1


def test_the_ramp_is_the_published_one(golden):
    case = golden('ffsd_warmup')
    ramp = WeightSchedule('exponential', length=int(case.params['alpha']))
    for name, expected in case.expected.items():
        assert case.params['coeff'] * ramp(int(name.removeprefix('epoch'))) == pytest.approx(expected, rel=1e-4)


def test_stop():
    schedule = WeightSchedule(stop=3)
    assert [schedule(i) for i in range(5)] == [1, 1, 1, 0, 0]


def test_by_epoch():
    schedule = WeightSchedule('linear', length=2, stop=3, by_epoch=True)
    assert [schedule(iteration, epoch) for epoch in range(4) for iteration in (9 * epoch, 9 * epoch + 8)] == [
        0, 0, 0.5, 0.5, 1, 1, 0, 0]  # fmt: skip
    assert [schedule.over(100, epoch) for epoch in range(4)] == [False, False, False, True]
    assert [WeightSchedule(stop=3).over(iteration, 100) for iteration in (2, 3)] == [False, True]


@pytest.mark.parametrize(
    ('cfg', 'message'),
    [
        (dict(warmup='linear'), 'length=0'),
        (dict(stop=0), 'stop=0'),
        (dict(begin=1), 'warmup, length, stop and by_epoch'),
    ],
)
def test_bad_schedules(cfg, message):
    with pytest.raises(ConfigError, match=message):
        WeightSchedule.from_cfg(cfg)
