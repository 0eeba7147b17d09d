"""The benchmarks' own arithmetic, and that both sides of each still run and agree: tiny sizes, no time judged."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import encode
import evaluate
import harness
import numpy as np
import pytest
import quality
import topk

REPOSITORY = Path(__file__).parent.parent
BENCHMARKS = REPOSITORY / "benchmarks"
SLEEPER = f"""
import sys, time
sys.path.insert(0, {str(BENCHMARKS)!r})
from serve import serve

def work(seconds, mib=0):
    memory = bytearray(mib << 20)
    time.sleep(seconds)

serve(lambda: (work, None))
"""


def line(ours: list[float], peer: list[float], goal: float, same: bool = True) -> harness.Line:
    return harness.Line("work", ours, peer, goal, same)


def test_medians_of_2_and_6_make_a_ratio_of_3():
    told = line([1, 2, 9], [5, 6, 30], goal=3).as_json()
    assert (told["ours"], told["peer"], told["ratio"]) == (2, 6, 3)
    assert (told["ours_spread"], told["peer_spread"]) == ([1, 9], [5, 30])


def test_a_goal_is_reached_at_3_and_not_at_3_1_nor_by_another_answer():
    assert line([2], [6], goal=3).reached
    assert not line([2], [6], goal=3.1).reached
    assert not line([2], [6], goal=3, same=False).reached


@pytest.mark.parametrize("quick", [True, False])
def test_another_answer_ends_with_an_error_and_is_not_kept(
    quick: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    with pytest.raises(SystemExit, match="the two sides' answers differ, so nothing is kept: work"):
        harness.tell("work", [line([2], [6], goal=3, same=False)], [], [100.0], quick=quick)
    assert not list(tmp_path.iterdir())


def test_a_result_is_kept_with_what_was_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    harness.tell("work", [line([2], [6], goal=3)], [], [100.0], quick=True)
    assert not list(tmp_path.iterdir())
    harness.tell("work", [line([2], [6], goal=3)], ["a peer"], [90.0, 100.0, 140.0], quick=False)
    kept = json.loads((tmp_path / "work.json").read_text())
    assert (kept["matmul_gflops"], kept["left_out"], kept["lines"][0]["reached"]) == (100.0, ["a peer"], True)
    harness.tell("work", [line([2], [6], goal=3)], ["a peer"], [90.0], quick=False, to_come=["a log"])
    assert json.loads((tmp_path / "work.json").read_text())["left_out"] == ["a peer", "a log: its turn had not come"]


def side(tmp_path: Path, name: str) -> harness.Side:
    return harness.Side(name, [sys.executable, "-c", SLEEPER], tmp_path)


def test_sides_take_turns_and_the_order_turns_round(tmp_path: Path):
    asked = []

    def contender(name: str, of: harness.Side) -> harness.Contender:
        def request(turn: int) -> dict[str, float]:
            asked.append((name, turn))
            return {"seconds": 0.01}

        return harness.Contender(name, of, request, {"seconds": 0})

    with side(tmp_path, "a") as a, side(tmp_path, "b") as b:
        took = harness.alternate([contender("a", a), contender("b", b)], turns=2, quick=False)
    assert asked == [("b", 0), ("a", 0), ("a", 0), ("b", 0), ("b", 1), ("a", 1)]  # the first two are not measured
    assert [len(took[name].seconds) for name in "ab"] == [2, 2]
    assert min(took["a"].seconds + took["b"].seconds) >= 0.01


def test_memory_is_that_of_the_work_and_not_of_what_came_before(tmp_path: Path):
    with side(tmp_path, "a") as a:
        _, large = a.run({"seconds": 0.5, "mib": 200})
        _, small = a.run({"seconds": 0})
    assert large - small > 150


def test_a_child_that_still_has_its_parents_memory_is_counted_once():
    """As between vfork and exec: the same resident and virtual bytes. Another child has its own."""

    def process(pid: int, parent: int, resident: int, *children: SimpleNamespace) -> SimpleNamespace:
        memory = SimpleNamespace(rss=resident << 20, vms=2 * resident << 20)
        return SimpleNamespace(
            pid=pid, ppid=lambda: parent, memory_info=lambda: memory, children=lambda recursive: list(children)
        )

    assert harness.resident_mib(process(1, 0, 500, process(2, 1, 500), process(3, 1, 80))) == 580


def test_a_model_that_not_all_seeds_have_names_those_that_do():
    def judged(model: str, seed: int, value: float) -> dict:
        about = {"config": "movielens-c", "seed": seed, "commit": "a" * 40 if seed == 42 else "b" * 40}
        return {**about, "model": model, "slice": "cold", "metric": "ndcg", "k": 10, "value": value}

    rows = [judged("full", 42, 0.3), judged("full", 43, 0.1), judged("ease", 43, 0.2)]
    protocol = quality.PROTOCOLS["movielens-c"]
    table = quality.table(protocol, quality.lines(protocol, rows))
    assert "| full model | .2000 ± .1414 |" in table
    assert "| EASE (seed 43 only) | .2000 |" in table
    assert quality.states(protocol, rows) == "seed 42 at commit aaaaaaa, seed 43 at commit bbbbbbb"


def test_tables_whose_data_are_not_there_are_left_out_by_name(monkeypatch: pytest.MonkeyPatch, capsys, tmp_path: Path):
    monkeypatch.delenv("RECSPARK_DATASETS", raising=False)
    assert quality.runnable(["movielens-c", "amazon-office"]) == ["conf/quality/movielens-c.yaml"]
    assert "left out: conf/quality/amazon-office.yaml" in capsys.readouterr().out
    monkeypatch.setenv("RECSPARK_DATASETS", str(tmp_path))
    with pytest.raises(SystemExit, match="which has no amazon-office"):
        quality.runnable(["amazon-office"])


def test_a_side_that_fails_says_why(tmp_path: Path):
    with (
        pytest.raises(RuntimeError, match=r"(?s)side a ended with status 1.*unexpected keyword argument 'weeks'"),
        side(tmp_path, "a") as a,
    ):
        a.run({"weeks": 1})


def test_an_answer_with_one_other_item_or_one_item_twice_differs():
    users, items = np.ones((1, 2), np.float32), np.float32([[3, 0], [2, 0], [1, 1], [0, 0]])
    best = np.array([[0, 1]])
    assert topk.alike(users, items, best, np.array([[0, 2]]))  # items 1 and 2 are tied
    assert not topk.alike(users, items, best, np.array([[0, 3]]))
    assert not topk.alike(users, items, best, np.array([[0, 0]]))
    assert not topk.alike(users, items, best, np.array([[0, -1]]))


def test_a_list_with_a_seen_item_is_not_filtered():
    users, items = np.ones((2, 1), np.float32), np.float32([[3], [2], [1]])
    seen = np.array([[0, 0]])
    assert topk.filters(users, items, seen, np.array([[1, 2], [0, 1]]))
    assert not topk.filters(users, items, seen, np.array([[0, 1], [0, 1]]))
    assert not topk.filters(users, items, seen, np.array([[1, 2], [1, 2]]))


def test_a_text_of_ten_tokens_takes_213_million_operations_in_minilm():
    """Six layers: 2 x 10 x (4 x 384² + 2 x 384 x 1536) of the weights and 4 x 10² x 384 of the attention."""
    assert encode.flops([10]) == 6 * (2 * 10 * (589_824 + 1_179_648) + 4 * 100 * 384)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("preprocess", 2),
        ("topk", 4),
        ("ann", 2),
        ("encode", 4),
        ("train", 1),
        ("factorize", 2),
        ("evaluate", 1),
        ("workers", 1),
    ],
)
def test_both_sides_still_run_and_agree(name: str, lines: int):
    results = {path: path.read_bytes() for path in harness.RESULTS.iterdir()}
    env = {key: value for key, value in os.environ.items() if key != "RECSPARK_DATASETS"}
    command = [sys.executable, BENCHMARKS / f"{name}.py", "--quick"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY, env=env)
    assert ran.returncode == 0, ran.stderr
    if name == "evaluate" and (evaluate.PEERS / ".ready").exists():
        lines += 2
    assert ran.stdout.count("| – | yes |") == lines
    assert ("left out: amazon" in ran.stdout) == (name in ("encode", "factorize"))
    assert results == {path: path.read_bytes() for path in harness.RESULTS.iterdir()}
