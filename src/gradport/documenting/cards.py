"""Assigns Subjects to surveyed Functions and measures them: the measured half of the cards."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence

from gradport.errors import Error, SpecError
from gradport.evidence.evidence import Evidence
from gradport.evidence.survey import FileSurvey
from gradport.measuring.measure import measure
from gradport.subject.signature import source_of
from gradport.subject.subject import Subject

__all__ = ["LeftOut", "load_cards", "measure_cards"]

Cards = dict[str, list[Evidence]]
"""Evidences by file and Function, `file:Function`."""


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """A Subject without a card, and the reason."""

    subject: str
    why: str


def measure_cards(
    subjects: Sequence[Subject],
    surveyed: Mapping[str, FileSurvey],
    known: Cards,
    *,
    budget: float,
    command: str,
    progress: Callable[[str], None] = lambda what: None,
) -> Iterator[tuple[str, Evidence] | LeftOut]:
    """Measures each Subject whose Function is surveyed and has no Evidence yet.

    Args:
        subjects: in the order of measuring.
        surveyed: the files.
        known: Evidence of an earlier run, which is reused.
        budget: factor of the work of each check and verification.
        command: the command that repeats the run; stored in the Evidence.
        progress: called with the name of the next step.
    """
    homes = _homes(surveyed)
    seen: dict[str, int] = {}
    for number, subject in enumerate(subjects, 1):
        key = homes.get(_home(subject))
        if key is None:
            yield LeftOut(subject.name, "it is not a Function in the surveyed files")
            continue
        same = f"{key} {subject.name}"
        seen[same] = seen.get(same, 0) + 1
        name = subject.name if seen[same] == 1 else f"{subject.name} ({seen[same]})"
        evidence = next((one for one in known.get(key, ()) if one.subject == name), None)
        if evidence is None:
            report = functools.partial(_report, progress, f"{name}, {number} of {len(subjects)}")
            try:
                evidence = measure(subject.replace(name=name), budget=budget, progress=report)
            except Error as error:
                yield LeftOut(name, str(error))
                continue
            evidence.source.update(card=key, commands=[command])
        yield key, evidence


def load_cards(folder: pathlib.Path, surveyed: Mapping[str, FileSurvey]) -> Cards:
    """Loads the Evidence of an earlier run from a folder; only Evidence for Functions in these files counts.

    Raises:
        SpecError: the folder does not exist.
    """
    if not folder.is_dir():
        raise SpecError(f"{folder}: folder with Evidence not found.")
    known = set(_homes(surveyed).values())
    cards: Cards = {}
    for file in sorted(folder.glob("**/*.json")):
        try:
            one = Evidence.from_json(file.read_text("utf-8"))
        except (OSError, UnicodeDecodeError, Error):
            continue  # not a file of gradport
        key = one.source.get("card")
        if key in known and all(one.subject != other.subject for other in cards.get(key, ())):
            cards.setdefault(key, []).append(one)
    return cards


def _report(progress: Callable[[str], None], who: str, what: str) -> None:
    progress(f"{who}: {what}")


def _homes(surveyed: Mapping[str, FileSurvey]) -> dict[tuple[str, str], str]:
    return {
        (str(pathlib.Path(survey.file).resolve()), entry["name"]): f"{path}:{entry['name']}"
        for path, survey in surveyed.items()
        for entry in survey.autograd
    }


def _home(subject: Subject) -> tuple[str, str]:
    file, _ = source_of(subject.target)
    name = getattr(subject.target, "__qualname__", "").replace("<locals>.", "")
    return (str(pathlib.Path(file or "").resolve()), name)
