"""The DAG as Airflow reads it: `make airflow-demo` runs this in Airflow's own environment; elsewhere there is no Airflow to ask."""

import importlib
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

pytest.importorskip("airflow", reason="needs Airflow's own environment: make airflow-demo")

import itertools

import pendulum
from airflow.exceptions import AirflowException
from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk.exceptions import AirflowFailException

ROOT = Path(__file__).parent.parent.parent
STAGES = ["preprocess", "factorize", "finetune", "embed", "candidates", "evaluate", "publish"]


def parsed(monkeypatch, **variables: str):
    """The DAG's module, as these variables make it."""
    monkeypatch.setenv("RECSPARK_HOME", str(ROOT))
    monkeypatch.setenv("RECSPARK_CONFIG", str(ROOT / "conf" / "demo.yaml"))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(str(ROOT / "jobs" / "airflow"))
    sys.modules.pop("recspark_nightly", None)
    return importlib.import_module("recspark_nightly")


def test_a_stage_follows_another(monkeypatch):
    dag = parsed(monkeypatch).dag
    assert [task.task_id for task in dag.topological_sort()] == STAGES
    for before, after in itertools.pairwise(STAGES):
        assert dag.get_task(before).downstream_task_ids == {after}
    assert (dag.max_active_runs, dag.catchup) == (1, False)


def test_a_night_is_for_the_day_that_is_over(monkeypatch):
    """Else the data of its date would be those of two hours."""
    timetable = parsed(monkeypatch).dag.timetable
    night = datetime(2026, 1, 2, 2, tzinfo=UTC)
    found = timetable.infer_manual_data_interval(run_after=pendulum.instance(night))
    assert (found.start, found.end) == (night - timedelta(days=1), night)


def test_each_is_the_stages_job_for_the_runs_date(monkeypatch):
    dag = parsed(monkeypatch, RECSPARK_OVERRIDES="lake=/lake seed=7").dag
    for task in dag.tasks:
        assert isinstance(task, SparkSubmitOperator)
        assert Path(task.application) == ROOT / "jobs" / f"{task.task_id}.py"
        assert task.application_args[2:] == ["--run-date", "{{ ds }}", "--set", "lake=/lake", "--set", "seed=7"]
        assert task.properties_file == str(ROOT / "conf" / "spark-defaults.conf")
        assert task.retries == 2
        assert task.execution_timeout >= timedelta(hours=3)
        assert task.has_on_failure_callback
    assert dag.get_task("finetune").pool == "recspark_ranks"
    assert dag.get_task("embed").pool == "default_pool"


def test_it_waits_for_the_days_data_where_it_is_told_to(monkeypatch):
    dag = parsed(monkeypatch, RECSPARK_ARRIVAL="/raw/{{ ds }}/_SUCCESS").dag
    assert next(iter(dag.topological_sort())).task_id == "arrival"
    assert dag.get_task("arrival").downstream_task_ids == {"preprocess"}
    assert "filepath" in dag.get_task("arrival").template_fields


@pytest.mark.parametrize(
    ("code", "raised"), [(1, AirflowException), (2, AirflowFailException), (3, AirflowFailException)]
)
def test_what_another_try_cannot_mend_is_not_tried_again(monkeypatch, code: int, raised: type):
    module = parsed(monkeypatch)

    def ended(self, context):
        raise AirflowException(f"Cannot execute: spark-submit. Error code is: {code}.")

    monkeypatch.setattr(SparkSubmitOperator, "execute", ended)
    with pytest.raises(AirflowException) as caught:
        module.dag.get_task("publish").execute({})
    assert type(caught.value) is raised
