"""What a lake or a configuration could do to who reads it: nothing that runs code, and nothing outside its root."""

import ast
import datetime
from pathlib import Path

import numpy as np
import pytest
import yaml

from recspark.data.matrices import Matrix
from recspark.tables import TABLES

REPOSITORY = Path(__file__).parent.parent
SOURCES = sorted(p for room in ("recspark", "jobs", "tools", "benchmarks") for p in (REPOSITORY / room).rglob("*.py"))
LOADS_CODE = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
RUNS_CODE = {"eval", "exec", "compile"}


def calls(tree: ast.AST):
    """(dotted name, call) of every call."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(REPOSITORY)))
def test_nothing_is_unpickled_or_evaluated(path: Path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    imported |= {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert not {name.partition(".")[0] for name in imported} & LOADS_CODE
    for name, call in calls(tree):
        assert name not in RUNS_CODE, f"line {call.lineno}"
        assert name not in ("torch.load", "yaml.load", "pd.read_pickle", "pandas.read_pickle"), f"line {call.lineno}"
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert given.get("allow_pickle") in (None, "False"), f"line {call.lineno}"
        assert given.get("trust_remote_code") != "True", f"line {call.lineno}"
        assert given.get("shell") != "True", f"line {call.lineno}"


def test_an_array_in_the_lake_that_would_run_code_is_not_read(tmp_path: Path):
    np.save(tmp_path / "dense.npy", np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match=r"objects|pickle"):
        Matrix(str(tmp_path)).read()


def test_tables_and_dates_cannot_leave_the_root():
    for name in TABLES:
        assert name.replace("_", "").isalnum()
    for date in ("../2026-01-01", "2026-01-01/..", "today"):
        with pytest.raises(ValueError, match="isoformat"):
            datetime.date.fromisoformat(date)


def test_a_configuration_is_data():
    with pytest.raises(yaml.YAMLError):
        yaml.safe_load("lake: !!python/object/apply:os.system ['true']")
