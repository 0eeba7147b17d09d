"""publish: the lists, reranked if they were, become what consumers read, if they pass their checks; and a report tells of the night.

The table appears whole or not at all. If a check fails, what was published before stays in its place.
"""

import logging
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, StringConstraints
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recspark.config import Settings
from recspark.errors import HeldBack, RunFailed
from recspark.evaluation.report import render
from recspark.lake import Lake, Traffic
from recspark.lake.catalog import register
from recspark.stages.candidates import denied_items
from recspark.stages.guardrails import SCORED_BY, Found, Guardrails, compared, scored_by
from recspark.stages.list_checks import list_faults
from recspark.stages.list_vectors import list_vectors, require_one_model
from recspark.stages.provenance import require_made_from
from recspark.stages.report_facts import collect_facts
from recspark.stages.versions import RETRIEVER_VERSION, vectors_version
from recspark.tables import CANDIDATES, INTERACTIONS, METRICS, RECOMMENDATIONS, RERANKED

if TYPE_CHECKING:
    from recspark.pipeline import Deployment

INPUTS = (
    "candidates",
    "reranked",
    "interactions",
    "items",
    "item_vectors",
    "user_vectors",
    "combined_item_vectors",
    "combined_user_vectors",
    "training_log",
    "metrics",
    "comparisons",
    "leakage",
    "rejects",
)
OUTPUTS = ("recommendations", "report")
DatabaseName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]\w*$")]
FORCED = "forced"  # in the facts of a run, and so in the manifests of what it wrote

log = logging.getLogger("recspark")


class PublishRefused(RunFailed):
    """The lists fail their checks: no fault of the user's settings, and nothing was published. One line a failed check."""

    def __init__(self, lake: Lake, faults: list[str]):
        before = [date for date in lake.run_dates(RECOMMENDATIONS) if lake.has(RECOMMENDATIONS, date)]
        stays = f"the newest that is published, of {before[-1]}, stays" if before else "there is none published yet"
        lines = [f"publish: the lists of {lake.run_date} fail their checks and are not published; {stays}"]
        lines += [f"  {fault}" for fault in faults]
        lines.append("  run again from the stage candidates; if it comes back, it is a bug in recspark")
        super().__init__("\n".join(lines))


class PublishConfig(Settings):
    """What is made for people, beside the table."""

    guardrails: Guardrails = Field(
        Guardrails(), description="how far a night may be from the one before; beyond, nothing is published"
    )
    report: bool = Field(True, description="write reports/run_date=…/report.html into the lake")
    catalog: DatabaseName | None = Field(
        None,
        description="register the tables, as they are written, under this database of Spark's catalog; none: nowhere",
    )
    example_users: int = Field(
        3, ge=0, le=20, description="users whose lists stand in the report, drawn by a hash of the id"
    )


def run(spark: SparkSession, lake: Lake, config: "Deployment") -> None:
    """Check the candidates, or the reranked lists if configured; write recommendations and the report.

    Raises PublishRefused if a check fails; HeldBack if the lists are too far from the last, unless the run is forced, which the
    manifest then says; UserError if a table is missing, or the metrics are of other lists. Metrics, comparisons, leakage, training log and rejects may
    be missing: the report then goes without.
    """
    vectors = list_vectors(spark, lake, config)
    users, items = vectors.users, vectors.items
    require_one_model(items, users)
    lists, interactions = finished_lists(spark, lake, config), lake.read(spark, INTERACTIONS)
    if lake.has(METRICS):
        require_made_from(lake, METRICS, (INTERACTIONS, RERANKED if config.rerank else CANDIDATES), "evaluate")
    faults = list_faults(
        lists,
        users,
        offered(spark, items, config),
        vectors.seen(interactions),
        (config.rerank and config.rerank.top_k) or config.candidates.top_k,
        "retriever_score" if config.rerank else "score",
    )
    if faults:
        raise PublishRefused(lake, faults)
    tell_held_out(lists, interactions)

    version, made = vectors_version(lake, "publish"), recommendations(lists, users)
    against, found = compared(spark, lake, config, made)
    breached = [difference for difference in found if difference.breached]
    if breached and not lake.facts.get(FORCED):
        report(spark, lake, config, made, version, [f"{against}: {difference}" for difference in breached])
        raise held_back(lake, against, breached)
    for difference in found:
        log.log(logging.WARNING if difference.breached else logging.INFO, "  against %s: %s", against, difference)
    guarded = {"against": against, **{d.name: d.value for d in found}, "breached": [d.name for d in breached]}
    about = {RETRIEVER_VERSION: version, SCORED_BY: scored_by(config), "guardrails": guarded}
    published = lake.write(made, RECOMMENDATIONS, **about)
    if config.publish.catalog:
        register(spark, lake, config.publish.catalog)
    report(spark, lake, config, published, version, [])


def report(
    spark: SparkSession,
    lake: Lake,
    config: "Deployment",
    lists: DataFrame,
    version: str | None,
    held_back: list[str],
) -> None:
    """Write it, if it is wanted. held_back: why the lists are not published."""
    if not config.publish.report:
        return
    text = render(collect_facts(spark, lake, config, lists, version or "", held_back))
    path = lake.write_file(f"reports/run_date={lake.run_date}/report.html", text)
    lake.traffic.append(Traffic("write", "report", None, path))
    log.info("report: %s", path)


def held_back(lake: Lake, against: str | None, breached: list[Found]) -> HeldBack:
    """The error that says why nothing is published."""
    lines = [
        f"publish: the lists of {lake.run_date} are not published: they are too far from those of {against}, which stay"
    ]
    lines += [f"  {difference}" for difference in breached]
    lines.append(
        f"  look at the report and at what came in; if it is as it should be: recspark run --config … --run-date {lake.run_date} --from publish --force, "
        "or widen the bounds in publish.guardrails"
    )
    return HeldBack("\n".join(lines))


def tell_held_out(lists: DataFrame, interactions: DataFrame) -> None:
    """Say how many of the listed items their users have had since the split: what is held out to judge the lists by is not seen."""
    test = interactions.where("split = 'test'").select("user_id", "item_id").distinct()
    if held_out := lists.join(test, ["user_id", "item_id"], "left_semi").count():
        log.info(
            "  %s listed items are ones that their users have had in the split test, which judges these lists; for lists of today see "
            "docs/nights.md",
            f"{held_out:,}",
        )


def offered(spark: SparkSession, items: DataFrame, config: "Deployment") -> DataFrame:
    """The catalogue, less what is denied."""
    denied = denied_items(spark, config, items)
    return items if denied is None else items.join(denied, "item_id", "left_anti")


def finished_lists(spark: SparkSession, lake: Lake, config: "Deployment") -> DataFrame:
    """The lists as they came out of the last stage that orders them, with both scores where that is rerank."""
    if config.rerank:
        return lake.read(spark, RERANKED)
    nothing = F.lit(None).cast("float")
    return lake.read(spark, CANDIDATES).withColumns({"retriever_score": nothing, "reranker_score": nothing})


def recommendations(lists: DataFrame, users: DataFrame) -> DataFrame:
    """The lists, stamped with the model of the vectors they were made from; sorted, so that who looks for one user's list
    skips most of a file."""
    model = users.select("model_hash").first()
    assert model is not None  # require_one_model has seen a row
    return lists.withColumn("model_hash", F.lit(model["model_hash"])).sortWithinPartitions("user_id", "rank")
