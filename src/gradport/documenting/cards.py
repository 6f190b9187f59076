"""Which Subject is about which surveyed Function, and what each shows: the measured half of the cards."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence

from gradport.errors import Error, SpecError
from gradport.evidence.evidence import Evidence
from gradport.measuring.measure import measure
from gradport.subject.signature import source_of
from gradport.subject.subject import Subject

__all__ = ["LeftOut", "load_cards", "measure_cards"]

Cards = dict[str, list[Evidence]]
"""Evidences by the file and the Function that they are about, `file:Function`."""


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """A Subject that no card was made of, and why."""

    subject: str
    why: str


def measure_cards(
    subjects: Sequence[Subject],
    surveyed: Mapping[str, Evidence],
    known: Cards,
    *,
    budget: float,
    command: str,
    progress: Callable[[str], None] = lambda what: None,
) -> Iterator[tuple[str, Evidence] | LeftOut]:
    """Measures each Subject whose Function is surveyed and not known yet.

    Args:
        subjects: in the order in which they are measured.
        surveyed: the files.
        known: Evidence of an earlier run, which is taken as it is.
        budget: factor of the amount of work of the check and of the verification of each.
        command: what makes this again; Evidence keeps it.
        progress: told what comes next.
    """
    homes = _homes(surveyed)
    seen: dict[str, int] = {}
    for number, subject in enumerate(subjects, 1):
        key = homes.get(_home(subject))
        if key is None:
            yield LeftOut(subject.name, "it is not a Function of a file here")
            continue
        same = f"{key} {subject.name}"
        seen[same] = seen.get(same, 0) + 1
        name = subject.name if seen[same] == 1 else f"{subject.name} ({seen[same]})"
        found = next((one for one in known.get(key, ()) if one.subject == name), None)
        if found is None:
            told = functools.partial(_tell, progress, f"{name}, {number} of {len(subjects)}")
            try:
                found = measure(subject.replace(name=name), budget=budget, progress=told)
            except Error as error:
                yield LeftOut(name, str(error))
                continue
            found.source.update(card=key, commands=[command])
        yield key, found


def load_cards(folder: pathlib.Path, surveyed: Mapping[str, Evidence]) -> Cards:
    """The Evidence that an earlier run left in a folder, as far as it is about Functions of these files.

    Raises:
        SpecError: there is no such folder.
    """
    if not folder.is_dir():
        raise SpecError(f"There is no folder {folder} with Evidence.")
    known = set(_homes(surveyed).values())
    found: Cards = {}
    for file in sorted(folder.glob("**/*.json")):
        try:
            one = Evidence.from_json(file.read_text("utf-8"))
        except (OSError, UnicodeDecodeError, Error):
            continue  # somebody else's
        key = one.source.get("card")
        if key in known and all(one.subject != other.subject for other in found.get(key, ())):
            found.setdefault(key, []).append(one)
    return found


def _tell(progress: Callable[[str], None], who: str, what: str) -> None:
    progress(f"{who}: {what}")


def _homes(surveyed: Mapping[str, Evidence]) -> dict[tuple[str, str], str]:
    return {
        (str(pathlib.Path(evidence.source["file"]).resolve()), entry["name"]): f"{path}:{entry['name']}"
        for path, evidence in surveyed.items()
        for entry in evidence.source["autograd"]
    }


def _home(subject: Subject) -> tuple[str, str]:
    file, _ = source_of(subject.target)
    name = getattr(subject.target, "__qualname__", "").replace("<locals>.", "")
    return (str(pathlib.Path(file or "").resolve()), name)
