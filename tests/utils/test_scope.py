"""Names of one toolbox after another's, without a warning of mmengine."""

from mmengine.registry import MODELS, DefaultScope

from mmadm.utils.scope import use_scope


def test_the_scope_changes_without_a_word(capfd):
    before = DefaultScope.get_current_instance()
    try:
        for scope in ('mmseg', 'mmdet', 'mmdet', None):
            use_scope(scope)
            with MODELS.switch_scope_and_registry(None) as registry:
                assert registry.scope == (scope or 'mmengine')
    finally:
        use_scope(before.scope_name if before else None)
    assert 'force set' not in ''.join(capfd.readouterr())
