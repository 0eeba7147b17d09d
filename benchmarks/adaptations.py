"""What each way to fine-tune costs and gives: `make bench-adaptations`.

For every configuration named, the tables before the fine-tuning are made once. Then each adaptation is fine-tuned with its own
defaults and the configuration's other settings, and the night goes on to evaluate. An epoch's seconds are the median over the
epochs of the training log. Memory is the most that the whole tree of processes holds while the stage finetune runs (driver,
JVM, ranks), shared pages counted once.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import threading
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pyarrow.dataset as ds
from harness import STARTED_AT

from recspark.lake import Lake
from recspark.pipeline import NIGHT

ADAPTATIONS = {
    "frozen": {"kind": "frozen"},
    "full": {"kind": "full"},
    "last_layers, 2": {"kind": "last_layers", "layers": 2},
    "lora": {"kind": "lora"},
    "lora, top 2 layers": {"kind": "lora", "layers": 2},
    "adapter, houlsby": {"kind": "adapter", "placement": "houlsby"},
    "adapter, pfeiffer": {"kind": "adapter", "placement": "pfeiffer"},
    "bitfit": {"kind": "bitfit"},
    "prompt": {"kind": "prompt"},
}
DATE = "2000-01-01"
RESULT = Path(__file__).parent / "results" / "adaptations.json"
SHOWN = ("text_before", "text_after", "full")


def night(config: Path, lake: Path, first: str, last: str, *changes: str) -> float:
    """Run the stages `first` to `last`; the most GiB that their processes held at once."""
    command = [sys.executable, "-c", "from recspark.cli import main; main()", "run", "--quiet", "--config", str(config)]
    command += ["--run-date", DATE, "--from", first, "--to", last]
    for change in (f"lake={lake}", *changes):
        command += ["--set", change]
    process = subprocess.Popen(command)
    most = Most(process.pid)
    most.start()
    code = process.wait()
    most.over.set()
    most.join()
    if code:
        raise SystemExit(f"{config} {' '.join(changes)}: {first} to {last} ended with exit code {code}")
    return most.gib


class Most(threading.Thread):
    """Looks twice a second at how much a process and its children hold, until it is told to end."""

    def __init__(self, pid: int):
        super().__init__(daemon=True)
        self.root, self.gib, self.over = psutil.Process(pid), 0.0, threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.5):
            tree = [self.root, *self.root.children(recursive=True)]
            self.gib = max(self.gib, sum(map(proportional_bytes, tree)) / 2**30)


def proportional_bytes(process: psutil.Process) -> int:
    """Resident bytes, a page that n processes share counted as an n-th; 0 if it has ended."""
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0


def measured(config: Path, lake_folder: Path, changes: list[str], name: str) -> dict:
    """A row of the table."""
    adaptation = json.dumps(ADAPTATIONS[name])
    own = [*changes, f"finetune.adaptation={adaptation}"]
    gib = night(config, lake_folder, "finetune", "finetune", *own)
    night(config, lake_folder, "embed", "evaluate", *own)
    lake = Lake(str(lake_folder), datetime.date.fromisoformat(DATE))
    log = table(lake_folder, "training_log").sort_by("epoch").to_pylist()
    metrics = {
        (r["model"], r["slice"]): r
        for r in table(lake_folder, "metrics").to_pylist()
        if (r["metric"], r["k"]) == ("ndcg", 10)
    }
    parameters = lake.model_manifest("retriever")["parameters"]
    return {
        "configuration": config.stem,
        "adaptation": name,
        "parameters_learned": parameters["learned"],
        "parameters": parameters["all"],
        "epochs": len(log) - 1,
        "seconds_an_epoch": round(statistics.median(r["seconds"] for r in log if r["epoch"]), 2),
        "gib": round(gib, 2),
        **{
            f"{model}_{cut}": metrics.get((model, cut)) and interval(metrics[model, cut])
            for model in SHOWN
            for cut in ("all", "cold")
        },
    }


def interval(row: dict) -> dict:
    return {key: row[key] for key in ("value", "low", "high", "users")}


def table(lake: Path, name: str):  # type: ignore[no-untyped-def]
    return ds.dataset(lake / name / f"run_date={DATE}", format="parquet").to_table()


def markdown(rows: list[dict]) -> str:
    """The rows as docs/models.md has them."""
    head = [
        "configuration",
        "adaptation",
        "parameters that learn",
        "s an epoch",
        "GiB",
        "text after: nDCG@10",
        "full model",
        "cold: text after",
    ]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        cells = [
            row["configuration"],
            row["adaptation"],
            f"{row['parameters_learned']:,}",
            f"{row['seconds_an_epoch']:.1f}",
            f"{row['gib']:.1f}",
        ]
        cells += [shown(row[column]) for column in ("text_after_all", "full_all", "text_after_cold")]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def shown(found: dict | None) -> str:
    return (
        "–" if found is None else f"{found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}]".replace("0.", ".")
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("configurations", nargs="+", type=Path)
    parser.add_argument(
        "--set", action="append", default=[], dest="changes", metavar="A.B=C", help="as of recspark run"
    )
    parser.add_argument("--only", action="append", choices=ADAPTATIONS, help="these adaptations; all if not given")
    parser.add_argument("--write", type=Path, default=RESULT, help="where the JSON goes")
    arguments = parser.parse_args()
    rows: list[dict] = []
    for config in arguments.configurations:
        with TemporaryDirectory() as folder:
            lake = Path(folder) / "lake"
            night(config, lake, NIGHT[0], NIGHT[NIGHT.index("finetune") - 1], *arguments.changes)
            for name in arguments.only or ADAPTATIONS:
                rows.append(measured(config, lake, arguments.changes, name))
                print(markdown(rows[-1:]).splitlines()[-1], flush=True)
    machine = f"{platform.platform()}, {os.cpu_count()} cores"
    arguments.write.parent.mkdir(exist_ok=True)
    arguments.write.write_text(json.dumps({"machine": machine, "commit": STARTED_AT, "lines": rows}, indent=2) + "\n")
    print(f"\n{markdown(rows)}\nwritten: {arguments.write}")


if __name__ == "__main__":
    main()
