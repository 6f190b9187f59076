"""`gradport docs PATH...`: the pages of a file, a folder or an installed package."""

from __future__ import annotations

import dataclasses
import importlib.util
import pathlib
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from gradport.cli.options import Budget, Json, Out, factor
from gradport.cli.session import Session, require_writable, session
from gradport.errors import OutputError, SpecError, TargetError
from gradport.reporting.files import write_text

__all__ = ["docs"]

_MOST = 5
"""Largest number of skipped files listed by name; the rest are counted."""


def docs(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH...", help="Files, folders or installed packages.", show_default=False)
    ],
    *,
    subjects: Annotated[
        pathlib.Path | None,
        typer.Option(help="A Python file with Subjects, in addition to those in PATH."),
    ] = None,
    evidence: Annotated[
        pathlib.Path | None,
        typer.Option(help="A folder with Evidence of an earlier run; its Functions are not measured again."),
    ] = None,
    budget: Budget = "1",
    out: Out = pathlib.Path("gradport-out"),
    as_json: Json = False,
) -> None:
    """Write a page for every file, as Markdown and as a site: structure, Functions and measurements."""
    with session("docs", as_json) as current:
        require_writable(out)
        work = factor(budget)
        with current.step("reading"):
            from gradport.documenting.cards import load_cards
            from gradport.reporting.site import SITE, as_markdown, as_site, pages

            surveyed = _survey(current, paths)
        measured = {} if evidence is None else load_cards(evidence, surveyed)
        measurable = _subjects(current, subjects, surveyed)
        if measurable:
            options = _Options(work, _command(paths, subjects, work), out)
            measured |= _measure(current, measurable, surveyed, measured, options)
        with current.step("drawing"):
            drawn = pages(surveyed, measured)
            texts = as_markdown(drawn, measured)
            texts |= {f"{SITE}/{name}": text for name, text in as_site(drawn, measured).items()}
        for name, text in texts.items():
            _write(out / name, text)
        functions = sum(len(survey.autograd) for survey in surveyed.values())
        shown = sum(bool(evidences) for evidences in measured.values())
        current.say(
            f"wrote {len(drawn)} pages of {len(surveyed)} files with {functions} Functions, {shown} of them measured: "
            f"{out / 'index.md'} and {out / SITE / 'index.html'}"
        )
        current.result |= {
            "pages": sorted(texts),
            "files": len(surveyed),
            "functions": functions,
            "measured": shown,
        }


def _survey(current: Session, paths: Sequence[str]) -> dict[str, Any]:
    """Surveys the files of every path; of several paths each is below its own name.

    Raises:
        SpecError: two paths have the same name.
    """
    from gradport.documenting import survey_folders

    roots: dict[str, pathlib.Path] = {}
    for root in map(_root, paths):
        name = "" if len(paths) == 1 else root.resolve().name if root.is_dir() else root.resolve().stem
        if name in roots:
            raise SpecError(
                f"{roots[name]} and {root} would have the same folder, {name!r}; run gradport docs for each of them."
            )
        roots[name] = root
    left_out: list[str] = []
    surveyed = survey_folders(roots, left_out=left_out.append)
    for why in left_out[:_MOST]:
        current.say(f"left out a file: {why}")
    if left_out[_MOST:]:
        current.say(f"left out {len(left_out) - _MOST} more files")
    current.result["left_out"] = left_out
    return surveyed


def _subjects(current: Session, own: pathlib.Path | None, surveyed: Any) -> list[Any]:
    """The Subjects of the `--subjects` file, and of the files in PATH that have some; files that fail to import are
    reported and left out."""
    from gradport.cli.target import load_subjects

    subjects = load_subjects(str(own)) if own else []
    for file in [one.file for one in surveyed.values() if one.subjects]:
        try:
            subjects += load_subjects(file)
        except TargetError as error:
            current.say(f"left out the Subjects of a file: {error}")
    return list({id(subject): subject for subject in subjects}.values())


def _write(path: pathlib.Path, text: str) -> None:
    """Writes a file, and creates the folders above it.

    Raises:
        OutputError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path.parent} cannot be created: {error.strerror or error}.") from error
    write_text(path, text)


@dataclasses.dataclass(frozen=True)
class _Options:
    """Options of measuring, and the folder for its results."""

    budget: float
    command: str
    out: pathlib.Path


def _command(paths: Sequence[str], subjects: pathlib.Path | None, work: float) -> str:
    option = f" --subjects {subjects}" if subjects else ""
    return f"gradport docs {' '.join(paths)}{option} --budget {work:g}"


def _root(path: str) -> pathlib.Path:
    """A path, or the location of an installed package; does not import it."""
    root = pathlib.Path(path)
    if root.exists():
        return root
    top, *below = path.split(".")
    try:
        spec = importlib.util.find_spec(top) if top.isidentifier() else None
    except (ImportError, ValueError):
        spec = None
    if spec is not None and spec.origin is not None:
        origin = pathlib.Path(spec.origin)
        location = (origin.parent if spec.submodule_search_locations else origin).joinpath(*below)
        if location.exists():
            return location
        if below and location.with_suffix(".py").is_file():
            return location.with_suffix(".py")
    raise TargetError(f"{path} is not a file, a folder or an installed package.")


def _measure(
    current: Session, subjects: Sequence[Any], surveyed: Any, known: Any, options: _Options
) -> dict[str, list[Any]]:
    """Measures the Subjects; writes each result at once, since measuring takes long."""
    from gradport.documenting.cards import LeftOut, measure_cards
    from gradport.reporting.measured import evidence_file

    cards: dict[str, list[Any]] = {}
    with current.step("measuring"):
        for card in measure_cards(
            subjects, surveyed, known, budget=options.budget, command=options.command, progress=current.progress
        ):
            if isinstance(card, LeftOut):
                current.say(f"left out {card.subject}: {card.why}")
                continue
            key, evidence = card
            cards.setdefault(key, []).append(evidence)
            _write(options.out / evidence_file(key.rpartition(":")[0], evidence), evidence.to_json())
    return cards
