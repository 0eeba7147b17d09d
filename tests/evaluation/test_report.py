"""The report's sentences by hand-made numbers, and that nothing in the data can become markup."""

import dataclasses
import re
from html.parser import HTMLParser

import pandas as pd
import pytest

from recspark.evaluation import plots, report, report_metrics, verdict
from recspark.evaluation.report import Entry, Example, Histogram, Lists, ReportFacts, StageRecord, render
from recspark.tables import LEAKAGE
from tests.evaluation.metric_tables import NOT_COMPARED, metric_table

BAD = "<script>alert(1)</script> \"quoted\" & 'single' $x$ 🎬 שלום"
BAD_MODEL = "<b>$x$</b>&"  # what a plot's font can draw
EMPTY = Lists(0, 0, 0, 0, 10, 0, 0, [], None)


@pytest.fixture
def facts() -> ReportFacts:
    """A report in which every text is bad."""
    metrics = metric_table(popularity=0.1, als=0.2, text_before=0.1, text_after=0.15, full=0.3)
    odd = pd.DataFrame(
        [
            {
                "model": BAD_MODEL,
                "slice": "all",
                "metric": "ndcg",
                "k": 10,
                "value": 0.05,
                "low": 0.04,
                "high": 0.06,
                "users": 9,
            }
        ]
    )
    training = pd.DataFrame(
        {
            "epoch": [0, 1, 2],
            "train_loss": [None, 0.4, 0.2],
            "valid_loss": [0.5, 0.3, 0.35],
            "examples": [0, 9, 9],
            "seconds": [0.0, 75.0, 3.2],
        }
    )
    histogram = Histogram([0.0, 0.5, 1.0], [3, 4])
    return ReportFacts(
        run_date="2026-01-02",
        written_at="2026-01-02 03:04 UTC",
        model_hash=BAD,
        retriever_version=BAD,
        metrics=pd.concat([metrics, odd]),
        comparisons=NOT_COMPARED,
        leakage=pd.DataFrame([("pairs_in_both", 1200, 0.25, BAD)], columns=LEAKAGE.column_names),
        training=training,
        lists=Lists(1200, 3600, 50, 25, 10, 5, 36, [(BAD, 600)], histogram),
        examples=[Example(BAD, 12, [Entry(BAD, BAD)], [Entry(BAD, "0.123", True)])],
        tokens=histogram,
        max_length=32,
        texts_cut=1,
        stages=[StageRecord(BAD, {BAD: 1000}, {BAD: None}, 75.0)],
        rejects=[("items", BAD, 4)],
        settings={"lake": BAD},
        versions={BAD: BAD},
    )


class Page(HTMLParser):
    """Names of the elements, attributes by value, and the text of a page."""

    def __init__(self, html: str):
        super().__init__()
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


def test_bad_text_is_shown_as_text_wherever_it_stands(facts):
    html = render(facts)
    page = Page(html)
    assert "script" not in page.elements
    # user, two titles and a note, most shown, reject, stage, two tables' names, version and model hash, settings, a version's two, a leak
    assert page.text.count("<script>alert(1)</script>") == 15
    assert page.text.count("🎬 שלום") == 15
    assert page.text.count(BAD_MODEL) == 2  # in a plot and in a table
    assert not [name for name, _ in page.attributes if name.startswith("on")]


def test_page_needs_nothing_from_elsewhere(facts):
    page = Page(render(facts))
    assert not {"script", "link", "img", "iframe", "object"} & set(page.elements)
    addresses = {value for name, value in page.attributes if value and "://" in value and not name.startswith("xmlns")}
    assert addresses == set()
    assert "svg" in page.elements


def test_ids_of_several_plots_do_not_clash(facts):
    ids = [value for name, value in Page(render(facts)).attributes if name == "id"]
    assert len(ids) > 100
    assert len(ids) == len(set(ids))


def test_same_facts_make_the_same_bytes(facts):
    assert render(facts) == render(facts)


def test_text_of_plots_is_text_and_colours_are_the_pages(facts):
    html = render(facts)
    assert re.search(r"<text[^>]*>text after fine-tuning</text>", html)
    assert "var(--orange)" in html
    assert not re.search("|".join(plots.VARIABLES), html)


def test_numbers_are_where_they_belong(facts):
    text = " ".join(Page(render(facts)).text.replace("\u202f", "").split())
    assert "what its text adds to that was not measured" in text
    assert "50.0%of 50 items are on some list" in text
    assert "10.0%are among someone's first 10" in text
    assert "1.0%of all entries are cold items" in text
    assert "1 text reaches the limit of 32 tokens" in text
    assert "1,200 (25.0%) pairs of a user and an item of the test stand in train, too" in text
    assert re.search(r"1 ?0\.40000 ?0\.30000 ?9 ?1 min 15 s ?kept", text)
    assert re.search("0.3000 ?0.290 – 0.310", text)


def test_empty_night_still_makes_a_page(facts):
    nothing = dataclasses.replace(
        facts,
        metrics=facts.metrics.iloc[:0],
        leakage=facts.leakage.iloc[:0],
        training=facts.training.iloc[:0],
        lists=EMPTY,
        examples=[],
        tokens=None,
        stages=[],
        rejects=[],
        settings={},
    )
    text = Page(render(nothing)).text
    assert "the stage evaluate did not run" in text
    assert "could have been known" not in text
    assert "every raw row was usable" in text


def test_a_night_that_held_nothing_out_says_so_and_lists_that_are_held_back_are_not_called_published(facts):
    evaluated = [dataclasses.replace(facts.stages[0], stage="evaluate")]
    nothing = dataclasses.replace(
        facts,
        metrics=facts.metrics.iloc[:0],
        leakage=facts.leakage.iloc[:0],
        stages=evaluated,
        held_back=["users_lost 0.5"],
    )
    text = Page(render(nothing)).text
    assert "Nothing was held out as a test" in text
    assert "The lists are held back" in text
    assert "What was published" not in text
    alone = dataclasses.replace(facts, metrics=facts.metrics[facts.metrics.model == "full"])
    assert "No baseline and no model before fine-tuning was measured" in Page(render(alone)).text


# ---- the lists in parts


def in_classes(**values: tuple[float, ...]) -> pd.DataFrame:
    """ndcg@10 of models on all items and on two classes of users and one of items."""
    names = ("all", "users: 3-5 events", "users: more than 100 events", "items: decile 10")
    tables = [metric_table(**{m: v[n] for m, v in values.items()}).assign(slice=s) for n, s in enumerate(names)]
    return pd.concat(tables)


def test_classes_of_users_and_items_are_drawn_for_the_leading_models(facts):
    metrics = in_classes(
        popularity=(0.1,) * 4, als=(0.2, 0.1, 0.3, 0.0), text_before=(0.1,) * 4, full=(0.3, 0.2, 0.4, 0.1)
    )
    (users, user_plot), (items, item_plot) = report.within_plots(metrics)
    assert (users, items) == ("Users by the length of their history", "Items by popularity")
    described = dict(Page(user_plot).attributes)["aria-label"]
    assert described == (
        "nDCG@10 by events of a user: 3–5: Spark's ALS 0.1000 [0.0900, 0.1100], full model 0.2000 [0.1900, 0.2100]; "
        "> 100: Spark's ALS 0.3000 [0.2900, 0.3100], full model 0.4000 [0.3900, 0.4100]"
    )
    assert "10: Spark's ALS 0.0000" in dict(Page(item_plot).attributes)["aria-label"]
    page = render(dataclasses.replace(facts, metrics=metrics))
    assert "For whom, and for which items" in page
    assert "For whom, and for which items" not in render(facts)
    assert {t.title for t in report.metric_tables(metrics)} == {"All items"}


def test_a_model_that_was_not_judged_on_a_class_leaves_a_gap():
    metrics = in_classes(als=(0.2, 0.1, 0.3, 0.0), full=(0.3, 0.2, 0.4, 0.1))
    partial = metrics[(metrics["model"] == "full") | (metrics["slice"] != "users: 3-5 events")]
    (_, plot), _ = report.within_plots(partial)
    assert "3–5: full model 0.2000 [0.1900, 0.2100]; > 100: Spark's ALS" in dict(Page(plot).attributes)["aria-label"]


def test_new_users_are_drawn_by_how_many_events_are_known_for_every_model(facts):
    parts = [
        metric_table(popularity=0.1, full=value).assign(slice=name)
        for name, value in (("new users: 10 events", 0.4), ("new users: 1 event", 0.2), ("new users: 3 events", 0.3))
    ]
    metrics = pd.concat([facts.metrics, *parts])
    described = dict(Page(report_metrics.new_users_plot(metrics)).attributes)["aria-label"]
    assert described == (
        "nDCG@10 by events of a new user: 1: popularity 0.1000 [0.0900, 0.1100], full model 0.2000 [0.1900, 0.2100]; "
        "3: popularity 0.1000 [0.0900, 0.1100], full model 0.3000 [0.2900, 0.3100]; "
        "10: popularity 0.1000 [0.0900, 0.1100], full model 0.4000 [0.3900, 0.4100]"
    )
    assert "<h2>New users</h2>" in render(dataclasses.replace(facts, metrics=metrics))
    assert "<h2>New users</h2>" not in render(facts)


def test_cold_items_among_all_have_a_table_of_what_was_measured(facts):
    metrics = pd.concat([metric_table(full=0.3), metric_table(full=0.1).assign(slice="cold_among_all")])
    hits = metric_table(full=0.2).assign(metric="precision")
    tables = [(t.title, t.metrics) for t in report.metric_tables(pd.concat([metrics, hits]))]
    assert tables == [("All items", ["ndcg", "precision"]), ("Cold items, found among all", ["ndcg"])]


def test_what_does_not_ask_for_the_choice_has_tables_of_its_own(facts):
    lift = metric_table(als=2.5, full=1.25).assign(metric="popularity_lift")
    metrics = pd.concat([metric_table(als=0.2, full=0.3), lift])
    assert [(t.metrics, t.title) for t in report.metric_tables(metrics)] == [(["ndcg"], "All items")]
    (table,) = report.beside_tables(metrics)
    assert table.metrics == ["popularity_lift"]
    assert [(name, cell["value"]) for name, (cell,) in table.rows] == [("Spark's ALS", 2.5), ("full model", 1.25)]
    assert "beside being right" in render(dataclasses.replace(facts, metrics=metrics))
    assert "beside being right" not in render(facts)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.44, "0.4 s"), (12.4, "12 s"), (59.7, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")],
)
def test_duration_is_readable(seconds, words):
    assert report.duration(seconds) == words


def test_errors_of_ratings_stand_in_a_table_of_their_own_the_smallest_first(facts):
    errors = pd.DataFrame(
        [
            {
                "model": model,
                "slice": "all",
                "metric": metric,
                "k": 0,
                "value": value,
                "low": value,
                "high": value,
                "users": 7,
            }
            for model, value in (("rating_mean", 1.1265), ("ratings", 0.8771))
            for metric in ("rmse", "mae")
        ]
    )
    metrics = pd.concat([metric_table(full=0.3), errors])
    (table,) = report.rating_tables(metrics)
    assert [name for name, _ in table.rows] == ["ratings model", "mean of all ratings"]
    assert verdict.main_k(metrics) == 10
    assert {t.k for t in report.metric_tables(metrics)} == {10}
    page = render(dataclasses.replace(facts, metrics=metrics))
    assert "How well ratings are predicted" in page
    assert "1.1265" in page
    assert "How well ratings are predicted" not in render(facts)
