"""`gradport docs PATH`: the pages of a file, a folder or an installed package."""

from __future__ import annotations

import importlib.util
import pathlib
from typing import Annotated, Any

import typer

from gradport.cli.options import Json, Out
from gradport.cli.session import Session, require_writable, session, write_text
from gradport.errors import TargetError

__all__ = ["docs"]


def docs(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A file, a folder or an installed package.")],
    *,
    subjects: Annotated[
        pathlib.Path | None, typer.Option(help="A Python file whose Subjects give the cards their inputs.")
    ] = None,
    out: Out = pathlib.Path("gradport-out"),
    as_json: Json = False,
) -> None:
    """Write a page for every file: its structure, its Functions, and what was measured of them."""
    with session("docs", as_json) as current:
        root = _root(path)
        require_writable(out)
        with current.step("reading"):
            from gradport.report.pages import pages
            from gradport.survey.folder import survey_folder

            surveyed = survey_folder(root)
        measured = {} if subjects is None else _measured(current, subjects, surveyed)
        made = pages(surveyed, measured)
        for name, text in made.items():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            write_text(out / name, text)
        functions = sum(len(evidence.source["autograd"]) for evidence in surveyed.values())
        current.say(f"wrote {len(made)} pages of {len(surveyed)} files with {functions} Functions to {out}")
        current.result |= {"pages": sorted(made), "files": len(surveyed), "functions": functions}


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


def _measured(current: Session, file: pathlib.Path, surveyed: Any) -> dict[str, list[Any]]:
    """What the Subjects of a file show, by the file and Function of the survey that they are about."""
    from gradport.cli.target import load_subjects
    from gradport.signature import source_of
    from gradport.survey.measure import measure

    lines = {
        (str(pathlib.Path(evidence.source["file"]).resolve()), entry["name"].split(".")[-1]): f"{path}:{entry['name']}"
        for path, evidence in surveyed.items()
        for entry in evidence.source["autograd"]
    }
    found: dict[str, list[Any]] = {}
    for subject in load_subjects(str(file)):
        home, _ = source_of(subject.target)
        key = lines.get((str(pathlib.Path(home or "").resolve()), getattr(subject.target, "__name__", "")))
        if key is None:
            continue
        with current.step(f"measuring {subject.name}"):
            found.setdefault(key, []).append(measure(subject))
    return found
