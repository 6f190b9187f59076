"""Runs cases one after the other in this process, without isolation."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence

from gradport.campaigning.cases import Options, Result
from gradport.campaigning.planning import Planned
from gradport.campaigning.running import run_case
from gradport.campaigning.sources import find

__all__ = ["run_here"]


def run_here(
    planned: Sequence[Planned], pickled: Mapping[str, bytes | None], options: Options
) -> Iterator[tuple[Planned, Result]]:
    """The result of each case; see `Cluster.results`."""
    for one in planned:
        started, before = time.monotonic(), time.process_time()
        found = find(one.case.source, one.case.subject, one.case.task, pickled.get(one.case.source))
        result = run_case(one.case, found, options)
        seconds, processor_seconds = time.monotonic() - started, time.process_time() - before
        yield one, dataclasses.replace(result, seconds=seconds, processor_seconds=processor_seconds)
