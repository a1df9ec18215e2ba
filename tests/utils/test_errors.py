"""What an error offers instead of a misspelt name."""

from mmadm.utils.errors import near_matches


def test_near_matches():
    assert near_matches('techer', ['student', 'teacher']) == "did you mean 'teacher'?"
    assert near_matches('x', ['student', 'teacher']) == "valid: 'student', 'teacher'"
    assert near_matches('x', map(str, range(100, 112))).endswith('(12 in all)')
