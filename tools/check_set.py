"""Check the finished .venv: the locked versions are the installed ones, and the delicate five load in one process.

Run by .venv/bin/python. Prints one ok line, or says in one line what is wrong and exits with 1.
"""

import re
import warnings
from importlib import import_module
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path

import build_horovod

LOCK = Path(__file__).resolve().parent.parent / "requirements.lock"
TOGETHER = ("numpy", "pyarrow", "torch", "horovod", "petastorm")
MODULES = (
    "numpy",
    "pyarrow",
    "torch",
    "horovod.torch",
    "horovod.spark",
    "petastorm.reader",
    "petastorm.pytorch",
)


def main() -> None:
    wanted = locked_versions()
    wrong = [line for name, version in wanted.items() if (line := difference(name, version))]
    if wrong:
        raise SystemExit(f"set-up: {'; '.join(wrong[:5])}: start anew with `rm -r .venv && make setup`")
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"petastorm")
    for module in MODULES:
        try:
            import_module(module)
        except Exception as error:  # a broken binary raises what it likes
            raise SystemExit(
                f"set-up: {module} does not load beside the others: {type(error).__name__}: {error}"
            ) from None
    print("ok: " + ", ".join(f"{name} {wanted[name]}" for name in TOGETHER) + " load together")


def locked_versions() -> dict[str, str]:
    """Package to version, of the lock file and Horovod's pin."""
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)", LOCK.read_text(), flags=re.MULTILINE))
    return {**pins, "horovod": build_horovod.version()}


def difference(name: str, wanted: str) -> str:
    """What is wrong with one package, or nothing. A local part is let pass: torch 2.13.0+cpu is torch 2.13.0."""
    try:
        found = installed_version(name)
    except PackageNotFoundError:
        return f"{name} is not installed, {wanted} is wanted"
    return "" if found.partition("+")[0] == wanted else f"{name} {found} is installed, {wanted} is wanted"


if __name__ == "__main__":
    main()
