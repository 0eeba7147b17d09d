import pytest

from recspark.errors import RunFailed, UserError
from recspark.exits import guard


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
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_what_is_no_bug_has_its_exit_code_and_no_stack_trace(capsys, monkeypatch, error, code, said):
    monkeypatch.setattr("recspark.exits.log.handlers", [])
    assert guard(raising(error), verbose=False) == code
    told = capsys.readouterr().err
    assert said in told
    assert "Traceback" not in told


def test_a_bug_prints_its_stack_trace_and_ends_with_1(capsys):
    assert guard(raising(ZeroDivisionError("oops")), verbose=False) == 1
    assert "Traceback" in capsys.readouterr().err


def test_verbose_adds_the_stack_trace(capsys):
    assert guard(raising(UserError("no")), verbose=True) == 2
    assert "Traceback" in capsys.readouterr().err


def test_nothing_wrong_is_0():
    assert guard(lambda: None, verbose=False) == 0
