"""Campaigns: many Subjects under many settings, in parallel, isolated, and with a memory."""

from __future__ import annotations

import dataclasses
import fnmatch
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gradport.campaigning import isolated
from gradport.campaigning.cases import Entry, Options, Result
from gradport.campaigning.comparing import Difference, compare_rows
from gradport.campaigning.planning import Axes, Planned, Source, plan_cases, sources_of
from gradport.campaigning.sources import importing
from gradport.campaigning.store import Row, Store, count_outcomes
from gradport.errors import SpecError
from gradport.isolation.effort import as_effort, as_seconds

if TYPE_CHECKING:
    import torch

__all__ = ["Campaign", "Progress", "campaign"]

_FORMS = ("keep", "inline", "opaque", "symbolic")

_UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


class Campaign:
    """The results of a campaign.

    Args:
        store: the file.
        ids: the cases of this campaign, in order; None: all of the store, in the order in which they ended.
    """

    def __init__(self, store: str | os.PathLike[str], ids: Sequence[str] | None = None) -> None:
        self.store = os.fspath(store)
        self._order = None if ids is None else {id: at for at, id in enumerate(ids)}

    def __repr__(self) -> str:
        return f"Campaign({self.store})"

    @property
    def ok(self) -> bool:
        """Whether every case is ok, skipped or without a kernel."""
        return all(row.outcome.passes for row in self.rows())

    def rows(self) -> list[Row]:
        """The cases with their results.

        Raises:
            SpecError: the store cannot be read.
        """
        with Store(self.store) as store:
            rows = store.rows()
        order = self._order
        if order is None:
            return rows
        return sorted((row for row in rows if row.id in order), key=lambda row: order[row.id])

    def counts(self) -> dict[str, int]:
        """The number of cases of each outcome, in the order of CaseOutcome."""
        return count_outcomes(self.rows())

    def evidence(self, row: Row) -> Any:
        """The Evidence of a row; None if it has none."""
        from gradport.evidence.evidence import Evidence

        if not row.evidence:
            return None
        with Store(self.store) as store:
            return Evidence.from_json(store.evidence(row.evidence))

    def compare(self, earlier: Campaign | str | os.PathLike[str]) -> tuple[Difference, ...]:
        """The differences from an earlier campaign, the worst first: broken, slower, gone, new, faster, repaired.

        Args:
            earlier: a Campaign or a store.
        """
        before = earlier if isinstance(earlier, Campaign) else Campaign(earlier)
        return compare_rows(before.rows(), self.rows())

    def to_html(
        self, path: str | os.PathLike[str], *, earlier: Campaign | str | os.PathLike[str] | None = None
    ) -> None:
        """Writes one page: a matrix of Subjects and settings. The Evidence is written beside it, in `<name>-evidence/`.

        Args:
            path: the file.
            earlier: a campaign to compare with.

        Raises:
            OutputError: the file cannot be written.
        """
        from gradport.campaigning.pages import write_page

        self._require_other(path)
        write_page(self, path, () if earlier is None else self.compare(earlier), compared=earlier is not None)

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Writes a line for each case."""
        from gradport.campaigning.tables import write_csv

        self._require_other(path)
        write_csv(self.rows(), path)

    def to_junit(self, path: str | os.PathLike[str]) -> None:
        """Writes the results as a JUnit file, a test case for each case."""
        from gradport.campaigning.tables import write_junit

        self._require_other(path)
        write_junit(self.rows(), path)

    def _require_other(self, path: str | os.PathLike[str]) -> None:
        """Raises SpecError if a file of results would replace the store."""
        if os.path.realpath(path) == os.path.realpath(self.store):
            raise SpecError(f"{os.fspath(path)} is the store of the campaign; give another file for its results.")


@dataclasses.dataclass
class Progress:
    """How far a campaign is.

    Attributes:
        total: cases of the campaign.
        resumed: cases that an earlier run did and that did not change.
        done: cases that this run did.
        failing: cases that are not ok, those of an earlier run included.
        started: when the first case started, in seconds of `time.monotonic`.
        working: what each worker does.
        last: the last case, its column and its result.
    """

    total: int
    resumed: int
    done: int = 0
    failing: int = 0
    started: float = dataclasses.field(default_factory=time.monotonic)
    working: Callable[[], Mapping[str, str]] = dict
    last: tuple[str, str, Result] | None = None

    @property
    def rate(self) -> float:
        """Cases in a second."""
        return self.done / max(time.monotonic() - self.started, 1e-9)

    @property
    def seconds_left(self) -> float | None:
        """An estimate of the time until the end; None before the first case."""
        return (self.total - self.resumed - self.done) / self.rate if self.done else None


def campaign(
    subjects: Any,
    *,
    opsets: Sequence[int] = (),
    dtypes: Sequence[torch.dtype | str] = (),
    functions: Sequence[str] = (),
    dynamic: Sequence[bool] = (),
    runtimes: Sequence[str] = (),
    only: Sequence[str] = (),
    checks: bool = True,
    exports: bool = True,
    profile: str = "default",
    budget: float = 1.0,
    seed: int = 0,
    time_limit: float | str | None = "60s",
    memory_limit: int | str | None = None,
    store: str | os.PathLike[str] = "campaign.db",
    workers: int | None = None,
    scheduler: str | None = None,
    pythons: Sequence[str] = (),
    resume: bool = True,
    progress: Callable[[Progress], None] | None = None,
) -> Campaign:
    """Checks, exports and verifies many Subjects under many settings.

    Each case runs in a child process of a worker: a crash, an exit, a hang or too much memory is the outcome of this
    case only. Results are in the store as soon as they exist; the same call goes on where an earlier one ended.

    Args:
        subjects: Subjects, Tasks, modules, files, folders (with Subjects at module level), or suites of torch:
            "torch:operators", "torch:modules", "torch:optimizers", "torch:functions"; one, a list, or a mapping of
            names to Subjects.
        opsets, dtypes, functions, dynamic, runtimes: the axes of export and verification, as for `sweep`; an empty axis
            keeps the value of the Subject.
        only: names or patterns (`"gelu*"`) of Subjects; empty: all.
        checks: whether each Subject is checked.
        exports: whether each Subject is exported and verified.
        profile, budget, seed: the amount of work of a check and a verification, and the seed of their inputs.
        time_limit: processor time of one case, in seconds or as a text such as "60s"; None: no limit.
        memory_limit: memory of one case, in bytes or as a text such as "4GiB"; None: the machine's memory divided by
            the workers.
        store: the SQLite file of results.
        workers: processes on this machine; None: one for each core. 0: this process, without isolation.
        scheduler: the address of a dask scheduler; None: this machine.
        pythons: interpreters of other environments, which run the same cases; empty: this environment. "" is this
            environment in a list.
        resume: leave out cases that the store has, if their source, options and versions did not change.
        progress: called after every case.

    Raises:
        SpecError: an argument is not valid, an environment has no gradport, or a source calls this function while it is
            imported.
        TargetError: a source cannot be imported, or has no Subject.
        OutputError: the store cannot be written, or another campaign writes it.
        CompatibilityError: dask.distributed is not installed.
    """
    if importing.get():
        raise SpecError(
            f"{importing.get()} starts a campaign while a campaign imports it; put the call under "
            'if __name__ == "__main__".'
        )
    _require_valid(workers, scheduler, functions, runtimes, checks=checks, exports=exports)
    options = Options(
        profile=as_effort(profile, budget).profile.value,
        budget=budget,
        seed=seed,
        time_limit=as_seconds(time_limit),
        memory_limit=_as_bytes(memory_limit, workers),
    )
    axes = Axes(_settings(opsets, dtypes, dynamic, functions, runtimes) if exports else [], checks)
    sources = sources_of(subjects)
    if os.path.exists(store):
        with Store(store):  # before long work: it must be a store
            pass
    planned = _chosen(_plan(sources, pythons or ("",), axes, options, here=workers == 0), only)
    with Store(store, writes=True) as results:
        done = results.unchanged(planned, options) if resume else {}
        left = [one for one in planned if one.case.id not in done]
        failing = sum(not outcome.passes for outcome in done.values())
        state = Progress(len(planned), len(planned) - len(left), failing=failing)
        if left:
            for source in sources:
                if source.pickled is not None:
                    results.add_source(source.name, source.pickled)
            _run(left, sources, options, results, state, progress or (lambda _: None), workers, scheduler)
        elif progress is not None:
            progress(state)
    return Campaign(store, [one.case.id for one in planned])


def _require_valid(
    workers: int | None,
    scheduler: str | None,
    functions: Sequence[str],
    runtimes: Sequence[str],
    *,
    checks: bool,
    exports: bool,
) -> None:
    """Checks, before long work, the arguments that would otherwise fail in every case.

    Raises:
        SpecError: one of them is not valid.
    """
    from gradport.runtimes.table import known_runtimes

    if workers is not None and workers < 0:
        raise SpecError(f"workers={workers} is not a number of processes; give 0 or more.")
    if scheduler is not None and "://" not in scheduler:
        raise SpecError(f"scheduler={scheduler!r} is not an address; write for example 'tcp://127.0.0.1:8786'.")
    if not checks and not exports:
        raise SpecError("A campaign that neither checks nor exports has no cases.")
    for form in functions:
        if form not in _FORMS and not form.startswith("opaque:"):
            raise SpecError(f"functions={form!r} is unknown; the forms are {', '.join(_FORMS)}.")
    known = list(known_runtimes())
    for name in runtimes:
        if name not in known:
            raise SpecError(f"runtimes={name!r} is unknown; known runtimes are {', '.join(known)}.")


def _chosen(planned: Sequence[Planned], only: Sequence[str]) -> list[Planned]:
    """The cases whose Subject fits one of the patterns.

    Raises:
        SpecError: a pattern fits no Subject.
    """
    if not only:
        return list(planned)
    fitting = {pattern: [one for one in planned if fnmatch.fnmatchcase(one.case.subject, pattern)] for pattern in only}
    for pattern, found in fitting.items():
        if not found:
            names = ", ".join(list(dict.fromkeys(one.case.subject for one in planned))[:8])
            raise SpecError(f"only={pattern!r} fits no Subject; the first ones are {names}.")
    return list({one.case.id: one for found in fitting.values() for one in found}.values())


def _settings(*axes: Any) -> Any:
    from gradport.campaigning.settings import settings

    return settings(*axes)


def _as_bytes(limit: Any, workers: int | None) -> int | None:
    """Parses `memory_limit`.

    Raises:
        SpecError: it is neither bytes nor a text such as "4GiB".
    """
    if limit is None:
        return None if workers == 0 else _memory_of_machine() // max(workers or os.cpu_count() or 1, 1)
    if isinstance(limit, int) and not isinstance(limit, bool) and limit > 0:
        return limit
    number, unit = (limit[:-3], limit[-3:]) if isinstance(limit, str) else ("", "")
    if unit not in _UNITS or not number.strip().replace(".", "", 1).isdigit():
        raise SpecError(f"memory_limit={limit!r} is not a size; write for example '4GiB' or '500MiB'.")
    return int(float(number) * _UNITS[unit])


def _memory_of_machine() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _plan(
    sources: Sequence[Source], pythons: Sequence[str], axes: Axes, options: Options, *, here: bool
) -> list[Planned]:
    """All cases; the user's code is imported by a child process of each environment, or here."""
    planned: list[Planned] = []
    try:
        for python in pythons:
            for source in sources:
                entries, versions = _list_here(source) if here else _list_isolated(source, python)
                planned += plan_cases(source, python, entries, versions, axes, options)
    finally:
        isolated.stop()
    return planned


def _list_here(source: Source) -> tuple[list[Entry], dict[str, str]]:
    from gradport.campaigning.sources import entries
    from gradport.evidence.evidence import environment

    return entries(source.name, source.pickled), environment()


def _list_isolated(source: Source, python: str) -> tuple[list[Entry], dict[str, str]]:
    return isolated.list_source(source.name, python, source.pickled), isolated.versions_of(python)


def _run(
    left: Sequence[Planned],
    sources: Sequence[Source],
    options: Options,
    results: Store,
    state: Progress,
    progress: Callable[[Progress], None],
    workers: int | None,
    scheduler: str | None,
) -> None:
    """Runs the cases and writes each result."""
    pickled = {source.name: source.pickled for source in sources}
    if workers == 0:
        from gradport.campaigning.here import run_here

        _collect(run_here(left, pickled, options), options, results, state, progress)
        return
    from gradport.campaigning.cluster import Cluster

    with Cluster(workers, scheduler) as cluster:
        state.working = cluster.working
        state.started = time.monotonic()
        progress(state)
        _collect(cluster.results(left, pickled, options), options, results, state, progress)


def _collect(
    ended: Iterator[tuple[Planned, Result]],
    options: Options,
    results: Store,
    state: Progress,
    progress: Callable[[Progress], None],
) -> None:
    for one, result in ended:
        results.add(one, result, options)
        state.done += 1
        state.failing += not result.outcome.passes
        state.last = one.case.subject, one.column, result
        progress(state)
