"""``load_from``: a stock checkpoint goes into the deploy role, or is refused with the key that would be right."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from served_files import Bait, served
from small_segmentors import build, segmentor
from small_trainings import load_tool, role_config, runner_of, same, stock_config, write_images

from mmadm.utils.errors import CheckpointError

train = load_tool('train')


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    return write_images(tmp_path_factory.mktemp('data'))


def saved(path: Path, cfg: dict, prefix: str = '', seed: int = 7) -> str:
    """Write a stock checkpoint of a network."""
    state = build(cfg, seed).state_dict(prefix=prefix)
    torch.save(dict(meta={}, state_dict=state), path)
    return str(path)


def alone(data: Path, **options):
    """Config of a student without a distiller."""
    cfg = role_config(data, iterations=2, **options)
    cfg.model.distillers = []
    for part in (cfg.model.roles, cfg.optim_wrapper, cfg.param_scheduler):
        part.pop('teacher')
    return cfg


def trained(cfg, work_dir: Path, **settings):
    """Train, quietly; returns a copy of the weights."""
    runner = runner_of(cfg, work_dir, **settings)
    runner.train()
    return {key: value.clone() for key, value in runner.model.state_dict().items()}


@pytest.mark.parametrize(('classes', 'prefix'), [(5, ''), (5, 'module.'), (3, '')])
def test_the_student_trains_as_the_stock_toolbox_does_from_that_file(data, tmp_path, classes, prefix):
    file = saved(tmp_path / 'a.pth', segmentor(4, classes=classes), prefix)
    stock = trained(stock_config(data, iterations=2), tmp_path / 'stock', load_from=file)
    mine = trained(alone(data), tmp_path / 'mine', load_from=file)
    assert same({key.removeprefix('roles.student.'): value for key, value in mine.items()}, stock)
    assert not same(trained(stock_config(data, iterations=2), tmp_path / 'random'), stock)


def test_the_other_roles_start_as_without_it(data, tmp_path, caplog, capsys):
    file = saved(tmp_path / 'a.pth', segmentor(4))
    cfg = role_config(data, iterations=1)
    cfg.optim_wrapper.student.optimizer.lr = cfg.optim_wrapper.teacher.optimizer.lr = 0.0
    plain, loaded = (runner_of(cfg, tmp_path / name, load_from=start) for name, start in (('a', None), ('b', file)))
    loaded.logger.addHandler(caplog.handler)
    loaded.logger.setLevel(logging.INFO)
    for runner in (plain, loaded):
        runner.train()
    expected = torch.load(file)['state_dict']
    found, others = loaded.model.state_dict(), plain.model.state_dict()
    for name, value in loaded.model.named_parameters():
        mine = name.startswith('roles.student.')
        assert torch.equal(value, expected[name.removeprefix('roles.student.')] if mine else others[name]), name
    assert list(found) == list(others)
    logged = [record.getMessage().strip() for record in caplog.records]
    assert "The checkpoint is of a single network: its weights go into the deploy role 'student'." in logged
    assert 'do not match' not in capsys.readouterr().out  # that the file lacks the teacher is no news


@pytest.mark.parametrize(
    ('file', 'message'),
    [
        (dict(cfg=segmentor(8)), r"not of the deploy role 'student'; .* model\.roles\.<role>\.checkpoint: of \d+ keys"),
        (
            dict(cfg=segmentor(4), prefix='architecture.'),
            "It holds a network below 'architecture', as .* of mmrazor do",
        ),
    ],
)
def test_what_is_not_of_the_deploy_role_is_refused(data, tmp_path, file, message):
    file = saved(tmp_path / 'a.pth', **file)
    with pytest.raises(CheckpointError, match=message):
        trained(role_config(data), tmp_path / 'work', load_from=file)


def test_it_does_not_replace_a_checkpoint_of_the_role_in_silence(data, tmp_path):
    cfg = role_config(data)
    cfg.model.roles.student = dict(cfg=segmentor(4), checkpoint=saved(tmp_path / 'a.pth', segmentor(4)))
    other = saved(tmp_path / 'b.pth', segmentor(4), seed=8)
    with pytest.raises(CheckpointError, match=r'would replace what model\.roles\.student\.checkpoint says: remove one'):
        trained(cfg, tmp_path / 'work', load_from=other)


def test_the_tool_takes_it_and_says_before_building_that_it_is_not_there(data, tmp_path, capsys):
    cfg = alone(data)
    cfg.optim_wrapper.student.optimizer.lr = 0.0
    cfg.load_from = saved(tmp_path / 'a.pth', segmentor(4))
    cfg.dump(tmp_path / 'cfg.py')
    train.main([str(tmp_path / 'cfg.py'), '--work-dir', str(tmp_path / 'work')])
    student = torch.load(tmp_path / 'work/iter_2_student.pth')['state_dict']
    weights = torch.load(tmp_path / 'a.pth')['state_dict']
    assert torch.equal(student['backbone.conv1.weight'], weights['backbone.conv1.weight'])
    gone = ['--cfg-options', 'load_from=gone.pth', 'model.type=NoSuchModel']
    with pytest.raises(SystemExit):
        train.main([str(tmp_path / 'cfg.py'), '--work-dir', str(tmp_path / 'none'), *gone])
    assert "error: load_from='gone.pth': no such file" in capsys.readouterr().err


def test_a_url_is_read_as_safely_as_a_file(data, tmp_path, monkeypatch):
    """Into the deploy role as well; by itself mmengine's Runner would run what the file holds."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'cache'))
    monkeypatch.setenv('no_proxy', '*')
    monkeypatch.chdir(tmp_path)
    student = torch.load(saved(tmp_path / 'good.pth', segmentor(4)))['state_dict']
    torch.save(dict(meta=Bait(), state_dict=student), tmp_path / 'odd.pth')
    cfg = alone(data)
    cfg.optim_wrapper.student.optimizer.lr = 0.0
    with served(tmp_path) as url:
        found = trained(cfg, tmp_path / 'good', load_from=f'{url}/good.pth')
        with pytest.raises(CheckpointError, match=r"load_from='http.*odd\.pth' holds eval, and such a class"):
            trained(cfg, tmp_path / 'odd', load_from=f'{url}/odd.pth')
        with pytest.raises(CheckpointError, match=r"load_from='http.*gone\.pth' cannot be read \(HTTPError"):
            trained(cfg, tmp_path / 'gone', load_from=f'{url}/gone.pth')
    assert not Path('ran').exists()
    assert torch.equal(found['roles.student.backbone.conv1.weight'], student['backbone.conv1.weight'])
