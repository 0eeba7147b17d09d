"""The demo's night by stage, beside the one kept last; and a second night with one text and one user in a hundred changed, beside the first: `make bench-night`.

The second night keeps the first's retriever (`embed.retriever: newest`), so no fine-tuning is in it. A turn is two nights on a
lake of its own, a quarter of an hour on two cores, so there is one unless --turns says otherwise.
"""

import argparse
import csv
import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import pyarrow.dataset as ds
import yaml
from harness import RESULTS, ROOT, Line, matmul_gflops, tell

from recspark.data.catalogue import vectors_of

DATES = ("2026-01-02", "2026-01-03")
CHANGED = 100  # one in so many
EMBED_GOAL, NIGHT_GOAL, STAGE_GOAL = 20.0, 4.0, 0.8
KEPT = RESULTS / "night.json"
QUICK_USERS = 80
Seconds = dict[str, list[float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="few users and an epoch: does a second night still take what is there?"
    )
    parser.add_argument("--turns", type=int, default=1, help="pairs of nights")
    given = parser.parse_args()
    rates, nights, same = matmul_gflops(given.turns), [defaultdict(list), defaultdict(list)], True
    for _ in range(given.turns):
        with TemporaryDirectory() as name:
            folder = Path(name)
            write_raw(folder, QUICK_USERS if given.quick else None)
            run(folder, DATES[0], given.quick)
            texts = change(folder)
            run(folder, DATES[1], given.quick)
            same = same and taken_over(folder / "lake", texts)
            for seconds, date in zip(nights, DATES, strict=True):
                for stage, took in stage_seconds(folder / "lake", date).items():
                    seconds[stage].append(took)
    lines, left_out = lines_of(*nights, same), []
    if KEPT.exists():
        lines += since_last(nights[0], json.loads(KEPT.read_text()))
    else:
        left_out.append("the demo's night beside the one kept last: none is kept")
    tell("night", lines, left_out, rates + matmul_gflops(given.turns), given.quick, stages=dict(nights[0]))


def write_raw(folder: Path, users: int | None) -> None:
    """MovieLens-100K, or its first users, in its own files' form."""
    for kind in ("inter", "item", "user"):
        frame = read_raw(ROOT / ".data" / "ml-100k", kind)
        if users and kind != "item":
            frame = frame[frame["user_id:token"].astype(int) <= users]
        write(frame, folder, kind)


def read_raw(folder: Path, kind: str) -> pd.DataFrame:
    return pd.read_csv(folder / f"ml-100k.{kind}", sep="\t", dtype=str, quoting=csv.QUOTE_NONE)


def write(frame: pd.DataFrame, folder: Path, kind: str) -> None:
    frame.to_csv(folder / f"ml-100k.{kind}", sep="\t", index=False, quoting=csv.QUOTE_NONE)


def change(folder: Path) -> int:
    """Every hundredth film gets another title, every hundredth user another event, his last again; returns how many films."""
    films, log = read_raw(folder, "item"), read_raw(folder, "inter")
    films.loc[::CHANGED, "movie_title:token_seq"] += " restored"
    last = log.sort_values("timestamp:float").groupby("user_id:token").tail(1)[::CHANGED]
    later = last.assign(**{"timestamp:float": (last["timestamp:float"].astype(float) + 1).astype(str)})
    write(films, folder, "item")
    write(pd.concat([log, later]), folder, "inter")
    return len(films[::CHANGED])


def run(folder: Path, date: str, quick: bool) -> None:
    """A night as `make demo` runs it, but on the folder's raw data and lake."""
    settings = yaml.safe_load((ROOT / "conf" / "demo.yaml").read_text())
    settings["lake"] = str(folder / "lake")
    settings["encoder"]["path"] = str(ROOT / ".data" / "minilm")
    for kind, file in (("interactions", "inter"), ("items", "item"), ("users", "user")):
        settings["preprocess"][kind]["path"] = str(folder / f"ml-100k.{file}")
    settings["embed"] = {"retriever": "newest"}
    if quick:
        settings["finetune"]["epochs"] = 1
        settings["evaluate"] = {"baselines": [{"kind": "popularity"}], "new_users": [], "slices": False}
    (folder / "night.yaml").write_text(yaml.safe_dump(settings))
    command = [sys.executable, "-c", "from recspark.cli import main; main()"]
    command += ["run", "--config", str(folder / "night.yaml"), "--run-date", date]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"the night of {date} failed:\n{done.stderr[-3000:]}")


def stage_seconds(lake: Path, date: str) -> dict[str, float]:
    """Of the stages that ran, in their order."""
    files = (lake / "logs" / f"run_date={date}").glob("stage-*.json")
    records = [json.loads(path.read_text()) for path in sorted(files, key=lambda path: path.stat().st_mtime)]
    return {record["stage"]: record["seconds"] for record in records}


def taken_over(lake: Path, changed: int) -> bool:
    """Whether the second night has the first's vector of every text that is in both, to the last bit, and new ones of the others alone."""
    first, second = (vectors(lake, date) for date in DATES)
    both = first.keys() & second.keys()
    return all((first[text] == second[text]).all() for text in both) and 0 < len(second.keys() - both) <= changed


def vectors(lake: Path, date: str) -> dict[str, Any]:
    table = ds.dataset(lake / "text_vectors" / f"run_date={date}").to_table(columns=["text_hash", "vector"])
    return dict(zip(table["text_hash"].to_pylist(), vectors_of(table["vector"]), strict=True))


def lines_of(first: Seconds, second: Seconds, same: bool) -> list[Line]:
    what = f"second night, one text and user in {CHANGED} changed, beside the first"
    wholes = [[sum(turn) for turn in zip(*night.values(), strict=True)] for night in (second, first)]
    return [
        Line(f"embed of the {what}, seconds", second["embed"], first["embed"], EMBED_GOAL, same),
        Line(f"all stages of the {what}, which also fine-tunes, seconds", *wholes, NIGHT_GOAL, same),
    ]


def since_last(first: Seconds, kept: dict[str, Any]) -> list[Line]:
    """The demo's stages beside the result kept last, which may be another machine's: then it says more of the machine."""
    return [
        Line(f"demo, {stage}, beside {kept['commit'][:8]}, seconds", seconds, kept["stages"][stage], STAGE_GOAL, True)
        for stage, seconds in first.items()
        if stage in kept["stages"]
    ]


if __name__ == "__main__":
    main()
