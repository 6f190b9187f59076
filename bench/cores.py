"""The distance between two cores: whether they share a cache.

An operator that runs on one thread reads the half of a tensor that another core has written. Within a core complex this
is fast; between two it takes four times as long, and a network with two threads up to twice as long. A virtual machine
may get cores of one complex, and a minute later cores of two: a benchmark has to look before and after each round.
"""

from __future__ import annotations

import enum
import mmap
import os
import statistics
import subprocess
import sys
import tempfile
import time

__all__ = ["Cores", "find_cores", "measure_round_trip"]


class Cores(enum.Enum):
    """The distance between the first two cores."""

    NEAR = "near"
    FAR = "far"


_LONGEST_NEAR = 400
"""Nanoseconds of a round trip between cores that share a cache: here 240 to 350, and 450 to 600 between two complexes.
In C these are 95 and 385: the rest is Python's."""

_ECHO = """
import mmap, os, sys
os.sched_setaffinity(0, {int(sys.argv[2])})
with open(sys.argv[1], "r+b") as file:
    cell = mmap.mmap(file.fileno(), 0)
seen, cell[128] = 0, 1
while seen != 255:
    if cell[0] != seen:
        cell[64] = seen = cell[0]
"""


def find_cores(threads: int) -> Cores:
    """Whether the first two cores are near; a single core is, and a single thread needs no other one."""
    trip = measure_round_trip() if threads > 1 else None
    return Cores.NEAR if trip is None or trip < _LONGEST_NEAR else Cores.FAR


def measure_round_trip(rounds: int = 2000) -> float | None:
    """Nanoseconds in which a number goes from the first core to the second and back: the median. None on a machine with
    one core."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        return None
    with tempfile.NamedTemporaryFile() as file:
        file.write(bytes(256))
        file.flush()
        cell = mmap.mmap(file.fileno(), 0)
        echo = subprocess.Popen([sys.executable, "-S", "-c", _ECHO, file.name, str(cores[1])])
        os.sched_setaffinity(0, cores[:1])
        try:
            while not cell[128] and echo.poll() is None:
                pass
            times = [_round_trip(cell, 1 + number % 200) for number in range(rounds)]
        finally:
            cell[0] = 255
            os.sched_setaffinity(0, cores)
            echo.wait()
    return statistics.median(times)


def _round_trip(cell: mmap.mmap, number: int) -> int:
    started = time.perf_counter_ns()
    cell[0] = number
    while cell[64] != number:
        pass
    return time.perf_counter_ns() - started
