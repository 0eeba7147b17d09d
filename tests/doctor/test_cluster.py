import subprocess
import sys

from pyspark import cloudpickle

from recspark.doctor import cluster
from recspark.doctor.checkup import Caution
from tests.doctor.visit import checkup


def test_ranks_with_more_threads_than_cores_are_a_caution(spark):
    visit = checkup(finetune={"launcher": "horovod", "threads_per_process": 4})
    visit.started = spark
    found = cluster.threads(visit)
    assert isinstance(found, Caution)
    assert "a rank holds 1 core; set finetune.threads_per_process=1" in found


def test_host_that_differs_is_told_in_what():
    here = {name: cluster.version(name) for name in cluster.COMPARED}
    same = {"host": "h", "python": tuple(sys.version_info[:2]), "versions": here, "missing": []}
    assert cluster.differences(same) == []
    other = {
        **same,
        "python": (3, 9),
        "versions": {**here, "numpy": "1.0", "torch": None},
        "missing": ["recspark"],
    }
    assert [line.partition(",")[0] for line in cluster.differences(other)] == [
        "h runs Python 3.9",
        "h has no recspark",
        "h has numpy 1.0",
        "h has no torch",
    ]


def test_probe_runs_where_recspark_is_missing():
    probe = cloudpickle.dumps(cluster.probe_of(["numpy", "nothing"], ["recspark_is_not_here", "json"], "/"))
    code = "import pickle, sys; sys.modules['recspark'] = None; print(next(pickle.load(sys.stdin.buffer)([])))"
    said = subprocess.run([sys.executable, "-c", code], input=probe, capture_output=True, check=True).stdout.decode()
    assert "'missing': ['recspark_is_not_here']" in said
    assert "'nothing': None" in said
