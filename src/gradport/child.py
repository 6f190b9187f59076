"""What a child of this process, made by fork, says before it ends: it has everything and needs nothing sent."""

from __future__ import annotations

import os
import select
import signal
import time
import warnings
from collections.abc import Callable

__all__ = ["written_by_child"]


def written_by_child(body: Callable[[int], None], seconds: float) -> tuple[bytes, int] | None:
    """Runs `body` in a child.

    Args:
        body: takes the descriptor that it writes to; threads of the parent are not there.
        seconds: after which the child is killed.

    Returns:
        What it wrote, and its exit status as `os.waitpid` gives it; None where there is no fork, or time ran out.
    """
    if not hasattr(os, "fork"):
        return None
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that threads do not survive a fork; a body starts none
        child = os.fork()
    if child == 0:
        try:
            body(writing)
        finally:
            os._exit(0)
    os.close(writing)
    said, deadline = b"", time.monotonic() + seconds
    with os.fdopen(reading, "rb", buffering=0) as pipe:
        while select.select([pipe], [], [], max(deadline - time.monotonic(), 0.0))[0]:
            seen = pipe.read(64)
            if not seen:
                break
            said += seen
        else:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return None
    _, status = os.waitpid(child, 0)
    return said, status
