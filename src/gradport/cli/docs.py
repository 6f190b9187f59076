"""`gradport docs PATH...`: the pages of a file, a folder or an installed package."""

from __future__ import annotations

import dataclasses
import importlib.util
import pathlib
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from gradport.cli.options import Budget, Json, Out, seconds
from gradport.cli.session import Session, require_writable, session, write_text
from gradport.errors import TargetError

__all__ = ["docs"]

_BUDGET = 10.0


def docs(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH...", help="Files, folders or installed packages.", show_default=False)
    ],
    *,
    subjects: Annotated[
        pathlib.Path | None,
        typer.Option(help="A Python file with Subjects, beside those in PATH."),
    ] = None,
    evidence: Annotated[
        pathlib.Path | None,
        typer.Option(help="A folder with Evidence of an earlier run; what stands there is not measured again."),
    ] = None,
    budget: Budget = None,
    out: Out = pathlib.Path("gradport-out"),
    as_json: Json = False,
) -> None:
    """Write a page for every file, as Markdown and as a site: its structure, its Functions, and what was measured."""
    with session("docs", as_json) as current:
        require_writable(out)
        limit = seconds(budget) or _BUDGET
        with current.step("reading"):
            from gradport.report.site import SITE, as_markdown, as_site, pages
            from gradport.survey.cards import known_cards

            surveyed = _surveyed(paths)
        measured = {} if evidence is None else known_cards(evidence, surveyed)
        files = [str(subjects)] if subjects else []
        files += [one.source["file"] for one in surveyed.values() if one.source["subjects"]]
        if files:
            options = _Options(limit, _command(paths, subjects, limit), out)
            measured |= _measured(current, files, surveyed, measured, options)
        with current.step("drawing"):
            made = pages(surveyed, measured)
            texts = as_markdown(made, measured)
            texts |= {f"{SITE}/{name}": text for name, text in as_site(made, measured).items()}
        for name, text in texts.items():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            write_text(out / name, text)
        functions = sum(len(evidence.source["autograd"]) for evidence in surveyed.values())
        shown = sum(len(found) for found in measured.values())
        current.say(
            f"wrote {len(made)} pages of {len(surveyed)} files with {functions} Functions, {shown} of them measured: "
            f"{out / 'index.md'} and {out / SITE / 'index.html'}"
        )
        current.result |= {
            "pages": sorted(texts),
            "files": len(surveyed),
            "functions": functions,
            "measured": shown,
        }


def _surveyed(paths: Sequence[str]) -> dict[str, Any]:
    """The files of every path; of several each under the path's own name."""
    from gradport.survey import survey_folders

    roots = [_root(path) for path in paths]
    return survey_folders({"" if len(roots) == 1 else _name(root): root for root in roots})


def _name(root: pathlib.Path) -> str:
    return root.name if root.is_dir() else ""


@dataclasses.dataclass(frozen=True)
class _Options:
    """How Functions are measured, and where what was found is written."""

    budget: float
    command: str
    out: pathlib.Path


def _command(paths: Sequence[str], subjects: pathlib.Path | None, limit: float) -> str:
    given = f" --subjects {subjects}" if subjects else ""
    return f"gradport docs {' '.join(paths)}{given} --budget {limit:g}s"


def _root(path: str) -> pathlib.Path:
    """A path, or where an installed package lies; nothing of it is imported."""
    given = pathlib.Path(path)
    if given.exists():
        return given
    try:
        spec = importlib.util.find_spec(path) if path.isidentifier() else None
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None:
        raise TargetError(f"{path} is no file, no folder and no installed package.")
    origin = pathlib.Path(spec.origin)
    return origin.parent if spec.submodule_search_locations else origin


def _measured(
    current: Session, files: Sequence[str], surveyed: Any, known: Any, options: _Options
) -> dict[str, list[Any]]:
    """What the Subjects of these files show; written as soon as it is known, since measuring takes long."""
    from gradport.cli.target import load_subjects
    from gradport.report.measured import evidence_file
    from gradport.survey.cards import LeftOut, measured_cards

    subjects = [subject for file in files for subject in load_subjects(file)]
    found: dict[str, list[Any]] = {}
    with current.step("measuring"):
        for card in measured_cards(
            subjects, surveyed, known, budget=options.budget, command=options.command, progress=current.progress
        ):
            if isinstance(card, LeftOut):
                current.say(f"left out {card.subject}: {card.why}")
                continue
            key, evidence = card
            found.setdefault(key, []).append(evidence)
            place = options.out / evidence_file(key.rpartition(":")[0], evidence)
            place.parent.mkdir(parents=True, exist_ok=True)
            write_text(place, evidence.to_json())
    return found
