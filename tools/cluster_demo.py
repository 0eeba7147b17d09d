"""`make cluster-demo`: a Spark cluster on this machine, and the demo's night on it, twice, with the packed environment.

A master and two workers of one core, each a process of its own. The executors unpack dist/recspark-environment.tar.gz and know no checkout.
First the driver is the project's, as a client. Then it is one that YARN or Kubernetes would start in cluster mode: in a folder with nothing
but the unpacked archive and the configuration (Spark's own cluster has no cluster mode for Python). Both nights must end well,
train their two ranks on two executors, and write the same lists.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pyarrow.dataset as ds
import pyspark
import yaml
from package import ARCHIVE, ROOT

WORK = ROOT / ".cluster-demo"
DATE = "2026-01-01"
LOOPBACK = "127.0.0.1"
WORKERS, CORES, MEMORY = 2, 1, "3g"
PATIENCE = 60  # seconds for a process of the cluster to be there


def main() -> None:
    if not ARCHIVE.exists():
        raise SystemExit(f"cluster-demo: no {ARCHIVE.relative_to(ROOT)}; make package makes it")
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit("cluster-demo: told to end")
    )  # so that what was started ends, too
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir()
    with cluster() as master:
        night("client", master, ROOT / ".venv/bin", WORK)
        driver = WORK / "driver"
        with tarfile.open(ARCHIVE) as archive:
            archive.extractall(driver / "environment", filter="fully_trusted")
        night("cluster", master, driver / "environment/bin", driver)
    first, second = (lists(form) for form in ("client", "cluster"))
    if first != second:
        raise SystemExit("cluster-demo: the two nights wrote different lists")
    print(f"both nights wrote the same {len(first):,} recommendations; the lakes are in {WORK}")


@contextmanager
def cluster() -> Iterator[str]:
    """The address of a master with its workers; all end with the block."""
    with socket.socket() as free:
        free.bind((LOOPBACK, 0))
        port = free.getsockname()[1]
    address, started = f"spark://{LOOPBACK}:{port}", []
    try:
        started.append(start("master", "master.Master", "--host", LOOPBACK, "--port", str(port), "--webui-port", "0"))
        wait_for("master", "I have been elected leader", started)
        for number in range(1, WORKERS + 1):
            name = f"worker-{number}"
            given = ("-c", str(CORES), "-m", MEMORY, "-d", str(WORK / name), "--webui-port", "0", address)
            started.append(start(name, "worker.Worker", "--host", LOOPBACK, *given))
            wait_for(name, "Successfully registered with master", started)
        print(f"a cluster at {address}: {WORKERS} workers of {CORES} core and {MEMORY}", flush=True)
        yield address
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait(timeout=PATIENCE)


def start(name: str, what: str, *given: str) -> subprocess.Popen:
    """A process of the cluster, its log beside the lakes."""
    spark_class = Path(pyspark.__file__).parent / "bin/spark-class"
    with (WORK / f"{name}.log").open("w") as log:
        return subprocess.Popen(
            [spark_class, f"org.apache.spark.deploy.{what}", *given],
            env={**os.environ, "SPARK_LOCAL_IP": LOOPBACK},
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def wait_for(name: str, sign: str, started: list[subprocess.Popen]) -> None:
    """Raises SystemExit if the process that was started last does not say so in time."""
    log, until = WORK / f"{name}.log", time.time() + PATIENCE
    while sign not in log.read_text():
        if started[-1].poll() is not None or time.time() > until:
            raise SystemExit(f"cluster-demo: the {name} did not start; its log is {log}")
        time.sleep(0.2)


def night(form: str, master: str, binaries: Path, folder: Path) -> None:
    """The whole of it in one application. binaries: of the driver's environment; folder: where it stands."""
    config = folder / "night.yaml"
    config.write_text(yaml.safe_dump(settings(form, master), sort_keys=False))
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    env |= {
        "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
        "PYSPARK_PYTHON": "./environment/bin/python",  # of the executors, where each unpacked the archive
        "SPARK_LOCAL_IP": LOOPBACK,
    }
    command = [str(binaries / "recspark"), "run", "--config", str(config), "--run-date", DATE]
    print(f"{form}: recspark run, from {folder.relative_to(ROOT)}", flush=True)
    began, executors = time.time(), dict[int, str]()
    with (WORK / f"{form}.log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=subprocess.STDOUT)
        try:
            while process.poll() is None:
                executors |= executors_of_ranks(WORK / form)
                time.sleep(0.2)
        finally:
            process.terminate()
    if process.returncode:
        raise SystemExit(f"cluster-demo: the night ended with code {process.returncode}; the log is {WORK / form}.log")
    told = ", ".join(f"rank {rank} on executor {executor}" for rank, executor in sorted(executors.items()))
    print(f"{form}: {len(lists(form)):,} recommendations in {time.time() - began:.0f} s; {told}", flush=True)
    if len(set(executors.values())) != WORKERS:
        raise SystemExit("cluster-demo: the ranks were not on two executors")


def settings(form: str, master: str) -> dict:
    """The demo's, with paths that hold anywhere on this machine, fewer epochs and fewer baselines."""
    found = yaml.safe_load((ROOT / "conf/demo.yaml").read_text())
    found["lake"], found["encoder"]["path"] = str(WORK / form), str(ROOT / found["encoder"]["path"])
    for table in ("interactions", "items", "users"):
        found["preprocess"][table]["path"] = str(ROOT / found["preprocess"][table]["path"])
    found["finetune"]["epochs"] = 2
    found["evaluate"] = {"baselines": [{"kind": "popularity"}], "new_users": [], "slices": False, "replicates": 100}
    found["spark"] = {
        "master": master,
        "driver_memory": "2g",
        "conf": {
            "spark.archives": f"{ARCHIVE}#environment",
            "spark.driver.host": LOOPBACK,
            "spark.driver.bindAddress": LOOPBACK,
            "spark.executor.cores": str(CORES),
            "spark.executor.memory": "2g",
            "spark.cores.max": str(WORKERS * CORES),
        },
    }
    return found


def executors_of_ranks(lake: Path) -> dict[int, str]:
    """Of the ranks that live now: the id of the executor whose process is above each."""
    found = {}
    for path in lake.glob("_scratch/*/finetune/status/*/rank-*.json"):
        try:
            rank, pid = int(path.stem.removeprefix("rank-")), json.loads(path.read_text())["pid"]
            for parent in psutil.Process(pid).parents():
                command = parent.cmdline()
                if "--executor-id" in command:
                    found[rank] = command[command.index("--executor-id") + 1]
        except (psutil.Error, OSError, ValueError):  # it ended, or is being written
            continue
    return found


def lists(form: str) -> list[tuple]:
    """(user_id, rank, item_id, score) of a night's lists, in order."""
    folder = WORK / form / "recommendations" / f"run_date={DATE}"
    rows = ds.dataset(folder, format="parquet").to_table(columns=["user_id", "rank", "item_id", "score"])
    return sorted(zip(*(column.to_pylist() for column in rows.columns), strict=True))


if __name__ == "__main__":
    main()
