"""`make airflow-demo`: the nightly DAG by Airflow itself, two dates one after the other, on the demo's data, through spark-submit.

Airflow has an environment of its own, .venv-airflow, and its home and the lake in .airflow-demo, which is made anew each time; both are git-ignored.
First the DAG's structure is tested in that environment. Then `airflow dags test` runs the nights; the lists of both must be there at the end.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import make_venv

ROOT = make_venv.ROOT
AIRFLOW = ROOT / ".venv-airflow"
WORK = ROOT / ".airflow-demo"
DATES = ("2026-01-01", "2026-01-02")


def main() -> None:
    make_venv.make(AIRFLOW, ROOT / "jobs/airflow/requirements.lock", "about 3 minutes and 1 GB")
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir()
    env = environment()
    run([AIRFLOW / "bin/python", "-m", "pytest", "-q", "--confcutdir=tests/airflow", "tests/airflow"], env, "dag.log")
    run([AIRFLOW / "bin/airflow", "db", "migrate"], env, "db.log")
    for date in DATES:
        run([AIRFLOW / "bin/airflow", "dags", "test", "recspark_nightly", date], env, f"{date}.log")
        lists = sorted((WORK / "lake/recommendations" / f"run_date={date}").glob("*.parquet"))
        if not lists:
            raise SystemExit(f"airflow-demo: no lists of {date}; the log is {WORK / f'{date}.log'}")
    for date in DATES:
        manifest = json.loads((WORK / "lake/recommendations" / f"run_date={date}" / "_manifest.json").read_text())
        print(f"{date}: {manifest['rows']:,} recommendations, {WORK / 'lake/recommendations' / f'run_date={date}'}")


def environment() -> dict[str, str]:
    """Airflow's own settings, and the DAG's; spark-submit and Python are the project's."""
    ours = {
        "AIRFLOW_HOME": WORK / "home",
        "AIRFLOW__CORE__DAGS_FOLDER": ROOT / "jobs/airflow",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "AIRFLOW_CONN_SPARK_DEFAULT": json.dumps({"conn_type": "spark", "host": "local[2]"}),
        "RECSPARK_HOME": ROOT,
        "RECSPARK_CONFIG": ROOT / "conf/demo.yaml",
        "RECSPARK_OVERRIDES": f"lake={WORK / 'lake'}",
        "PYSPARK_PYTHON": ROOT / ".venv/bin/python",
        "PATH": f"{ROOT / '.venv/bin'}{os.pathsep}{os.environ['PATH']}",
    }
    return {**os.environ, **{name: str(value) for name, value in ours.items()}}


def run(command: list[str | Path], env: dict[str, str], log: str) -> None:
    """Shown as it goes, and kept beside the lake. Raises SystemExit if it fails."""
    print("$", " ".join(str(part).removeprefix(f"{ROOT}/") for part in command), flush=True)
    with (WORK / log).open("w") as kept:
        process = subprocess.Popen(
            command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        )
        assert process.stdout
        for line in process.stdout:
            kept.write(line)
            sys.stdout.write(line)
    if process.wait():
        raise SystemExit(f"airflow-demo: it ended with code {process.returncode}; the log is {WORK / log}")


if __name__ == "__main__":
    main()
