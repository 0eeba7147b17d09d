"""What the metrics come to in a sentence."""

import pandas as pd
import pytest

from recspark.evaluation import verdict
from tests.evaluation.metric_tables import NOT_COMPARED, comparison_table, metric_table


@pytest.mark.parametrize(
    ("full", "state", "words"),
    [
        (0.30, "better", "50% more, the intervals are apart"),
        (0.21, "open", "5% more, the intervals touch"),
        (0.10, "worse", "50% less, the intervals are apart"),
    ],
)
def test_full_model_is_set_beside_the_best_baseline(full, state, words):
    (found,) = verdict.findings(metric_table(popularity=0.1, als=0.2, full=full), NOT_COMPARED)
    assert found.state == state
    assert (
        f"nDCG@10 of the full model is {full:.4f} [{full - 0.01:.4f}, {full + 0.01:.4f}]; of Spark's ALS 0.2000"
        in found.sentence
    )
    assert words in found.sentence
    assert "(1,234 users)" in found.sentence


@pytest.mark.parametrize(
    ("compared", "state", "words"),
    [
        (("full", "als", 0.01, 0.002, 0.018, 0.0123), "better", "0.0100 [0.0020, 0.0180], is significant (p = 0.012;"),
        (("als", "full", -0.01, -0.018, -0.002, 1e-9), "better", "0.0100 [0.0020, 0.0180], is significant (p < 0.001;"),
        (("full", "als", 0.01, -0.001, 0.021, 0.05), "open", "0.0100 [-0.0010, 0.0210], is not significant (p = 0.05;"),
        (
            ("full", "als", -0.01, -0.018, -0.002, 0.04),
            "worse",
            "-0.0100 [-0.0180, -0.0020], is significant (p = 0.04;",
        ),
    ],
)
def test_the_paired_difference_decides_whatever_the_models_own_intervals_do(compared, state, words):
    found, *_ = verdict.findings(
        metric_table(als=0.2, full=0.19 if state == "worse" else 0.21), comparison_table(compared)
    )
    assert found.state == state
    assert f"the difference over the same users, {words} 1,234 users)" in found.sentence


def test_the_difference_of_another_slice_metric_or_length_says_nothing():
    row = ("full", "als", 0.01, 0.002, 0.018, 0.001)
    others = [
        comparison_table(row, slice_name="warm"),
        comparison_table(row).assign(metric="recall"),
        comparison_table(row).assign(k=20),
    ]
    (found,) = verdict.findings(metric_table(als=0.2, full=0.21), pd.concat(others))
    assert (found.state, "the intervals touch (1,234 users)" in found.sentence) == ("open", True)


@pytest.mark.parametrize(
    ("difference", "p", "state", "begins", "head"),
    [
        (0.01, 0.01, "better", "Text helps: nDCG@10 of the full model is", "and of itself without text."),
        (0.01, 0.3, "open", "Text does not help, as far as can be told: nDCG@10 of", "but not for its text"),
        (-0.01, 0.01, "worse", "Text does harm: nDCG@10 of", "but its text does harm"),
    ],
)
def test_what_text_adds_is_said_plainly_and_in_the_headline(difference, p, state, begins, head):
    compared = comparison_table(
        ("full", "als", 0.1, 0.09, 0.11, 0.001),
        ("full", "id_alone", difference, difference - 0.005, difference + 0.005, p),
    )
    found = verdict.findings(metric_table(als=0.1, id_alone=0.2 - difference, full=0.2), compared)
    assert [f.question for f in found] == ["Against the best baseline", "What text adds"]  # it is no baseline itself
    assert "Spark's ALS" in found[0].sentence
    assert found[1].state == state
    assert found[1].sentence.startswith(begins)
    assert "full model without text" in found[1].sentence
    assert head in verdict.headline(found)


def test_intervals_that_meet_in_a_point_touch():
    (found,) = verdict.findings(metric_table(als=(0.2, 0.1, 0.25), full=(0.3, 0.25, 0.4)), NOT_COMPARED)
    assert found.state == "open"


def test_headline_says_yes_open_or_no():
    heads = [
        verdict.headline(verdict.findings(metric_table(als=0.2, full=full), NOT_COMPARED)) for full in (0.3, 0.21, 0.1)
    ]
    assert [h.partition(":")[0] for h in heads] == [
        "The full model is clearly ahead of the best baseline; what its text adds to that was not measured (evaluate.id_alone does).",
        "The full model and the best baseline are too close to call on this many users.",
        "The language model does not earn its keep",
    ]


def test_without_baselines_the_headline_claims_nothing():
    found = verdict.findings(metric_table(text_before=0.1, text_after=0.2, full=0.3), NOT_COMPARED)
    assert [f.question for f in found] == ["What fine-tuning did"]
    assert verdict.headline(found).startswith("The lists are published; nothing was measured")
    assert verdict.headline(found, published=False).startswith("The lists are held back; nothing was measured")


def test_of_reranked_lists_these_are_what_is_judged():
    found = verdict.findings(metric_table(als=0.2, full=0.3, reranked=0.1), NOT_COMPARED)
    assert [(f.question, f.state) for f in found] == [
        ("Against the best baseline", "worse"),
        ("What reranking did", "worse"),
    ]
    assert "does not earn its keep" in verdict.headline(found)


def test_cold_items_are_judged_by_the_text_against_all_others():
    cold = metric_table(popularity=0.01, text_before=0.1, text_after=0.15, factors=0.15, full=0.16).assign(slice="cold")
    (found,) = verdict.findings(cold, NOT_COMPARED)
    assert found.question == "On cold items"
    assert "text before fine-tuning 0.1000" in found.sentence


def test_main_length_is_ten_or_the_shortest():
    assert verdict.main_k(pd.DataFrame({"k": [20, 10, 5]})) == 10
    assert verdict.main_k(pd.DataFrame({"k": [50, 20]})) == 20


def test_baseline_of_zero_is_no_division():
    (found,) = verdict.findings(metric_table(popularity=(0.0, 0.0, 0.0), full=0.3), NOT_COMPARED)
    assert "from nothing" in found.sentence
