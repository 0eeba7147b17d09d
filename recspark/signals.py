"""That SIGINT or SIGTERM came, whoever answered it: Horovod by handlers of its own, Spark's bridge by an exception that another may hide."""

import os
import signal
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

ASKED = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """Within it, notes that the process was asked to end, whoever handles the signal; only in the main thread, others get none.

    What was to be ignored when it was entered is not noted.
    """

    def __init__(self) -> None:
        self.noted: set[signal.Signals] = set()
        self.reading = -1

    def __enter__(self) -> Self:
        self.main = threading.current_thread() is threading.main_thread()
        if self.main:
            self.heeded = {number for number in ASKED if signal.getsignal(number) != signal.SIG_IGN}
            self.reading, self.writing = os.pipe()
            for end in (self.reading, self.writing):
                os.set_blocking(end, False)
            self.before = signal.set_wakeup_fd(self.writing, warn_on_full_buffer=False)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.main:
            signal.set_wakeup_fd(self.before)
            self.came()
            os.close(self.reading)
            os.close(self.writing)
            self.reading = -1

    def came(self) -> bool:
        """Whether one has; of any thread."""
        if self.reading >= 0:
            with suppress(BlockingIOError):  # none since the last look
                self.noted |= {signal.Signals(number) for number in os.read(self.reading, 4096)} & self.heeded
        return bool(self.noted)

    def raise_again(self) -> None:
        """What came, once more, for the handlers that are there now: KeyboardInterrupt, or the end of the process."""
        for number in self.noted:
            signal.raise_signal(number)
