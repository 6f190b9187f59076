"""`gradport campaign`: many Subjects under many settings; compare, copy, show and repeat."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from gradport.cli.options import (
    Budget,
    Columns,
    Dtypes,
    Forms,
    Html,
    Json,
    Opsets,
    Profile,
    Seed,
    Shapes,
    factor,
    parse_axes,
)
from gradport.cli.page import require_place
from gradport.cli.session import Session, session
from gradport.errors import SpecError

if TYPE_CHECKING:
    from gradport.campaigning.campaign import Campaign, Progress

__all__ = ["campaigns"]

_RUN = "run"

_SHOWN = 20
"""Cases that are not ok in the terminal."""


class _RunByDefault(TyperGroup):
    """`gradport campaign SUBJECT...` is `gradport campaign run SUBJECT...`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("--help", "-h"):
            args = [_RUN, *args]
        return super().parse_args(ctx, args)


campaigns = typer.Typer(
    name="campaign",
    cls=_RunByDefault,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Check, export and verify many Subjects under many settings; `gradport campaign SUBJECT...` runs them.",
)

StorePath = Annotated[Path, typer.Argument(help="The store of a campaign.", show_default=False)]
Csv = Annotated[Path | None, typer.Option("--csv", help="Write a line for each case to this file.")]
Junit = Annotated[Path | None, typer.Option("--junit", help="Write a JUnit file.")]
Against = Annotated[Path | None, typer.Option(help="An earlier store: the page shows what changed.")]


@campaigns.command(_RUN)
def run(
    subjects: Annotated[
        list[str],
        typer.Argument(
            metavar="SUBJECT...",
            help="Modules, files and folders with Subjects at module level, module:attribute, or torch:operators, "
            "torch:modules, torch:optimizers, torch:functions.",
            show_default=False,
        ),
    ],
    *,
    opsets: Opsets = None,
    dtypes: Dtypes = None,
    functions: Forms = None,
    shapes: Shapes = None,
    runtimes: Columns = None,
    only: Annotated[list[str] | None, typer.Option(help="A name or a pattern of Subjects; may be repeated.")] = None,
    checks: Annotated[bool, typer.Option("--check/--no-check", help="Check each Subject.")] = True,
    exports: Annotated[bool, typer.Option("--export/--no-export", help="Export and verify each Subject.")] = True,
    profile: Profile = "default",
    budget: Budget = "1",
    seed: Seed = 0,
    time_limit: Annotated[str, typer.Option(metavar="TIME", help="Processor time of one case.")] = "60s",
    memory_limit: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Memory of one case: 4GiB.", show_default="memory / workers")
    ] = None,
    store: Annotated[Path, typer.Option(help="The SQLite file of results.")] = Path("campaign.db"),
    workers: Annotated[
        int | None, typer.Option(help="Processes on this machine; 0: this process.", show_default="one for each core")
    ] = None,
    scheduler: Annotated[str | None, typer.Option(metavar="ADDRESS", help="A dask scheduler with workers.")] = None,
    python: Annotated[
        list[str] | None,
        typer.Option(help="The Python of another environment with gradport, or `this`; may be repeated."),
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Run all cases, also those that did not change.")] = False,
    html: Html = None,
    csv: Csv = None,
    junit: Junit = None,
    against: Against = None,
    as_json: Json = False,
) -> None:
    """Run a campaign, or go on with one: unchanged cases of the store are not run again."""
    with session("campaign", as_json) as current:
        for place in (html, csv, junit):
            require_place(place)
        _require_readable(against, html)
        axes = parse_axes(opsets, dtypes, functions, shapes, runtimes)
        with current.step("importing"):
            from gradport.campaigning.campaign import campaign
        with _live(current, store) as progress:
            done = campaign(
                subjects,
                **axes,
                only=only or (),
                checks=checks,
                exports=exports,
                profile=profile,
                budget=factor(budget),
                seed=seed,
                time_limit=time_limit,
                memory_limit=memory_limit,
                store=store,
                workers=workers,
                scheduler=scheduler,
                pythons=["" if one == "this" else one for one in python or ()],
                resume=not again,
                progress=progress,
            )
        _show(current, done, progress.resumed)
        _write(current, done, html=html, csv=csv, junit=junit, against=against)


@campaigns.command("show")
def show(
    store: StorePath,
    *,
    html: Html = None,
    csv: Csv = None,
    junit: Junit = None,
    against: Against = None,
    as_json: Json = False,
) -> None:
    """Show the results of a store, also while a campaign writes it; exit 1 if a case is not ok."""
    with session("campaign show", as_json) as current:
        from gradport.campaigning.campaign import Campaign

        for place in (html, csv, junit):
            require_place(place)
        _require_readable(against, html)
        found = Campaign(store)
        _show(current, found, 0)
        _write(current, found, html=html, csv=csv, junit=junit, against=against)


@campaigns.command("compare")
def compare(old: StorePath, new: StorePath, *, html: Html = None, as_json: Json = False) -> None:
    """List broken, slower, missing, new, faster and repaired cases; exit 1 for the first three kinds."""
    with session("campaign compare", as_json) as current:
        from gradport.campaigning.campaign import Campaign
        from gradport.campaigning.comparing import Kind

        require_place(html)
        found = Campaign(new).compare(old)
        for one in found:
            current.say(f"{one.kind}: {one.subject}, {one.column}: {one.message}")
        if not found:
            current.say("Nothing changed.")
        current.result |= {
            "ok": not any(one.kind in (Kind.BROKEN, Kind.SLOWER, Kind.GONE) for one in found),
            "differences": [
                {"kind": one.kind, "subject": one.subject, "column": one.column, "message": one.message}
                for one in found
            ],
        }
        if html is not None:
            Campaign(new).to_html(html, earlier=old)
            _wrote(current, html)


@campaigns.command("copy")
def copy(
    store: StorePath,
    target: Annotated[Path, typer.Argument(help="The new file.", show_default=False)],
    *,
    as_json: Json = False,
) -> None:
    """Copy a store, also while a campaign writes it."""
    with session("campaign copy", as_json) as current:
        from gradport.campaigning.store import copy_store

        count = copy_store(store, target)
        current.result |= {"cases": count, "files": [str(target)]}
        current.say(f"wrote {target} with {count} cases")


@campaigns.command("repeat")
def repeat(
    store: StorePath,
    case: Annotated[str, typer.Argument(help="The id of a case, as the page shows it.", show_default=False)],
    *,
    here: Annotated[bool, typer.Option("--here", help="In this process: a debugger can stop in it.")] = False,
    as_json: Json = False,
) -> None:
    """Run one case of a store again, with the same options, and show its Evidence; the store does not change."""
    with session("campaign repeat", as_json) as current:
        from gradport.campaigning.repeating import repeat_case
        from gradport.evidence.evidence import Evidence
        from gradport.reporting.terminal import evidence_table

        with current.step(f"repeating {case}"):
            row, result = repeat_case(store, case, here=here)
        if result.evidence:
            current.show(evidence_table(f"{row.subject}: {row.column}", Evidence.from_json(result.evidence)))
        current.say(
            f"{row.subject}: {row.column}: {result.outcome}" + (f": {result.message}" if result.message else "")
        )
        if result.output:
            current.say(result.output)
        current.result |= {"ok": result.outcome.passes, "subject": row.subject, "result": result.to_dict()}


def _require_readable(against: Path | None, html: Path | None) -> None:
    """Checks, before long work, the store to compare with.

    Raises:
        SpecError: the other store cannot be read, or the command has no --html for the differences.
    """
    if against is None:
        return
    if html is None:
        raise SpecError(
            "--against shows its differences on a page; give --html FILE, or use `gradport campaign compare`."
        )
    from gradport.campaigning.store import Store

    with Store(against):
        pass


class _Live:
    """Shows the progress: as a table that changes in a terminal, otherwise as a line now and then."""

    def __init__(self, current: Session, update: Callable[[Any], None]) -> None:
        self._current, self._update = current, update
        self._next = 0.0
        self.resumed = 0

    def __call__(self, state: Progress) -> None:
        self.resumed = state.resumed
        now = time.monotonic()
        if now < self._next and state.done + state.resumed < state.total:
            return
        from gradport.reporting.campaign_view import progress_view

        is_terminal = self._current.errors.is_terminal
        self._next = now + (0.2 if is_terminal else 10.0)
        left, done = state.seconds_left, state.done + state.resumed
        if is_terminal:
            self._update(progress_view(state.total, done, state.failing, state.rate, left, state.working()))
        elif state.done:
            self._current.errors.print(f"{done} of {state.total} cases, {state.failing} not ok", markup=False)


@contextlib.contextmanager
def _live(current: Session, store: Path) -> Iterator[_Live]:
    from rich.live import Live

    before = signal.signal(signal.SIGTERM, _stop)
    try:
        with Live(console=current.errors, transient=True, auto_refresh=False) as live:
            yield _Live(current, lambda view: live.update(view, refresh=True))
    except KeyboardInterrupt:
        current.errors.print(f"interrupted; {store} has the results so far, and the same command goes on", markup=False)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(number: int, frame: Any) -> None:
    """SIGTERM ends the campaign as an interrupt does, so that no worker is left."""
    raise KeyboardInterrupt


def _show(current: Session, campaign: Campaign, resumed: int) -> None:
    from gradport.campaigning.store import count_outcomes
    from gradport.reporting.campaign_view import count_line, reason_table

    rows = campaign.rows()
    counts = count_outcomes(rows)
    wrong = [row for row in rows if not row.outcome.passes]
    if wrong:
        told = [(row.id[:8], row.subject, row.column, str(row.outcome), row.message) for row in wrong]
        current.show(reason_table(told, _SHOWN))
    current.show(count_line(counts, resumed))
    current.result |= {
        "ok": not wrong,
        "store": campaign.store,
        "cases": len(rows),
        "resumed": resumed,
        "counts": counts,
        "not_ok": [
            {"id": row.id, "subject": row.subject, "column": row.column, "outcome": row.outcome, "message": row.message}
            for row in wrong
        ],
    }


def _write(
    current: Session,
    campaign: Campaign,
    *,
    html: Path | None,
    csv: Path | None,
    junit: Path | None,
    against: Path | None,
) -> None:
    if html is not None:
        campaign.to_html(html, earlier=against)
        _wrote(current, html)
    if csv is not None:
        campaign.to_csv(csv)
        _wrote(current, csv)
    if junit is not None:
        campaign.to_junit(junit)
        _wrote(current, junit)


def _wrote(current: Session, path: Path) -> None:
    current.result.setdefault("files", []).append(str(path))
    current.say(f"wrote {path}")
