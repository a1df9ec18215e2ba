"""``mmadm report``: the page of one training, and what it refuses."""

import json

import pytest

from mmadm.cli import report


@pytest.fixture
def work_dir(tmp_path):
    """What a stock training by hand leaves at least: a log and its config."""
    folder = tmp_path / 'work/20300101_000000/vis_data'
    folder.mkdir(parents=True)
    (folder / 'scalars.json').write_text(json.dumps(dict(step=1, loss=1.0, time=0.5)))
    (folder.parents[1] / 'mine.py').write_text("model = dict(type='Mine')\n")
    return folder.parents[1]


def refused(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        report.main([str(word) for word in words])
    assert ended.value.code == 1
    return capsys.readouterr().err


def test_the_page_lies_in_the_work_dir_and_is_not_overwritten(work_dir, capsys):
    report.main([str(work_dir)])
    told = capsys.readouterr().out
    assert f'report: {work_dir / "report.html"}' in told
    assert 'not on the page: Learning curves: no validation was logged.' in told
    assert 'not on the page: Predictions: the roles predict neither class maps nor boxes.' in told
    page = work_dir / 'report.html'
    assert '<h1>mine</h1>' in page.read_text()
    page.write_text('mine')
    assert 'report.html exists: give another --out, or --force' in refused(capsys, work_dir)
    assert page.read_text() == 'mine'
    report.main([str(work_dir), '--force'])
    assert '<h1>mine</h1>' in page.read_text()


def test_bad_input_is_one_sentence(work_dir, capsys):
    assert 'a page ends with .html' in refused(capsys, work_dir, '--out', 'page.txt')
    assert 'no such folder' in refused(capsys, work_dir / 'nothing')
    (work_dir.parent / 'file').write_text('')
    assert '--out' in refused(capsys, work_dir, '--out', work_dir.parent / 'file/page.html')
