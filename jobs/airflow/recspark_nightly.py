"""The nightly DAG for Airflow 3: one spark-submit a stage, in order. docs/airflow.md says how to install it and what the variables mean.

Everything that differs between places is an environment variable of the scheduler's and the workers', read when the file is parsed.
"""

import json
import os
import urllib.request
from datetime import datetime, timedelta
from typing import Any

from airflow.exceptions import AirflowException
from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.providers.standard.sensors.filesystem import FileSensor
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException
from airflow.timetables.interval import CronDataIntervalTimetable
from recspark_night import steps

HOME = os.environ.get("RECSPARK_HOME", ".")
CONFIG = os.environ.get("RECSPARK_CONFIG", f"{HOME}/conf/demo.yaml")
OVERRIDES = os.environ.get("RECSPARK_OVERRIDES", "").split()
SCHEDULE = os.environ.get("RECSPARK_SCHEDULE", "0 2 * * *")
ARRIVAL = os.environ.get("RECSPARK_ARRIVAL")
ALERTS = os.environ.get("RECSPARK_ALERTS")
PROPERTIES = os.environ.get("RECSPARK_PROPERTIES", f"{HOME}/conf/spark-defaults.conf")
CONNECTION = os.environ.get("RECSPARK_SPARK", "spark_default")
POOL = "recspark_ranks"
FINAL = {2: "a mistake that only its user can mend", 3: "the lists are held back by a guardrail"}


class StageOperator(SparkSubmitOperator):
    """A stage's job. What another try cannot mend is not tried again: exit codes 2 and 3."""

    def execute(self, context: Any) -> Any:
        try:
            return super().execute(context)
        except AirflowException as error:
            for code, why in FINAL.items():
                if f"Error code is: {code}." in str(error):
                    raise AirflowFailException(f"{self.task_id}: {why}; the log above says which") from error
            raise


def alert(context: Any) -> None:
    """Post what failed, as JSON, to where alerts go, if they go anywhere."""
    if not ALERTS:
        return
    task = context["task_instance"]
    told = {"text": f"recspark: {task.task_id} of {task.dag_id} failed, run {task.run_id}: {context.get('exception')}"}
    request = urllib.request.Request(ALERTS, json.dumps(told).encode(), {"Content-Type": "application/json"})
    urllib.request.urlopen(request, timeout=30).close()


with DAG(
    "recspark_nightly",
    description="From logs and texts to lists, a stage a task",
    # Its runs are for the day that is over: `ds` of the run at 02:00 is the day before. A bare cron string means the day that has just begun.
    schedule=CronDataIntervalTimetable(SCHEDULE, timezone="UTC"),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,  # a night takes from the one before: unchanged texts, the lists it is compared with
    default_args={
        "retries": 2,
        "retry_delay": timedelta(minutes=5),
        "retry_exponential_backoff": True,
        "on_failure_callback": alert,
    },
    tags=["recspark"],
) as dag:
    last: Any = None
    if ARRIVAL:
        last = FileSensor(
            task_id="arrival",
            filepath=ARRIVAL,
            mode="reschedule",
            poke_interval=300,
            timeout=timedelta(hours=12).total_seconds(),
        )
    for step in steps(CONFIG, OVERRIDES):
        task = StageOperator(
            task_id=step.stage,
            application=f"{HOME}/jobs/{step.stage}.py",
            application_args=[
                *("--config", CONFIG, "--run-date", "{{ ds }}"),
                *(word for override in OVERRIDES for word in ("--set", override)),
            ],
            name=f"recspark-{step.stage}-{{{{ ds }}}}",
            conn_id=CONNECTION,
            properties_file=PROPERTIES or None,
            execution_timeout=step.longest,
            pool=POOL if step.ranks else "default_pool",
        )
        if last is not None:
            last >> task
        last = task
