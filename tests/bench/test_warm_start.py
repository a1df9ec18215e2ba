"""Runs that fork from a warm process do what runs in processes of their own do."""

import json

import pytest

from mmadm.bench.command import main
from mmadm.bench.jobs import RunFailedError
from mmadm.bench.warm_start import WarmLauncher


@pytest.fixture(scope='module')
def launcher(tmp_path_factory):
    root = tmp_path_factory.mktemp('root')
    (root / 'tools').mkdir()
    (root / 'tools' / 'told.py').write_text(
        'import json, sys\n'
        'print(json.dumps([sys.argv[1:], "torch" in sys.modules, __name__]))\n'
        'print("noted", file=sys.stderr)\n'
        'sys.exit(int(sys.argv[1]))\n'
    )
    return WarmLauncher(root, 1)


def test_a_script_runs_as_if_started_by_itself_with_everything_imported(launcher, tmp_path):
    usage = launcher._call('told.py', [0, tmp_path], tmp_path / 'log')
    told, noted = (tmp_path / 'log').read_text().splitlines()
    assert json.loads(told) == [['0', str(tmp_path)], True, '__main__'] and noted == 'noted'
    assert usage['memory'] > 1 and usage['seconds'] >= 0


def test_a_failure_tells_the_end_of_its_log(launcher, tmp_path):
    with pytest.raises(RunFailedError, match=r'(?s)told.py ended with 3.*noted'):
        launcher._call('told.py', [3], tmp_path / 'log')


def test_a_stopped_launcher_starts_nothing(tmp_path):
    launcher = WarmLauncher(tmp_path)
    launcher.stop()
    with pytest.raises(RunFailedError, match='stopping'):
        launcher._call('told.py', [0], tmp_path / 'log')


def test_a_warm_start_and_another_launcher_exclude_each_other(capsys):
    assert main(['run', 'demo', '--warm', '--launcher', 'pytorch']) == 2
    assert '--warm' in capsys.readouterr().out
