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
        pathlib.Path | None, typer.Option(help="A Python file whose Subjects give the cards their inputs.")
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

            surveyed = _surveyed(paths)
        measured = {} if subjects is None else _measured(current, subjects, surveyed, paths, limit)
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
    from gradport.survey import survey_folder

    if len(paths) == 1:
        return survey_folder(_root(paths[0]))
    found: dict[str, Any] = {}
    for path in paths:
        root = _root(path)
        found |= survey_folder(root, under=root.name)
    return found


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
    current: Session, file: pathlib.Path, surveyed: Any, paths: Sequence[str], limit: float
) -> dict[str, list[Any]]:
    """What the Subjects of a file show, by the file and Function of the survey that they are about."""
    from gradport.cli.target import load_subjects
    from gradport.errors import Error
    from gradport.signature import source_of
    from gradport.survey.measure import measure

    lines = {
        (str(pathlib.Path(evidence.source["file"]).resolve()), entry["name"]): f"{path}:{entry['name']}"
        for path, evidence in surveyed.items()
        for entry in evidence.source["autograd"]
    }
    found: dict[str, list[Any]] = {}
    every = load_subjects(str(file))
    for number, subject in enumerate(every, 1):
        home, _ = source_of(subject.target)
        key = lines.get((str(pathlib.Path(home or "").resolve()), getattr(subject.target, "__qualname__", "")))
        if key is None:
            current.say(f"left out {subject.name}: it is no Function of {', '.join(paths)}")
            continue
        with current.step(f"measuring {subject.name}, {number} of {len(every)}"):
            try:
                evidence = measure(subject, budget=limit, progress=current.progress)
            except Error as error:
                current.say(f"left out {subject.name}: {error}")
                continue
        command = f"gradport docs {' '.join(paths)} --subjects {file} --budget {limit:g}s"
        same = sum(one.subject.partition(" (")[0] == evidence.subject for one in found.get(key, ()))
        named = dataclasses.replace(
            evidence,
            subject=f"{evidence.subject} ({same + 1})" if same else evidence.subject,
            source={**evidence.source, "commands": [command]},
        )
        found.setdefault(key, []).append(named)
    return found
