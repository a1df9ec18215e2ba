"""The hooks that a role's stock config keeps."""

from __future__ import annotations

import pytest
from mmengine.config import Config

from mmadm.utils.export import role_config

SWITCH = dict(type='YOLOXModeSwitchHook', num_last_epochs=15)
EARLIER = dict(SWITCH, priority=48)


def exported(role: str, *custom: dict, **default: dict) -> Config:
    roles = dict(student=dict(type='A'), teacher=dict(type='B'))
    cfg = dict(
        model=dict(type='mmadm.Distillation', roles=roles), custom_hooks=list(custom), default_hooks=dict(default)
    )
    return role_config(Config(cfg), role)


@pytest.mark.parametrize(
    ('hook', 'student', 'teacher'),
    [
        (dict(type='mmadm.RoleEMAHook', momentum=0.1), [dict(type='EMAHook', momentum=0.1)], []),
        (dict(type='mmadm.RoleEMAHook', roles=['teacher'], priority=49), [], [dict(type='EMAHook', priority=49)]),
        (dict(type='mmadm.RoleHook', hook=SWITCH, priority=48), [EARLIER], [EARLIER]),
        (dict(type='mmadm.RoleHook', roles=['student'], hook=SWITCH), [SWITCH], []),
        (dict(type='EarlyStoppingHook', monitor='teacher/mIoU'), [], [dict(type='EarlyStoppingHook', monitor='mIoU')]),
        (dict(type='SyncBuffersHook'), [dict(type='SyncBuffersHook')], [dict(type='SyncBuffersHook')]),
        (dict(type='mmadm.ChannelsLastHook', roles=['student']), [], []),
    ],
)  # fmt: skip
def test_each_role_has_the_hooks_that_do_the_same_in_stock(hook, student, teacher):
    assert exported('student', hook).custom_hooks == student
    assert exported('teacher', hook).custom_hooks == teacher


def test_the_best_is_kept_by_the_metrics_of_the_role():
    best = ['teacher/mIoU', 'student/aAcc', 'coco/bbox_mAP', 'auto']
    hooks = exported(
        'student', checkpoint=dict(type='mmadm.RoleCheckpointHook', interval=3, save_best=best), timer=None,
        guard=dict(type='mmadm.NonFiniteGuardHook'),
    ).default_hooks  # fmt: skip
    wanted = dict(type='CheckpointHook', interval=3, save_best=['aAcc', 'coco/bbox_mAP', 'auto'])
    assert hooks == dict(checkpoint=wanted, timer=None)
