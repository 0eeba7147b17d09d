"""How good the lists are, on splits that others published figures for: `make quality`.

For each table a night of its configuration is run with each seed, in a lake of its own, and what evaluate measured is kept in
benchmarks/results/quality.json. docs/quality.md and docs/quality.json are written from all that is kept there, so that tables can be run
one by one: `make quality ARGS="--only movielens-c --seed 42"`. Test rows are read by evaluate alone; every choice is the stages' own.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib
import pyarrow.dataset as ds
from harness import commit, data_set
from published import NAMES, PROTOCOLS, Protocol
from splits import write_splits
from table import short

from recspark.evaluation.verdict import QUESTIONS, findings

matplotlib.use("svg")
import matplotlib.pyplot as plt

plt.rcParams["svg.hashsalt"] = "recspark"  # the same figures, the same file

ROOT = Path(__file__).parent.parent
KEPT = ROOT / "benchmarks" / "results" / "quality.json"
DATE = "2000-01-01"
SEEDS = (42, 43, 44)
ERRORS = ("rmse", "mae")  # the smaller, the better
SLICES = {protocol.slice for protocol in PROTOCOLS.values()}
COLUMNS = {column for protocol in PROTOCOLS.values() for column in protocol.columns}
INTRODUCTION = """# How good the lists are

Written by `make quality` (`benchmarks/quality.py`); the tables' figures stand in [quality.json](quality.json), too; differences and choices in
`benchmarks/results/quality.json`. `RECSPARK_DATASETS` names the folder with the [data sets](data.md#the-data-sets-that-figures-are-of) that no package brings; MovieLens-100K comes from its package,
and its splits are made by `benchmarks/splits.py`. Ours are means over seeds, with the standard deviation where there are several. The seed
moves the start of every solve and every draw; the split is always the same. Settings are defaults, chosen by the stages on
what is held out of train, or written in the configuration: the factorization and adaptation of movielens-c, chosen inside train; size, temperature, rate and epochs of
movielens-a's sequence model, of whose choice there is no record; two epochs where the texts are dealt out. The line under a title says at which commit each seed was run, and whether the test was judged more than once; of several commits, ± is not of seeds alone. A model
that was not judged with every seed names those it was judged with. Bold: above every published row.
"""


def night(config: Path, seed: int) -> list[dict]:
    """The metrics of a night, in a lake that is removed."""
    began_at = commit()
    with TemporaryDirectory() as folder:
        write_splits(ROOT / ".data" / "ml-100k", Path(folder) / "splits")
        lake = f"{folder}/lake"
        command = [sys.executable, "-c", "from recspark.cli import main; main()", "run", "--config", str(config)]
        command += ["--run-date", DATE, "--to", "evaluate", "--set", f"lake={lake}", "--set", f"seed={seed}"]
        env = {**os.environ, "RECSPARK_SPLITS": f"{folder}/splits"}
        subprocess.run(command, check=True, cwd=ROOT, env=env)
        metrics, compared = (
            ds.dataset(f"{lake}/{table}/run_date={DATE}", format="parquet").to_table().to_pandas()
            for table in ("metrics", "comparisons")
        )
        choice = Path(lake) / "combined_user_vectors" / f"run_date={DATE}" / "_manifest.json"
        chosen = json.loads(choice.read_text())["choice"] if choice.exists() else None
    about = {"config": config.stem, "seed": seed, "choice": chosen, "commit": began_at}
    rows = [
        row for row in metrics.to_dict("records") if row["slice"] in SLICES and (row["metric"], row["k"]) in COLUMNS
    ]
    rows += [row for row in compared.to_dict("records") if row["metric"] == "ndcg" and row["k"] == 10 and is_shown(row)]
    rows += [{"question": found.question, "sentence": found.sentence} for found in findings(metrics, compared)]
    return [{**about, **row} for row in rows]


def is_shown(comparison: dict) -> bool:
    """Of the full model, and of the text alone on cold items."""
    shown = ("full",) if comparison["slice"] == "all" else ("full", "text_after")
    return comparison["slice"] in SLICES and comparison["model"] in shown


def kept() -> list[dict]:
    return json.loads(KEPT.read_text()) if KEPT.exists() else []


def keep(rows: list[dict]) -> None:
    """In the place of what an earlier run of the same configuration and seed gave."""
    runs = {(r["config"], r["seed"]) for r in rows}
    both = [r for r in kept() if (r["config"], r["seed"]) not in runs] + rows
    KEPT.parent.mkdir(exist_ok=True)
    KEPT.write_text("[\n" + ",\n".join(json.dumps(r) for r in both) + "\n]\n")


def lines(protocol: Protocol, rows: list[dict]) -> list[dict]:
    """A line a model and column: mean and spread over seeds."""
    found = defaultdict(dict)
    for row in rows:
        if row["config"] == Path(protocol.config).stem and row.get("slice") == protocol.slice and "other" not in row:
            found[row["model"], row["metric"], row["k"]][row["seed"]] = row["value"]
    return [
        {
            "model": model,
            "metric": metric,
            "k": k,
            "seeds": sorted(values),
            "mean": statistics.mean(values.values()),
            "spread": statistics.stdev(values.values()) if len(values) > 1 else None,
        }
        for (model, metric, k), values in found.items()
        if (metric, k) in protocol.columns and model in NAMES
    ]


def table(protocol: Protocol, measured: list[dict]) -> str:
    """Published rows, then ours, as Markdown."""
    better = min if protocol.columns[0][0] in ERRORS else max
    by_column = zip(*protocol.published.values(), strict=True) if protocol.published else [()] * len(protocol.columns)
    best = [better((v for v in values if v is not None), default=None) for values in by_column]
    head = ["model", *(f"{metric}@{k}" if k else metric for metric, k in protocol.columns)]
    out = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, values in protocol.published.items():
        out.append(
            "| " + " | ".join([f"{name} (published)", *(figure(v) if v is not None else "–" for v in values)]) + " |"
        )
    cells, everywhere = {(r["model"], r["metric"], r["k"]): r for r in measured}, seeds_of(measured)
    for model in sorted({r["model"] for r in measured}, key=list(NAMES).index):
        ours = [cells.get((model, *column)) for column in protocol.columns]
        judged = seeds_of([line for line in ours if line])
        out.append("| " + " | ".join([NAMES[model] + only(judged, everywhere), *map(cell, ours, best)]) + " |")
    return "\n".join(out)


def seeds_of(measured: list[dict]) -> list[int]:
    return sorted({seed for line in measured for seed in line["seeds"]})


def only(judged: list[int], everywhere: list[int]) -> str:
    """Which seeds, where not all of the table's."""
    return "" if judged == everywhere else f" ({named(judged)} only)"


def named(seeds: list[int]) -> str:
    return f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}"


def states(protocol: Protocol, rows: list[dict]) -> str:
    """At which commits the seeds were run."""
    found = defaultdict(set)
    for row in rows:
        if row["config"] == Path(protocol.config).stem:
            found[row["commit"]].add(row["seed"])
    if len(found) == 1:
        return f"at commit {short(*found)}"
    return ", ".join(f"{named(sorted(seeds))} at commit {short(commit)}" for commit, seeds in found.items())


def cell(line: dict | None, best: float | None) -> str:
    if line is None:
        return "–"
    ahead = best is not None and (line["mean"] < best if line["metric"] in ERRORS else line["mean"] > best)
    text = figure(line["mean"]) + (f" ± {figure(line['spread'])}" if line["spread"] is not None else "")
    return f"**{text}**" if ahead else text


def figure(value: float) -> str:
    return f"{value:.4f}".removeprefix("0")


def plot(name: str, protocol: Protocol, measured: list[dict]) -> Path:
    """Bars of one column, published rows in grey."""
    metric, k = protocol.columns[protocol.drawn]
    found = ((label, values[protocol.drawn]) for label, values in protocol.published.items())
    bars = [(label, value, "0.7") for label, value in found if value is not None]
    bars += [(NAMES[r["model"]], r["mean"], "tab:blue") for r in measured if (r["metric"], r["k"]) == (metric, k)]
    bars.sort(key=lambda bar: bar[1])
    figure, axes = plt.subplots(figsize=(7, 0.32 * len(bars) + 0.9))
    axes.barh([b[0] for b in bars], [b[1] for b in bars], color=[b[2] for b in bars])
    axes.bar_label(axes.containers[0], fmt="%.4f", padding=3, fontsize=8)
    axes.set_xlabel(f"{metric}@{k}" if k else metric)
    axes.set_title(protocol.title + (" (grey: published)" if protocol.published else ""), fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.12)
    path = ROOT / "docs" / "quality" / f"{name}.svg"
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    return path


def chosen(protocol: Protocol, rows: list[dict]) -> str:
    """What combine chose, a seed each; errors of ratings have nothing to do with it."""
    if protocol.columns[0][0] in ERRORS:
        return ""
    found = {r["seed"]: r["choice"] for r in rows if r["config"] == Path(protocol.config).stem and r["choice"]}
    shown = [
        f"seed {seed}: " + ", ".join(f"{k} {v}" for k, v in choice.items()) for seed, choice in sorted(found.items())
    ]
    return "\nChosen by combine: " + "; ".join(shown) + ".\n" if shown else ""


def differences(protocol: Protocol, rows: list[dict]) -> str:
    """The full model less each other, and the text after fine-tuning less before: over the same users, the mean over seeds; p is the largest."""
    if protocol.columns[0][0] in ERRORS:
        return ""
    found, everywhere = defaultdict(list), set()
    for row in rows:
        ours = row["config"] == Path(protocol.config).stem and "other" in row and row["slice"] == protocol.slice
        everywhere |= {row["seed"]} if ours else set()
        if ours and (row["model"] == "full" or (row["model"], row["other"]) == ("text_after", "text_before")):
            found[row["model"], row["other"]].append(row)
    if not found:
        return ""
    out = [
        "\nnDCG@10 over the same users, p by Holm's correction, the largest of the seeds':\n",
        "| | less | difference | p |",
        "|---|---|---|---|",
    ]
    for (model, other), of_seeds in found.items():
        difference, p = (
            statistics.mean(row["difference"] for row in of_seeds),
            max(row["p_adjusted"] for row in of_seeds),
        )
        shown = "< .0001" if p < 0.0001 else figure(p)
        judged = only(sorted(row["seed"] for row in of_seeds), sorted(everywhere))
        out.append(f"| {NAMES[model]} | {NAMES.get(other, other)}{judged} | {difference:+.4f} | {shown} |")
    return "\n".join(out) + "\n"


def said(protocol: Protocol, rows: list[dict]) -> str:
    """What the report says of the text, a seed each."""
    stem = Path(protocol.config).stem
    sentences = {r["seed"]: r["sentence"] for r in rows if r["config"] == stem and r.get("question") == QUESTIONS[1]}
    if protocol.columns[0][0] in ERRORS or not sentences:
        return ""
    return "\nThe report on what text adds:\n\n" + "".join(f"- seed {s}: {sentences[s]}\n" for s in sorted(sentences))


def write(rows: list[dict]) -> None:
    """docs/quality.md, docs/quality.json and the plots."""
    parts, everything = [INTRODUCTION], []
    for name, protocol in PROTOCOLS.items():
        measured = lines(protocol, rows)
        if not measured:
            continue
        path = plot(name, protocol, measured)
        parts.append(
            f"## {protocol.title}\n\n`{protocol.config}`, {named(seeds_of(measured))} ({states(protocol, rows)}). {protocol.about}\n\n"
            f"{table(protocol, measured)}\n{chosen(protocol, rows)}{differences(protocol, rows)}{said(protocol, rows)}\n![{protocol.title}]({path.relative_to(ROOT / 'docs')})\n"
        )
        everything += [{"protocol": name, **line} for line in measured]
    (ROOT / "docs" / "quality.md").write_text("\n".join(parts))
    (ROOT / "docs" / "quality.json").write_text("[\n" + ",\n".join(json.dumps(r) for r in everything) + "\n]\n")


def runnable(names: list[str]) -> list[str]:
    """The configurations of these tables, less those whose data are not there: that is said."""
    folder, configs = os.environ.get("RECSPARK_DATASETS"), dict.fromkeys(PROTOCOLS[name].config for name in names)
    for config in list(configs):
        wanted = sorted(set(re.findall(r"\$\{RECSPARK_DATASETS\}/([\w-]+)", (ROOT / config).read_text())))
        if folder:
            for name in wanted:
                data_set(folder, name)
        elif wanted:
            print(f"left out: {config}; RECSPARK_DATASETS names no folder that has {' and '.join(wanted)}")
            del configs[config]
    return list(configs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=PROTOCOLS, help="these tables; all if not given")
    parser.add_argument("--seed", action="append", type=int, help=f"these seeds; {SEEDS} if not given")
    parser.add_argument("--write", action="store_true", help="write the documents from what is kept, and run nothing")
    arguments = parser.parse_args()
    if not arguments.write:
        for config in runnable(arguments.only or list(PROTOCOLS)):
            for seed in arguments.seed or SEEDS:
                keep(night(ROOT / config, seed))
                write(kept())
    write(kept())


if __name__ == "__main__":
    main()
