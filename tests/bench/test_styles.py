"""Methods can be told apart in every kind of figure."""

from itertools import combinations, pairwise

from mmadm.bench.styles import PALETTE, method_styles


def test_no_two_methods_look_alike():
    styles = list(method_styles([f'method{number}' for number in range(49)]).values())
    assert all((a.colour, a.marker) != (b.colour, b.marker) for a, b in combinations(styles, 2))
    assert all((a.colour, a.line, a.hatch) != (b.colour, b.line, b.hatch) for a, b in combinations(styles[:28], 2))
    assert all(a.colour != b.colour and a.marker != b.marker for a, b in pairwise(styles))


def test_the_plain_method_is_grey_and_the_rest_does_not_depend_on_what_follows():
    assert method_styles(['student'])['student'].colour == PALETTE[0]
    few, many = method_styles(['student', 'dml']), method_styles(['student', 'dml', 'adm'])
    assert few == {method: many[method] for method in few}
