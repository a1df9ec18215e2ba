"""What the demo's table says."""

from rich.console import Console

from mmadm.demo.comparison import score_table


def record(method, seed, **scores):
    parameters = dict(student=127433, teacher=458359)
    return dict(method=method, seed=seed, val=scores, test={}, time=0.1, memory=1.0, parameters=parameters)


def test_the_gain_is_paired_by_seed(capsys):
    records = [record('student', 0, student=30.0), record('student', 1, student=40.0)]
    records += [record('distilled', 1, student=42.0), record('distilled', 0, student=31.0)]
    Console(width=120).print(score_table(records, 50.5))
    plain, distilled, teacher = [line for line in capsys.readouterr().out.splitlines() if '│' in line]
    # differences 1 and 2: mean 1.5, standard deviation 0.7071, 12.706 of them over the root of 2 to each side
    assert '35.0 ± 7.1' in plain and '127,433' in plain
    assert '36.5' in distilled and '+1.5 [-4.9, +7.9]' in distilled
    assert '50.5' in teacher and '458,359' in teacher


def test_one_seed_has_no_interval(capsys):
    rows = [record('student', 0, student=30.0), record('distilled', 0, student=31.3)]
    Console(width=120).print(score_table(rows, 50.0))
    shown = capsys.readouterr().out
    assert '+1.3' in shown and 'interval' not in shown
