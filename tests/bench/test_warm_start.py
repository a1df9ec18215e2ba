"""Runs that fork from a warm process do what runs in processes of their own do."""

import json
import os

import pytest

from mmadm.bench.command import main
from mmadm.bench.jobs import RunFailedError
from mmadm.bench.warm_start import WarmLauncher


@pytest.fixture(scope='module')
def launcher(tmp_path_factory):
    root = tmp_path_factory.mktemp('root')
    (root / 'tools').mkdir()
    (root / 'tools' / 'told.py').write_text(
        'import json, os, sys\n'
        'print(json.dumps([sys.argv[1:], "torch" in sys.modules, __name__, os.getpid()]))\n'
        'print("noted", file=sys.stderr)\n'
        'if sys.argv[1] == "killed":\n    os.kill(os.getpid(), 9)\n'
        'sys.exit(int(sys.argv[1]))\n'
    )
    return WarmLauncher(root, 1)


def test_scripts_have_processes_of_their_own_that_have_imported_everything(launcher, tmp_path):
    usage = [launcher._call('told.py', [0, tmp_path], tmp_path / name) for name in 'ab']
    told = [(tmp_path / name).read_text().splitlines() for name in 'ab']
    (arguments, imported, name, pid), again = (json.loads(first) for first, _ in told)
    assert (arguments, imported, name) == (['0', str(tmp_path)], True, '__main__') and len(
        {again[3], pid, os.getpid()}
    ) == 3
    assert [noted for _, noted in told] == ['noted', 'noted']
    assert usage[0]['memory'] > 1 and usage[0]['seconds'] >= 0


@pytest.mark.parametrize(
    ('code', 'told'), [(3, 'told.py ended with 3.*noted'), ('killed', 'ended with a killed process')]
)
def test_a_failure_tells_the_end_of_its_log(launcher, tmp_path, code, told):
    with pytest.raises(RunFailedError, match=f'(?s){told}'):
        launcher._call('told.py', [code], tmp_path / 'log')


def test_a_stopped_launcher_starts_nothing(tmp_path):
    launcher = WarmLauncher(tmp_path)
    launcher.stop()
    with pytest.raises(RunFailedError, match='stopping'):
        launcher._call('told.py', [0], tmp_path / 'log')


def test_a_warm_start_and_another_launcher_exclude_each_other(capsys):
    assert main(['run', 'demo', '--warm', '--launcher', 'pytorch']) == 2
    assert '--warm' in capsys.readouterr().out
