"""A network that the toolbox itself cannot read or build: one sentence that names the role and the reason."""

from __future__ import annotations

import sys

import pytest
import torch
from small_segmentors import distillation, segmentor

from mmadm.utils.errors import CheckpointError, ConfigError


def refused(roles, match):
    with pytest.raises(ConfigError, match=match) as found:
        distillation(roles=roles, deploy='student')
    assert '\n' not in str(found.value)


def test_a_missing_package_is_named_wherever_it_is_missing(tmp_path):
    imports = tmp_path / 'imports.py'
    imports.write_text(
        "custom_imports = dict(imports=['no_such_package.models'], allow_failed_imports=False)\n"
        f"default_scope = 'mmseg'\nmodel = {segmentor()}"
    )
    refused(
        dict(student=dict(cfg=str(imports))),
        r"model\.roles\.student: cfg=.*imports\.py' cannot be read as a config: it needs the package "
        r"'no_such_package', which is not installed$",
    )


def test_what_a_toolbox_says_of_its_own_config_is_passed_on(tmp_path):
    student = segmentor()
    student['backbone']['depth'] = 19
    refused(
        dict(student=student), r'model\.roles\.student: EncoderDecoder cannot be built: KeyError: .*invalid depth 19'
    )
    lacking = tmp_path / 'lacking.py'
    lacking.write_text("_base_ = './nowhere.py'")
    refused(dict(student=dict(cfg=str(lacking))), r'cannot be read as a config: FileNotFoundError: .*nowhere\.py')


def test_weights_that_come_through_a_missing_package(monkeypatch):
    monkeypatch.setitem(sys.modules, 'torchvision', None)  # as if it were not installed
    student = segmentor()
    student['backbone']['init_cfg'] = dict(type='Pretrained', checkpoint='torchvision://resnet18')
    with pytest.raises(
        CheckpointError, match=r"model\.roles\.student: its `init_cfg` .* package 'torchvision', which is"
    ):
        distillation(roles=dict(student=student), distillers=[], deploy='student').init_weights()


@pytest.mark.parametrize('content', [b'no.', [torch.zeros(2)], {7: torch.zeros(2)}], ids=['bytes', 'list', 'numbers'])
def test_pretrained_weights_that_are_none(tmp_path, content):
    file = tmp_path / 'weights.pth'
    file.write_bytes(content) if isinstance(content, bytes) else torch.save(content, file)
    student = segmentor()
    student['backbone']['init_cfg'] = dict(type='Pretrained', checkpoint=str(file))
    with pytest.raises(
        CheckpointError, match=r'model\.roles\.student: a file that `init_cfg` .* names is truncated or not'
    ):
        distillation(roles=dict(student=student), distillers=[], deploy='student').init_weights()
