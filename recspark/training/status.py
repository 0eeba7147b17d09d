"""What each rank says of itself while it trains: one small JSON file a rank, which the driver reads.

It is how the progress bar reaches the driver's terminal whatever launched the ranks, and how a rank that died or stands
still is told from one that works.
"""

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace

import pyarrow.fs as pafs

INTERVAL = 0.5  # seconds between two writes of a rank that moves on
HEARTBEAT = 3.0  # seconds between two writes of a rank that does not
LOOKS = 5  # at the statuses, before it is an error that they cannot be read


@dataclass(frozen=True)
class Status:
    """state: starting, running, done or failed. beat: Unix seconds of the last sign of life; moved: of the last step.

    held_out: the held-out loss of every epoch so far, from epoch 0, null where nothing is held out.
    """

    rank: int
    state: str = "starting"
    epoch: int = 0
    step: int = 0
    steps: int = 0
    loss: float | None = None
    examples_per_second: float | None = None
    held_out: Sequence[float | None] = ()
    why: str = ""
    beat: float = 0.0
    moved: float = 0.0
    pid: int = field(default_factory=os.getpid)
    host: str = field(default_factory=socket.gethostname)

    @property
    def over(self) -> bool:
        return self.state in ("done", "failed")


class Reporter:
    """Writes a rank's status: at most every half second while it moves on, every few seconds while it does not.

    The heartbeat is a thread of the rank's process: when it stops, the process is gone.
    """

    def __init__(self, folder: str, rank: int):
        self.folder, self.status, self.written = folder, Status(rank, moved=time.time()), 0.0
        self.lock, self.ended = threading.Lock(), threading.Event()
        self.write()
        threading.Thread(target=self.beat, name="recspark-heartbeat", daemon=True).start()

    def update(self, **facts: object) -> None:
        """The rank has moved on."""
        state = self.status.state
        self.status = replace(self.status, moved=time.time(), **facts)  # type: ignore[arg-type]
        if self.status.over:
            self.ended.set()
        if self.status.over:
            self.write()
        elif self.status.state != state or time.time() - self.written >= INTERVAL:
            self.try_to_write()

    def failed(self, error: BaseException) -> None:
        self.update(state="failed", why=f"{type(error).__name__}: {error}".strip())

    def beat(self) -> None:
        while not self.ended.wait(HEARTBEAT):
            self.try_to_write()

    def try_to_write(self) -> None:
        """A shared folder may be away for a moment; for long, and the rank counts as lost."""
        with suppress(OSError):
            self.write()

    def write(self) -> None:
        with self.lock:
            self.written = time.time()
            fs, base = pafs.FileSystem.from_uri(self.folder)
            partial = f"{base}/{uuid.uuid4().hex}.partial"
            with fs.open_output_stream(partial) as stream:
                stream.write(json.dumps(asdict(replace(self.status, beat=self.written))).encode())
            fs.move(partial, f"{base}/rank-{self.status.rank}.json")


def read_statuses(folder: str) -> dict[int, Status]:
    """The last word of every rank that has spoken.

    On a shared file system a look may fail while another machine puts a file in the place of the one before: it is taken again.
    """
    for attempt in range(LOOKS):
        try:
            return statuses_in(folder)
        except (OSError, ValueError):
            if attempt == LOOKS - 1:
                raise
            time.sleep(INTERVAL)
    return {}


def statuses_in(folder: str) -> dict[int, Status]:
    """As `read_statuses`, by one look."""
    fs, base = pafs.FileSystem.from_uri(folder)
    found = {}
    for info in fs.get_file_info(pafs.FileSelector(base, allow_not_found=True)):
        if info.base_name.startswith("rank-") and info.base_name.endswith(".json"):
            with fs.open_input_stream(info.path) as stream:
                status = Status(**json.loads(stream.read()))
            found[status.rank] = status
    return found
