import sys
from types import SimpleNamespace

import pytest

from recspark.doctor import machine
from recspark.doctor.checkup import Caution
from recspark.errors import UserError
from tests.doctor.visit import checkup


def test_old_java_is_told(monkeypatch, tmp_path):
    java = tmp_path / "bin/java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019-01-15' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(UserError, match=r"is Java 11.0.2; Spark needs 17 or 21"):
        machine.java(checkup())


def test_numpy_2_beside_pyarrow_14_is_told(monkeypatch):
    monkeypatch.setattr(machine, "version", {"numpy": "2.1.0", "pyarrow": "14.0.2"}.get)
    with pytest.raises(UserError, match=r"pyarrow 14.0.2 was built for numpy 1 and numpy is 2.1.0"):
        machine.packages(checkup())


def test_petastorm_that_does_not_load_is_told_if_it_is_to_read(monkeypatch):
    monkeypatch.setitem(sys.modules, "petastorm.reader", None)
    assert "torch" in machine.packages(checkup())
    with pytest.raises(UserError, match=r"set finetune.reader: arrow"):
        machine.packages(checkup(finetune={"reader": "petastorm"}))
    assert "torch" in machine.packages(checkup(finetune={"reader": "petastorm"}, embed={"retriever": "promoted"}))


def test_memory_is_set_against_driver_and_tasks(monkeypatch):
    for free, state in ((16, str), (3, Caution), (1, UserError)):
        monkeypatch.setattr(machine, "free_memory", lambda free=free: free * machine.GIB)
        if state is UserError:
            with pytest.raises(UserError, match=r"1.0 GiB free, and spark.driver_memory is 2g"):
                machine.memory(checkup())
        else:
            assert type(machine.memory(checkup())) is state


def test_in_a_container_file_cache_that_gives_way_is_free(tmp_path):
    """Of 4 GiB that the container may have 3.5 are taken, 2 of them by files that nobody looks at: 2.5 can be had, if the machine has them."""
    gib = machine.GIB
    (tmp_path / "memory.max").write_text(f"{4 * gib}\n")
    (tmp_path / "memory.current").write_text(f"{7 * gib // 2}\n")
    (tmp_path / "memory.stat").write_text(f"anon {gib}\ninactive_file {2 * gib}\nactive_file {gib // 2}\n")
    assert machine.free_memory(tmp_path) == min(machine.free_memory(tmp_path / "none"), 5 * gib // 2)


def test_full_disk_is_told(monkeypatch):
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: SimpleNamespace(free=machine.GIB))
    with pytest.raises(UserError, match=r"only 1.0 GiB for temporary files .* and 1.0 GiB for the lake"):
        machine.disk(checkup())


@pytest.mark.parametrize(("amount", "count"), [("2g", 2 * 2**30), ("512m", 2**29), ("2048", 2**31), ("1T", 2**40)])
def test_amounts_are_sparks(amount, count):
    assert machine.in_bytes(amount) == count


@pytest.mark.parametrize(
    ("master", "slots"), [("local", 1), ("local[4]", 4), ("local[3,2]", 3), ("local[*]", machine.cores())]
)
def test_local_masters_have_so_many_slots(master, slots):
    assert machine.local_slots(master) == slots
