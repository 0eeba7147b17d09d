"""Whether a text names a user, and leaks in words."""

import pytest

from recspark.evaluation.leaks import CHECKS, first_named, told


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("Reviewed by alice99.", "alice99"),
        ("alice99", "alice99"),
        ("user_id=u-1234-x; rating=5", "u-1234-x"),
        ("from @handle!", "@handle"),
        ("u-1234-x, then alice99", "u-1234-x"),
        ("malice99 and alice991", None),  # part of another word
        ("alice99_old", None),
        ("Alice99", None),
        ("", None),
    ],
)
def test_an_id_counts_where_it_stands_by_itself(text, named):
    ids = {"alice99", "u-1234-x", "@handle"}
    assert first_named(text, ids, sorted({len(i) for i in ids})) == named


def test_an_id_may_hold_a_space_and_end_in_a_mark():
    assert first_named("by Mr. X. (1999)", {"Mr. X."}, [6]) == "Mr. X."


def test_counts_are_told_in_the_order_of_the_checks_and_without_a_share_where_there_is_none():
    rows = [("texts_that_name_a_user", 0, None, None), ("train_after_test", 1200, 0.25, "user 1")]
    assert told(rows) == "leakage: 1,200 (25.0%) train events are later than the first test event; 0 texts name a user"
    assert len(CHECKS) == 4
