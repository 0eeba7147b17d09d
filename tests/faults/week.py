"""`make week`: seven nights on a log that arrives by the day; the last one's tables beside those of a lake that had no nights before.

Every day brings new events, some of them late, new users and new items. A retriever serves four nights; the fourth night is killed and stays
dead. The other lake has only the night that trained the last retriever and, with every text encoded anew, the last night. About 10 minutes on 2 cores.
"""

import argparse
import csv
import datetime
import os
import shutil
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from tests import nightly
from tests.tiny_encoder import make_tiny_encoder

FIRST = datetime.date(2026, 1, 2)
DAYS = [str(FIRST + datetime.timedelta(days=n)) for n in range(7)]
BEFORE = 0.6  # of the events have arrived by the first day
LATE = 10  # one event in so many arrives one or two days late
SERVES = 4  # nights a retriever
KILLED, TRAINED, LAST = DAYS[3], DAYS[SERVES], DAYS[-1]
COMPARED = (
    "interactions",
    "items",
    "users",
    "text_vectors",
    "item_vectors",
    "user_vectors",
    "candidates",
    "recommendations",
    "metrics",
)


class Week:
    """Raw data by the day, and a lake that nights of it are written to."""

    def __init__(self, folder: Path):
        self.folder = folder
        nightly.sample_movielens(folder, users=120, least=8)
        arrive(folder)
        encoder = make_tiny_encoder(folder / "encoder", layers=2)
        settings = nightly.small_night(folder, Path("lake"), encoder)
        settings["lake"] = "${WEEK_LAKE}"
        log = settings["preprocess"]["interactions"]
        log |= {"path": str(folder / "log"), "arrived": {"column": "ds"}}
        settings["preprocess"]["items"]["path"] = f"{folder}/catalogue-${{WEEK_DAY}}.csv"
        settings["embed"] |= {"retriever": "newest", "retrain": {"days": SERVES}}
        # A hundred users' lists and metrics change much from day to day.
        settings["publish"] = {"guardrails": {"quality_lost": None, "lists_changed": None, "score_drift": None}}
        self.config = nightly.write_config(folder / "night.yaml", settings)

    def night(self, lake: str, day: str, killed_in: str | None = None) -> None:
        """The whole of it, or, with a stage to be killed in, up to somewhere in that."""
        began, log = time.time(), self.folder / f"{lake}-{day}.log"
        command = nightly.recspark_command("run", "--config", str(self.config), "--run-date", day)
        env = {**nightly.environment(), "WEEK_LAKE": str(self.folder / lake), "WEEK_DAY": day}
        with log.open("w") as stream:
            process = subprocess.Popen(command, env=env, stdout=stream, stderr=stream, start_new_session=True)
        if killed_in:
            wait_for(log, f"{killed_in}: reads", process)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            print(f"{lake} {day}: killed in {killed_in}", flush=True)
            return
        if process.wait():
            raise SystemExit(f"the night of {day} failed:\n{log.read_text(errors='replace')[-3000:]}")
        rows = {
            table: len(nightly.read(self.folder / lake, table, day)) for table in ("interactions", "items", "users")
        }
        trained = any((self.folder / lake / "models" / "retriever").glob(f"version={day}-*"))
        told = ", ".join(f"{n:,} {table}" for table, n in rows.items())
        print(
            f"{lake} {day}: {told}; {'trained' if trained else 'nothing trained'}; {time.time() - began:.0f} s",
            flush=True,
        )


def arrive(folder: Path) -> None:
    """Cut the sample into a sub-folder of the log for each day, and a catalogue of what has been met by then."""
    log = pd.read_csv(folder / "ml-100k.inter", sep="\t", dtype=str)
    items = pd.read_csv(folder / "ml-100k.item", sep="\t", dtype=str, quoting=csv.QUOTE_NONE)
    order = log["timestamp:float"].astype(float).rank(method="first", pct=True)
    day = np.ceil((order - BEFORE) / (1 - BEFORE) * (len(DAYS) - 1)).clip(lower=0).astype(int)
    hashes = [zlib.crc32(f"{u} {i}".encode()) for u, i in zip(log["user_id:token"], log["item_id:token"], strict=True)]
    late = np.array([1 + h // LATE % 2 if h % LATE == 0 else 0 for h in hashes])
    arrived = (day + late).clip(upper=len(DAYS) - 1)
    for number, name in enumerate(DAYS):
        place = folder / "log" / f"ds={name}"
        place.mkdir(parents=True)
        log[arrived == number].to_csv(place / "part.csv", sep="\t", index=False)
        met = items["item_id:token"].isin(log.loc[arrived <= number, "item_id:token"])
        items[met].to_csv(folder / f"catalogue-{name}.csv", sep="\t", index=False, quoting=csv.QUOTE_NONE)
    print(f"{len(log):,} events, {int(((late > 0) & (arrived > day)).sum()):,} of them late", flush=True)


def wait_for(log: Path, sign: str, process: subprocess.Popen) -> None:
    while sign not in log.read_text(errors="replace"):
        if process.poll() is not None:
            raise SystemExit(f"ended before it said {sign!r}: {log.read_text()[-2000:]}")
        time.sleep(0.1)


def difference(ours: pd.DataFrame, theirs: pd.DataFrame) -> str:
    """What is not the same, to the last bit; empty if nothing."""
    try:
        pd.testing.assert_frame_equal(ours, theirs, check_exact=True)
    except AssertionError as error:
        return " ".join(str(error).split())[:200]
    return ""


def compare(week: Week) -> int:
    """Say of each table of the last day whether both lakes have the same; how many do not."""
    wrong = 0
    for table in COMPARED:
        ours, theirs = (nightly.read(week.folder / lake, table, LAST) for lake in ("nights", "anew"))
        found = difference(ours, theirs)
        wrong += bool(found)
        print(f"  {table:<18} {len(ours):>7,} rows  {found or 'the same'}")
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, help="folder to work in, and to leave")
    given = parser.parse_args()
    with TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        week = Week(folder)
        for day in DAYS:
            week.night("nights", day, killed_in="embed" if day == KILLED else None)
        published = sorted(p.name for p in (folder / "nights" / "recommendations").glob("run_date=*"))
        assert published == [f"run_date={day}" for day in DAYS if day != KILLED], published
        week.night("anew", TRAINED)
        for table in ("text_vectors", "base_text_vectors"):
            shutil.rmtree(folder / "anew" / table)  # or the last night would take its vectors from there
        week.night("anew", LAST)
        print(f"tables of {LAST}: seven nights with one that failed, beside a lake without them")
        wrong = compare(week)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
