"""Items list by list, as a worker finds them."""

import numpy as np
import pytest

from recspark.data.listed import shards_of, sizes_of, write_listed

LISTS = [3, 0, 3, 1, 3, 1]  # of the items at positions 0 to 5; list 2 is empty


@pytest.mark.parametrize("shards", [1, 2, 9])
def test_every_item_lies_in_its_list_by_position_in_one_shard(spark, tmp_path, shards):
    rows = [(which, position, [float(position), 0.5]) for position, which in enumerate(LISTS)]
    items = spark.createDataFrame(rows[::-1], "list int, position int, vector array<float>")
    sizes = sizes_of(items, 4)
    assert sizes.tolist() == [1, 2, 0, 3]
    listed = write_listed(items, sizes, shards, str(tmp_path))
    assert listed.shards == min(shards, 3)
    found = {}
    for shard in range(listed.shards):
        vectors, positions, bounds = listed.arrays(shard)
        assert len(vectors) == len(positions) == bounds[-1]
        np.testing.assert_array_equal(vectors, [[position, 0.5] for position in positions])
        for which in np.flatnonzero(np.diff(bounds)):
            assert which not in found
            found[which] = positions[bounds[which] : bounds[which + 1]].tolist()
    assert found == {0: [1], 1: [3, 5], 3: [0, 2, 4]}


def test_shards_are_runs_of_lists_with_about_as_many_items():
    assert [part.tolist() for part in shards_of(np.array([3, 0, 3, 3, 3]), 2)] == [[0, 2], [3, 4]]
    assert [part.tolist() for part in shards_of(np.array([10, 1, 1]), 3)] == [[0], [1, 2]]
