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
from gradport.errors import Error, TargetError

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

            surveyed = _surveyed(paths)
        measured = {} if evidence is None else _read(evidence, surveyed)
        if subjects is not None:
            measured |= _measured(current, subjects, surveyed, _Asked(paths, limit, measured, out))
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


@dataclasses.dataclass(frozen=True)
class _Asked:
    """What was asked for: paths, seconds for each, what is known already, and where to write."""

    paths: Sequence[str]
    budget: float
    known: dict[str, list[Any]]
    out: pathlib.Path

    def keep(self, key: str, evidence: Any) -> None:
        """Writes what was measured at once: measuring takes long, and `--evidence` goes on from there."""
        from gradport.report.measured import evidence_file

        place = self.out / evidence_file(key.rpartition(":")[0], evidence)
        place.parent.mkdir(parents=True, exist_ok=True)
        write_text(place, evidence.to_json())


def _read(folder: pathlib.Path, surveyed: Any) -> dict[str, list[Any]]:
    """The Evidence of an earlier run, by the file and Function that it is about."""
    from gradport.evidence import Evidence

    found: dict[str, list[Any]] = {}
    for file in sorted(folder.glob("**/*.json")):
        try:
            one = Evidence.from_json(file.read_text("utf-8"))
        except (OSError, Error):
            continue  # somebody else's
        key = one.source.get("card", "")
        if key.rpartition(":")[0] in surveyed and all(one.subject != other.subject for other in found.get(key, ())):
            found.setdefault(key, []).append(one)
    return found


def _measured(current: Session, file: pathlib.Path, surveyed: Any, asked: _Asked) -> dict[str, list[Any]]:
    """What the Subjects of a file show, by the file and Function of the survey that they are about."""
    from gradport.cli.target import load_subjects

    found: dict[str, list[Any]] = {}
    every = load_subjects(str(file))
    for number, subject in enumerate(every, 1):
        key = _card_of(subject, surveyed)
        if key is None:
            current.say(f"left out {subject.name}: it is no Function of {', '.join(asked.paths)}")
            continue
        same = sum(one.subject.partition(" (")[0] == subject.name for one in found.get(key, ()))
        name = f"{subject.name} ({same + 1})" if same else subject.name
        evidence = next((one for one in asked.known.get(key, ()) if one.subject == name), None)
        if evidence is None:
            with current.step(f"measuring {name}, {number} of {len(every)}"):
                evidence = _one(current, subject.replace(name=name), asked.budget)
            if evidence is None:
                continue
            command = f"gradport docs {' '.join(asked.paths)} --subjects {file} --budget {asked.budget:g}s"
            evidence.source.update(card=key, commands=[command])
            asked.keep(key, evidence)
        found.setdefault(key, []).append(evidence)
    return found


def _one(current: Session, subject: Any, budget: float) -> Any:
    from gradport.survey.measure import measure

    try:
        return measure(subject, budget=budget, progress=current.progress)
    except Error as error:
        current.say(f"left out {subject.name}: {error}")
        return None


def _card_of(subject: Any, surveyed: Any) -> str | None:
    """The file and the Function of the survey that a Subject is about."""
    from gradport.signature import source_of

    home, _ = source_of(subject.target)
    name = getattr(subject.target, "__qualname__", "")
    for path, evidence in surveyed.items():
        same = home is not None and pathlib.Path(evidence.source["file"]).resolve() == pathlib.Path(home).resolve()
        if same and any(entry["name"] == name for entry in evidence.source["autograd"]):
            return f"{path}:{name}"
    return None
