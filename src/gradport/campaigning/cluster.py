"""Runs cases on dask workers: processes of this machine, or those of a scheduler that runs already.

A case is a pure function, so it may run anywhere and again: if a worker dies, the scheduler gives its case to another
one; if the scheduler dies, all cases without a result are submitted again when it is back.

https://distributed.dask.org/en/stable/resilience.html
"""

from __future__ import annotations

import collections
import contextlib
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gradport.campaigning.cases import Case, CaseOutcome, Options, Result
from gradport.compat.extras import Extra, extra
from gradport.errors import OutputError, SpecError

if TYPE_CHECKING:  # a worker imports this file, and needs no torch itself
    from gradport.campaigning.planning import Planned

__all__ = ["Cluster"]

_AHEAD = 8
"""Cases of each worker that the scheduler holds: enough that no worker waits, few in its memory."""

_LARGE = 1 << 20
"""Bytes of pickled objects from which they are not sent with each case."""

_ABSENCE = 600.0
"""Seconds to wait for a scheduler that is being started again."""

_PATIENCE = "20s"
"""For a scheduler that does not answer at the beginning."""

_QUIET = {
    "logging.distributed": "critical",
    "distributed.comm.timeouts.connect": f"{_ABSENCE:g}s",
    "distributed.scheduler.allowed-failures": 0,  # cases of a dead worker run again one by one, in `Cluster.results`
    "distributed.worker.daemon": False,  # workers start children
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
}


class Cluster:
    """The workers of a campaign.

    Args:
        workers: processes on this machine; None: one for each core.
        scheduler: the address of a dask scheduler, whose workers have gradport and the Subjects' package; None: this
            machine.

    Raises:
        SpecError: the scheduler does not answer, or has no worker.
        CompatibilityError: dask.distributed is not installed.
    """

    def __init__(self, workers: int | None, scheduler: str | None) -> None:
        with extra(Extra.CAMPAIGN, "Campaigns"):
            import dask
            import distributed

        self._distributed = distributed
        self._stack = contextlib.ExitStack()
        self._stack.enter_context(dask.config.set(_QUIET))
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        count = workers or os.cpu_count() or 1
        self._names: dict[str, str] = {}
        self._held: dict[str, Any] = {}
        self._count, self._counted = count, 0.0
        try:
            place = self._stack.enter_context(_local(count)) if scheduler is None else scheduler
            timeout = "60s" if scheduler is None else _PATIENCE
            self._client = self._stack.enter_context(distributed.Client(place, timeout=timeout, set_as_default=False))
            self._client.wait_for_workers(count if scheduler is None else 1, timeout=60)
        except (OSError, TimeoutError) as error:
            self.close()
            if scheduler is None:
                raise OutputError(f"The workers of the campaign do not start: {error}.") from error
            raise SpecError(f"The scheduler {scheduler} does not answer, or has no worker: {error}.") from error

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *ended: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the local workers; those of a scheduler go on."""
        self._stack.close()

    def working(self) -> dict[str, str]:
        """What each worker does: the name of its case, by the worker's address."""
        try:
            running = self._client.processing()
        except Exception:  # the scheduler is away
            return {}
        return {worker: self._names.get(keys[0], "") if keys else "" for worker, keys in running.items()}

    def results(
        self, planned: Sequence[Planned], pickled: Mapping[str, bytes | None], options: Options
    ) -> Iterator[tuple[Planned, Result]]:
        """The result of each case, in the order in which they end.

        Args:
            planned: the cases.
            pickled: the objects of sources that are sent, by name.
            options: of all cases.
        """
        suspects: list[Planned] = []
        for one, result in self._together(planned, pickled, options):
            if result is None:
                suspects.append(one)
            else:
                yield one, result
        for one in suspects:  # one after the other, so that the death of a worker has one cause
            for _, result in self._together([one], pickled, options):
                yield one, result or _KILLED

    def _together(
        self, planned: Sequence[Planned], pickled: Mapping[str, bytes | None], options: Options
    ) -> Iterator[tuple[Planned, Result | None]]:
        """The results of cases that run at the same time; None for a case whose worker died: it or another case of this
        worker is the cause."""
        left = collections.deque(planned)
        running: dict[Any, Planned] = {}
        ended = self._distributed.as_completed(loop=self._client.loop, raise_errors=False, with_results=True)
        while left or running:
            while left and len(running) < _AHEAD * self._workers():
                one = left.popleft()
                future = self._submit(one, pickled, options)
                running[future] = one
                ended.add(future)
            future, value = next(ended)
            one = running.pop(future)
            self._names.pop(future.key, None)
            if future.status not in ("finished", "error"):  # the scheduler was away
                left.append(one)
            else:
                yield one, self._result(future, value)

    def _workers(self) -> int:
        """The number of workers; asked once a second, because the answer takes as long as a small case."""
        if time.monotonic() > self._counted + 1.0:
            self._counted = time.monotonic()
            with contextlib.suppress(Exception):  # the scheduler is away
                self._count = max(len(self._client.nthreads()), 1)
        return self._count

    def _submit(self, one: Planned, pickled: Mapping[str, bytes | None], options: Options) -> Any:
        try:
            data = self._shared(one.case.source, pickled.get(one.case.source))
            future = self._client.submit(_run, one.case.to_dict(), options, data, pure=False)
        except Exception as error:
            if self._client.status not in ("closing", "closed"):
                raise
            raise OutputError(
                "The scheduler is gone. The store has all results so far; start the scheduler, then the same command "
                "again: it goes on from there."
            ) from error
        self._names[future.key] = f"{one.case.subject}: {one.column}"
        return future

    def _shared(self, source: str, data: bytes | None) -> Any:
        """Pickled objects as an argument of a case; large ones go to each worker once."""
        if data is None or len(data) < _LARGE:
            return data
        held = self._held.get(source)
        if held is None or held.status != "finished":  # the scheduler was away
            held = self._held[source] = self._client.scatter(data)
        return held

    def _result(self, future: Any, value: Any) -> Result | None:
        """The result of an ended case; None if its worker died."""
        if future.status == "finished":
            return Result.from_dict(value)
        error = value[1] if isinstance(value, tuple) else value
        if isinstance(error, self._distributed.KilledWorker):
            return None
        return Result(CaseOutcome.ERROR, message=f"The worker cannot run the case: {type(error).__name__}: {error}")


_KILLED = Result(CaseOutcome.CRASHED, "killed", message="The case killed its worker twice.", tries=2)


def _run(case: dict[str, Any], options: Options, pickled: bytes | None) -> dict[str, Any]:
    """What a worker does: runs the case in a child process."""
    from gradport.campaigning.isolated import run_isolated

    return run_isolated(Case.from_dict(case), options, pickled).to_dict()


def _local(count: int) -> Any:
    """A scheduler in this process and workers in processes of their own, which do not import the user's program again.

    All listen on the loopback interface only; the dashboard is off.
    """
    import distributed
    from distributed.deploy.subprocess import SubprocessWorker

    here = {"host": "127.0.0.1", "dashboard": False, "dashboard_address": "127.0.0.1:0"}
    worker = {
        "worker_class": "distributed.Nanny",
        "worker_kwargs": {**here, "nthreads": 1, "memory_limit": "auto"},
    }
    with _environment(DASK_LOGGING__DISTRIBUTED="critical", DASK_DISTRIBUTED__WORKER__DAEMON="False"):
        return distributed.SpecCluster(
            scheduler={"cls": distributed.Scheduler, "options": {**here, "port": 0}},
            workers={at: {"cls": SubprocessWorker, "options": worker} for at in range(count)},
            silence_logs=logging.CRITICAL,
        )


@contextlib.contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """Variables that processes inherit which start inside the context."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
