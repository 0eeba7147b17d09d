"""Items list by list, as a worker finds them."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recspark.data import catalogue
from recspark.data.catalogue import vector_column
from recspark.data.listed import shards_of, write_listed
from recspark.errors import UserError

ROWS = [(0, 1), (1, 3), (1, 5), (3, 0), (3, 2), (3, 4)]  # list, position; list 2 is empty


def write_index(folder: Path, rows: list[tuple[int, int]], files: int = 2) -> str:
    """As the table item_index has them, in so many files."""
    folder.mkdir()
    for number, part in enumerate(np.array_split(np.array(rows, np.int32), files)):
        vectors = np.stack([part[:, 1], np.full(len(part), 0.5)], 1).astype(np.float32)
        columns = {"list": part[:, 0], "position": part[:, 1], "vector": vector_column(vectors), "item_id": part[:, 1]}
        pq.write_table(pa.table(columns), folder / f"part-{number:05}.parquet")
    return str(folder)


@pytest.mark.parametrize("shards", [1, 2, 9])
@pytest.mark.parametrize("denied", [(), (3, 5), (2,), (1, 3, 5)])
def test_every_item_that_is_allowed_lies_in_its_list_by_position_in_one_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shards: int, denied: tuple[int, ...]
):
    monkeypatch.setattr(catalogue, "BATCH_ROWS", 2)
    allowed = ~np.isin(np.arange(6), denied) if denied else None
    expected: dict[int, list[int]] = {}
    for which, position in ROWS:
        if position not in denied:
            expected.setdefault(which, []).append(position)
    listed = write_listed(write_index(tmp_path / "index", ROWS), 4, allowed, shards, str(tmp_path))
    assert 1 <= listed.shards <= min(shards, len(expected))
    assert denied or listed.shards == min(shards, 3)
    assert listed.sizes.tolist() == [len(expected.get(which, [])) for which in range(4)]
    found = {}
    for shard in range(listed.shards):
        vectors, positions, bounds = listed.arrays(shard)
        assert len(vectors) == len(positions) == bounds[-1]
        np.testing.assert_array_equal(vectors, [[position, 0.5] for position in positions])
        for which in np.flatnonzero(np.diff(bounds)):
            assert which not in found
            found[which] = positions[bounds[which] : bounds[which + 1]].tolist()
    assert found == expected


@pytest.mark.parametrize("rows", [[(1, 0), (0, 1)], [(0, 1), (0, 0)], [(0, 0), (0, 0)]])
def test_rows_in_another_order_are_refused(tmp_path: Path, rows: list[tuple[int, int]]):
    for files in (1, 2):
        index = write_index(tmp_path / f"index-{files}", rows, files)
        with pytest.raises(UserError, match="is not in the order of its lists; run again from index"):
            write_listed(index, 2, None, 1, str(tmp_path))


def test_shards_are_runs_of_lists_with_about_as_many_items():
    assert [part.tolist() for part in shards_of(np.array([3, 0, 3, 3, 3]), 2)] == [[0, 2], [3, 4]]
    assert [part.tolist() for part in shards_of(np.array([10, 1, 1]), 3)] == [[0], [1, 2]]
