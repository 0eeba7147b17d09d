import errno
import os
import signal
import socket
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from py4j.java_gateway import GatewayClient
from py4j.protocol import Py4JError, Py4JNetworkError
from safetensors.numpy import load_file, save_file

from recspark.errors import RunFailed, UserError
from recspark.exits import Leftovers, guard


def raising(error: BaseException):
    def act() -> None:
        raise error

    return act


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UserError("column x is missing"), 2, "recspark: column x is missing"),
        (RunFailed("rank 1 died"), 1, "recspark: rank 1 died"),
        (
            RuntimeError("Job aborted\nrecspark.errors.UserError: the model cannot be read\n\tat org.x"),
            2,
            "the model cannot be read",
        ),
        (
            RuntimeError(
                "Error from python worker:\n  /usr/bin/python3: No module named recspark.worker_daemon\nPYTHONPATH"
            ),
            2,
            "the Python of Spark's workers has no recspark: /usr/bin/python3: No module",
        ),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/lake/x"), 1, "a disk is full: [Errno 28]"),
        (PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/lake/x"), 2, "access is refused: [Errno 13]"),
        (
            OSError(
                "When listing objects under key 'lake' in bucket 'b': AWS Error ACCESS_DENIED during ListObjectsV2"
            ),
            2,
            "access is refused: When listing objects",
        ),
        (KeyboardInterrupt(), 130, "interrupted"),
        (Py4JError("An error occurred while calling o49.sc"), 1, "Spark's JVM has ended"),
        (Py4JNetworkError("Answer from Java side is empty"), 1, "Spark's JVM has ended"),
    ],
)
def test_what_is_no_bug_has_its_exit_code_and_no_stack_trace(capsys, monkeypatch, error, code, said):
    monkeypatch.setattr("recspark.exits.log.handlers", [])
    assert guard(raising(error), verbose=False) == code
    told = capsys.readouterr().err
    assert said in told
    assert "Traceback" not in told


def test_an_interrupt_that_is_lost_where_the_jvm_is_asked_is_still_one(capsys):
    """What is asked next finds the bridge cut off, as if the JVM had ended; without an interrupt, it has."""

    def act() -> None:
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        raise Py4JNetworkError("Answer from Java side is empty")

    assert guard(act, verbose=False) == 130
    told = capsys.readouterr().err
    assert "interrupted" in told
    assert "Traceback" not in told
    assert guard(act, verbose=True) == 130
    assert "Py4JNetworkError" in capsys.readouterr().err
    assert guard(raising(Py4JNetworkError("Answer from Java side is empty")), verbose=False) == 1


def test_a_jvm_that_does_not_answer_is_told_from_another_host_that_does_not(capsys):
    """A killed JVM's port takes no connection; neither does some service's, which is no matter of Spark's."""
    with socket.socket() as nobody:  # bound, and never listening
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        bridge = GatewayClient(port=port)
        assert guard(lambda: bridge.send_command("c\n"), verbose=False) == 1
        assert "Traceback" not in (said := capsys.readouterr().err)
        assert "Spark's JVM has ended" in said
        assert guard(lambda: socket.create_connection(("127.0.0.1", port)).close(), verbose=False) == 1
        assert "Traceback" in capsys.readouterr().err


def test_a_bug_prints_its_stack_trace_and_ends_with_1(capsys):
    assert guard(raising(ZeroDivisionError("oops")), verbose=False) == 1
    assert "Traceback" in capsys.readouterr().err


def test_verbose_adds_the_stack_trace(capsys):
    assert guard(raising(UserError("no")), verbose=True) == 2
    assert "Traceback" in capsys.readouterr().err


def test_nothing_wrong_is_0():
    assert guard(lambda: None, verbose=False) == 0


@pytest.mark.parametrize("damage", ["cut short", "a byte changed", "no Parquet"])
def test_a_damaged_file_is_named_in_a_sentence(spark, tmp_path, capsys, monkeypatch, damage):
    monkeypatch.setattr("recspark.exits.log.handlers", [])
    spark.range(1000).repartition(1).write.parquet(str(tmp_path / "items"))
    (file,) = (tmp_path / "items").glob("*.parquet")
    whole = file.read_bytes()
    if damage == "cut short":
        file.write_bytes(whole[: len(whole) // 2])
    elif damage == "a byte changed":
        file.write_bytes(whole[:100] + bytes([whole[100] ^ 255]) + whole[101:])
    else:
        (tmp_path / "items" / f".{file.name}.crc").unlink()
        file.write_bytes(b"id,name\n" * 1000)
    read = spark.read.schema("id long").parquet(str(tmp_path / "items"))
    assert guard(lambda: read.collect(), verbose=False) == 2
    said = capsys.readouterr().err
    assert file.name in said
    assert "run again from the stage that writes it" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(("module", "told"), [("horovod.runner.util.streams", 0), ("recspark.lake.lock", 1)])
def test_what_threads_of_horovod_fail_with_afterwards_is_told_to_nobody(
    monkeypatch: pytest.MonkeyPatch, module: str, told: int
):
    heard: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", Leftovers(heard.append))
    names = {"__name__": module}
    exec("def write(): raise RuntimeError('Pipe is closed')", names)
    thread = threading.Thread(target=names["write"])  # type: ignore[arg-type]
    thread.start()
    thread.join()
    assert len(heard) == told


@pytest.mark.parametrize(
    ("error", "named"),
    [
        ("Could not open Parquet input source '/lake/b.parquet': Parquet file size is 0 bytes", "/lake/b.parquet"),
        (
            "Error creating dataset. Could not read schema from '/b.parquet': Either the file is corrupted or this is not a parquet file.",
            "/b.parquet",
        ),
        (
            "Parquet magic bytes not found in footer. Either the file is corrupted or this is not a parquet file.",
            "magic",
        ),
        (
            "Caused by: java.lang.RuntimeException: file:/lake/c.parquet is not a Parquet file. Expected magic",
            "/lake/c.parquet",
        ),
        ("ChecksumException: Checksum error: file:/lake/d.parquet at 0", "/lake/d.parquet"),
        ("safetensors_rust.SafetensorError: Error while deserializing header: invalid UTF-8", "invalid UTF-8"),
    ],
)
def test_a_damaged_file_is_named_as_far_as_it_is_known(capsys, monkeypatch, error: str, named: str):
    monkeypatch.setattr("recspark.exits.log.handlers", [])
    assert guard(raising(OSError(error)), verbose=False) == 2
    told = capsys.readouterr().err
    assert "a file is damaged: " in told
    assert named in told
    assert "Traceback" not in told


def test_weights_that_the_driver_cannot_read_are_a_damaged_file(tmp_path: Path, capsys, monkeypatch):
    """They may have changed after their checksum was looked at; what safetensors says has not its own name in it."""
    monkeypatch.setattr("recspark.exits.log.handlers", [])
    save_file({"weight": np.zeros(3, np.float32)}, tmp_path / "head.safetensors")
    whole = (tmp_path / "head.safetensors").read_bytes()
    (tmp_path / "head.safetensors").write_bytes(whole[:9] + b"\xff" + whole[10:])
    assert guard(lambda: load_file(tmp_path / "head.safetensors"), verbose=False) == 2
    told = capsys.readouterr().err
    assert "a file is damaged: " in told
    assert "Traceback" not in told


@pytest.mark.parametrize(
    "said",
    [
        "[FAILED_READ_FILE.FILE_NOT_EXIST] Encountered error while reading file file:/lake/a.parquet. File does not exist.",
        "[PATH_NOT_FOUND] Path does not exist: file:/lake/a.parquet. SQLSTATE: 42K03",
    ],
)
def test_what_has_gone_meanwhile_is_a_failure_that_a_re_run_mends(capsys, monkeypatch, said):
    monkeypatch.setattr("recspark.exits.log.handlers", [])
    assert guard(raising(RuntimeError(f"Job aborted\n{said}\n\tat org.x")), verbose=False) == 1
    assert "file:/lake/a.parquet" in (told := capsys.readouterr().err)
    assert "written anew or removed by another run" in told


def test_an_error_that_java_answered_with_is_no_jvm_that_has_ended(capsys, monkeypatch):
    monkeypatch.setattr("recspark.exits.log.handlers", [])
    answered = Py4JError("An error occurred while calling o49.sc. Trace:\njava.lang.NoSuchMethodException: sc")
    assert guard(raising(answered), verbose=False) == 1
    assert "Traceback" in capsys.readouterr().err
