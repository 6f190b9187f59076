"""Files that are there as a whole or not at all."""

from __future__ import annotations

import contextlib
import os
import stat
import uuid
from collections.abc import Iterator

__all__ = ["replace_file"]


@contextlib.contextmanager
def replace_file(path: str) -> Iterator[str]:
    """Gives a path beside `path`. What is written there takes its place at the end; after an error nothing is left.

    The file gets the permissions of any new file: libraries that write it may allow its owner only.

    Raises:
        OSError: the folder does not exist or cannot be written.
    """
    scratch = os.path.join(os.path.dirname(os.path.abspath(path)), f".gradport-{uuid.uuid4().hex}")
    with open(scratch, "xb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
    try:
        yield scratch
        os.chmod(scratch, mode)
        with open(scratch, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(scratch, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(scratch)
        raise
