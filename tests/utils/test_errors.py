"""What an error says of names: those that may be meant, and the first of many."""

from mmadm.utils.errors import first_of, near_matches
from mmadm.utils.weights import Misfit


def test_near_matches():
    assert near_matches('techer', ['student', 'teacher']) == "did you mean 'teacher'?"
    assert near_matches('x', ['student', 'teacher']) == "valid: 'student', 'teacher'"
    assert near_matches('x', map(str, range(100, 112))).endswith("'109' and 2 more")


def test_the_first_of_many_names():
    names = [f'layer{i}' for i in range(300)]
    assert first_of(names) == 'layer0, layer1, layer2, layer3, layer4 and 295 more'
    assert first_of(names[:5]) == 'layer0, layer1, layer2, layer3, layer4'
    misfit = Misfit(missing=tuple(names), reshaped=dict.fromkeys(names, ('1', '2')), unknown=tuple(names))
    assert str(misfit).count('and 295 more') == 3 and len(str(misfit)) < 400
