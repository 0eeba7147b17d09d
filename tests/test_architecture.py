from importlinter.cli import lint_imports


def test_imports_go_down_and_each_power_has_one_owner():
    """The contracts are in pyproject.toml."""
    assert lint_imports(no_cache=True) == 0
