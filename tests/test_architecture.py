import subprocess
import sys


def test_imports_go_down_and_each_power_has_one_owner():
    """The contracts are in pyproject.toml. In a process of its own: import-linter turns off the loggers that are there."""
    call = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run([sys.executable, "-c", call], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
