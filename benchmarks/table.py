"""docs/benchmarks.md from what is kept in benchmarks/results: `make bench` ends with it."""

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
TITLES = {
    "preprocess": "A raw log to tables",
    "topk": "Exact lists",
    "ann": "Lists by the index",
    "encode": "Texts to vectors",
    "train": "Examples learned from",
    "factorize": "Implicit factors",
    "evaluate": "Lists judged",
    "night": "The demo's night, and the one after it",
    "workers": "Small Python tasks",
    "prefix": "Epochs with the frozen layers' states kept",
}
INTRODUCTION = """# Speed, beside what one would otherwise use

Written by `make bench` (`benchmarks/`), which anybody can run; `make bench ARGS=--quick` sees in some minutes that they run and agree. Both sides of a line
do the same work on the same machine in one run, by turns; medians, in brackets the least and the most. The ratio is the peer's over ours: the larger,
the better for us. Where a goal is not reached, it says so; what is not here
has not been run whole, and each section says of which state it is. These are small machines, and noisy: compare ratios, not seconds.
"""


def main() -> None:
    parts = [INTRODUCTION]
    for name, title in TITLES.items():
        kept = RESULTS / f"{name}.json"
        if kept.exists():
            parts.append(section(title, f"make bench-{name}", json.loads(kept.read_text())))
    (ROOT / "docs" / "benchmarks.md").write_text("\n".join(parts))


def section(title: str, command: str, result: dict[str, Any]) -> str:
    """A benchmark's lines as Markdown."""
    rate = (
        f" Matrix product, fp32, all cores: {result['matmul_gflops']:.0f} GFLOP/s." if "matmul_gflops" in result else ""
    )
    head = "| what | ours | peer | ratio | goal | reached | peak MiB, ours and peer |\n|---|---|---|---|---|---|---|\n"
    if wrong := [line["what"] for line in result["lines"] if not line.get("same_answer", True)]:
        raise SystemExit(f"{title}: kept are lines whose two answers differ: {'; '.join(wrong)}; run it again")
    rows = "".join(row(line) for line in result["lines"])
    left_out = "".join(f"\nLeft out: {what}.\n" for what in result.get("left_out", ()))
    of = f", at commit {short(result['commit'])}" if "commit" in result else ""
    return f"## {title}\n\n`{command}`{of}; {result['machine']}.{rate}\n\n{head}{rows}{left_out}"


def short(commit: str) -> str:
    """Seven digits, and whether the checkout differed from it."""
    return commit[:7] + ("-dirty" if commit.endswith("-dirty") else "")


def row(line: dict[str, Any]) -> str:
    sides = [figure(line, "ours"), figure(line, "peer")]
    memory = " and ".join(f"{line[key]:.0f}" for key in ("ours_peak_mib", "peer_peak_mib") if key in line) or "–"
    reached = "yes" if line["reached"] else "no"
    cells = [line["what"], *sides, f"{line['ratio']:.2f}", f"{line['goal']:.2f}", reached, memory]
    return f"| {' | '.join(cells)} |\n"


def figure(line: dict[str, Any], side: str) -> str:
    spread = line.get(f"{side}_spread")
    return f"{line[side]:.2f}" + (f" ({spread[0]:.2f} to {spread[1]:.2f})" if spread else "")


if __name__ == "__main__":
    main()
