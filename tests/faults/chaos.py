"""`make chaos`: small nights, each hit by a fault of some kind at some moment, then run again as if nothing had been.

Every one must end by itself in bounded time, whatever became of it; and the night that follows must end well, with the tables of an
undisturbed one. Kinds and moments are drawn by a seed. Writes docs/chaos.json and docs/chaos.md. 20 runs take about an hour on 2 cores.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import psutil

from tests import nightly
from tests.faults.disk import make_room, may_mount, own_disk
from tests.faults.kinds import DISK_FULL, FAULTS, OUTPUTS, Night
from tests.tiny_encoder import make_tiny_encoder

DOCS = nightly.REPOSITORY / "docs"
UNEQUAL_BY_NATURE = {"seconds"}
DISK = "256m"  # size of the disk that can be full
SILENCE = 20  # lost_timeout of the nights: seconds without a rank's sign of life
BOUND = 120  # seconds that a night may end later than an undisturbed one would have; beyond is a hang


@dataclass(frozen=True)
class Outcome:
    """fault; moment: seconds after the start; stage: under way then; outcome: how the run ended; seconds: from the fault to the end.

    before: what came of the same run the time before, where it was made anew. commit: of the code. undisturbed: seconds that a night
    takes without a fault, measured when this run was made.
    """

    fault: str
    moment: float
    stage: str
    exit_code: int | None
    outcome: str
    seconds: float
    identical_after_rerun: bool
    difference: str
    before: str = ""
    commit: str = ""
    undisturbed: float = 0.0

    @property
    def good(self) -> bool:
        return self.identical_after_rerun and self.exit_code is not None


class World:
    """Raw data, an encoder, a configuration, and a whole night that nothing disturbed.

    at_once: as many of them side by side, as the others will be, so that moments are drawn over all that such a night takes.
    """

    def __init__(self, folder: Path, at_once: int):
        self.folder = folder
        nightly.sample_movielens(folder, users=60, least=6)
        encoder = make_tiny_encoder(folder / "encoder", layers=2)
        changes = {"finetune.epochs": 6, "finetune.patience": 9, "finetune.lost_timeout": SILENCE}
        changes |= {"factorize.iterations": 2}
        settings = nightly.small_night(folder, Path("lake"), encoder, **changes)
        settings["lake"] = "${CHAOS_LAKE}"
        nightly.write_config(folder / "night.yaml", settings)
        began = time.time()
        names = ["whole", *(f"whole-{number}" for number in range(1, at_once))]
        nights = {name: self.start(folder / name, folder / f"{name}.log") for name in names}
        if failed := [name for name, night in nights.items() if night.wait()]:
            raise SystemExit(f"an undisturbed night failed: {last_word(folder / f'{failed[0]}.log')}")
        self.seconds = time.time() - began
        self.whole = {table: nightly.read(folder / "whole", table) for table in OUTPUTS}

    def lake(self, number: int) -> Path:
        return self.folder / f"lake-{number}"

    def start(self, lake: Path, log: Path) -> subprocess.Popen:
        command = nightly.recspark_command(
            "run", "--config", str(self.folder / "night.yaml"), "--run-date", nightly.DATE
        )
        env = {**nightly.environment(), "CHAOS_LAKE": str(lake)}
        with log.open("w") as stream:
            return subprocess.Popen(
                command, env=env, stdout=stream, stderr=stream, start_new_session=True, preexec_fn=heed_interrupts
            )

    def difference(self, lake: Path) -> str:
        """Which table is not what it should be, and how; empty if none."""
        for table, expected in self.whole.items():
            columns = [c for c in expected.columns if c not in UNEQUAL_BY_NATURE]
            try:
                pd.testing.assert_frame_equal(
                    expected[columns], nightly.read(lake, table)[columns], check_exact=True, obj=table
                )
            except (AssertionError, OSError, KeyError) as error:
                return f"{table}: {str(error).splitlines()[0]}"
        return ""


def heed_interrupts() -> None:
    """As in a terminal: what a shell has started in the background ignores them, and so would the night."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def disturbed(world: World, number: int, fault: str, draw: random.Random, moment: float) -> Outcome:
    """One night with the fault, and the one after it. moment: seconds; where the night was over by then, half of it in another."""
    lake, log = world.lake(number), world.folder / f"{number}.log"
    night, began = Night(world.start(lake, log), lake, draw), time.time()
    time.sleep(moment)
    struck = 0.0
    while night.process.poll() is None and not struck:
        try:
            if FAULTS[fault](night):
                struck = time.time()
        except (psutil.Error, OSError, ValueError):  # it ended, or was replaced, while it was looked at
            pass
        time.sleep(0 if struck else 0.02)
    if not struck:
        night.process.wait()
        for kept in lake.iterdir():
            shutil.rmtree(kept)
        return disturbed(world, number, fault, draw, moment / 2)
    stage = stage_of(log)
    try:
        code: int | None = night.process.wait(timeout=max(world.seconds - (struck - began), 0) + BOUND)
    except subprocess.TimeoutExpired:
        code = None
        night.process.kill()
    seconds = time.time() - struck
    make_room(lake)
    again = world.folder / f"{number}-again.log"
    rerun = world.start(lake, again).wait(timeout=900)
    end_session(night.process.pid)
    different = world.difference(lake) if rerun == 0 else f"the night after ended with {rerun}: {last_word(again)}"
    said = "a hang" if code is None else "done" if code == 0 else last_word(log)
    return Outcome(fault, round(struck - began, 1), stage, code, said, round(seconds, 1), not different, different)


def end_session(session: int) -> None:
    """What is left of a run whose driver was killed; the night after had to do beside it."""
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session:
                process.kill()
        except (psutil.Error, OSError):
            continue


def stage_of(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if ": reads " in line]
    return lines[-1].partition("] ")[2].partition(":")[0] if lines else "before the first"


def last_word(log: Path) -> str:
    """The error that the run ended with and, where it has one, the line that says more, without this machine's folder."""
    lines = [line.rstrip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    ours = [n for n, line in enumerate(lines) if " error: " in line or line.startswith("recspark: ")]
    told = [n for n, line in enumerate(lines) if any(sign in line for sign in ("failed", "Error", "ended"))]
    first = (ours or told or [len(lines) - 1])[0]
    said = lines[max(first, 0) :][:2] or ["nothing was said"]
    more = said[1:] if said[-1].startswith("  ") else []
    return ": ".join(line.strip() for line in (said[0], *more)).replace(f"{log.parent}/", "")[:300].replace("|", "/")


def commit() -> str:
    """Of the code that runs, `-dirty` if it differs from it."""
    git = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    return subprocess.run(git, capture_output=True, text=True, check=False, cwd=nightly.REPOSITORY).stdout.strip()


def table(outcomes: list[Outcome]) -> str:
    head = "| fault | at second | stage | exit code | seconds to the end | tables identical after the re-run |\n|---|---|---|---|---|---|\n"
    rows = (
        f"| {o.fault} | {o.moment} | {o.stage} | {'hang' if o.exit_code is None else o.exit_code} | {o.seconds} | "
        f"{'yes' if o.identical_after_rerun else o.difference} |\n"
        for o in outcomes
    )
    return head + "".join(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--at-once", type=int, default=1, help="nights side by side; two cores have room for two")
    parser.add_argument("--fault", choices=FAULTS, help="only of this kind")
    parser.add_argument(
        "--again", type=int, nargs="+", metavar="N", help="only the runs of these numbers, in the place of those kept"
    )
    given = parser.parse_args()
    kept = [Outcome(**row) for row in json.loads((DOCS / "chaos.json").read_text())] if given.again else []
    given.runs = len(kept) or given.runs
    if wrong := [number for number in given.again or () if not 1 <= number <= len(kept)]:
        parser.error(f"--again: docs/chaos.json has runs 1 to {len(kept)}, not {', '.join(map(str, wrong))}")
    draw, state = random.Random(given.seed), commit()
    with TemporaryDirectory(prefix="recspark-chaos-") as folder:
        possible = [given.fault] if given.fault else list(FAULTS)
        if DISK_FULL in possible and not may_mount(Path(folder)):
            possible.remove(DISK_FULL)
            print(f"left out: {DISK_FULL}: nothing may be mounted here", flush=True)
        kinds = [possible[n % len(possible)] for n in range(given.runs)]
        draw.shuffle(kinds)
        if other := [n for n in given.again or () if kept[n - 1].fault != kinds[n - 1]]:
            parser.error(f"--again: run {other[0]} of docs/chaos.json is of another seed or machine; make all anew")
        moments = [draw.uniform(0.05, 0.9) for _ in kinds]
        world = World(Path(folder), given.at_once)
        print(f"an undisturbed night takes {world.seconds:.0f} s", flush=True)

        def one(number: int) -> Outcome:
            if given.again and number + 1 not in given.again:
                return kept[number]
            fault, moment = kinds[number], moments[number] * world.seconds
            with own_disk(world.lake(number), DISK) if fault == DISK_FULL else nullcontext():
                outcome = disturbed(world, number, fault, random.Random(f"{given.seed} {number}"), moment)
            shutil.rmtree(world.lake(number), ignore_errors=True)
            before = kept[number].outcome if given.again else ""
            outcome = replace(outcome, commit=state, before=before, undisturbed=round(world.seconds))
            print(f"{number + 1}/{given.runs} {outcome}", flush=True)
            return outcome

        with ThreadPoolExecutor(given.at_once) as pool:
            outcomes = list(pool.map(one, range(given.runs)))
    good = sum(o.good for o in outcomes)
    commits = ", ".join(dict.fromkeys(o.commit for o in outcomes))
    undisturbed = " or ".join(f"{s:.0f}" for s in dict.fromkeys(o.undisturbed for o in outcomes))
    anew = [f"run {n}, which had come to: {o.before}" for n, o in enumerate(outcomes, 1) if o.before]
    print(table(outcomes) + f"{good} of {len(outcomes)}")
    if given.runs >= 20 and not given.fault:
        (DOCS / "chaos.json").write_text(json.dumps([asdict(o) for o in outcomes], indent=1) + "\n")
        (DOCS / "chaos.md").write_text(
            f"# Faults\n\nWritten by `make chaos` (`tests/faults/chaos.py`, seed {given.seed}, at commit {commits}); [chaos.json](chaos.json) has also what each run said at its "
            "end. A small night is hit by a fault at a random moment; it must end by itself not more than "
            f"{BOUND} seconds after an undisturbed one would have ({undisturbed} seconds, {given.at_once} at a time), and the same command again must end with the tables of a night that nothing disturbed. A fault that came where it "
            "could do no harm leaves exit code 0: Spark starts another Python worker by itself, and a file that was read already is not read again. "
            f"A driver that was killed outright has exit code -9, one told to end -15. Here {good} of {len(outcomes)} ended so."
            + (f" Made anew, as chaos.json says by its commit: {'; '.join(anew)}." if anew else "")
            + f"\n\n{table(outcomes)}"
        )
    return 0 if good == len(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
