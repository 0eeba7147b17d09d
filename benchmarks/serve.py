"""A side of a benchmark, as its process sees it."""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

Work = Callable[..., Any]  # does what is measured for a request's fields; returns what it found
Keep = Callable[
    ..., None
]  # takes that and the request's fields, and keeps the answer where it can be checked; not measured


def serve(make: Callable[[], tuple[Work, Keep | None]]) -> None:
    """Get ready, then do the work once for each request, a JSON object a line on stdin; answer each with its seconds.

    The answers go to the stdout that the process was started with; what libraries print goes to stderr.
    """
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    work, keep = make()
    print(json.dumps({"ready": True}), file=answers)
    for line in sys.stdin:
        request = json.loads(line)
        began = time.perf_counter()
        found = work(**request)
        seconds = time.perf_counter() - began
        if keep is not None:
            keep(found, **request)
        print(json.dumps({"seconds": seconds}), file=answers)
