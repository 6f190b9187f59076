"""What a project's pyproject.toml says of single Functions, each with the reason that the report repeats.

[tool.gradport.check."mypackage.ops:Quantize"]   # or "Quantize"
expect = "straight-through"
skip = ["second-order"]
reason = "trained by the straight-through estimator, arXiv:1308.3432"
"""

from __future__ import annotations

import dataclasses
import pathlib
import tomllib
from typing import Any

from gradport.check.rules import RULES
from gradport.errors import SpecError
from gradport.evidence import Finding
from gradport.subject import Subject

__all__ = ["Settings", "settings_of"]

_KEYS = {"expect", "skip", "reason"}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is said of one Function.

    Attributes:
        expect: as in `gradport.check`, or None.
        skip: names of rules.
        reason: why.
        file: where it is said.
    """

    expect: Any = None
    skip: tuple[str, ...] = ()
    reason: str = ""
    file: str = ""

    def findings(self) -> list[Finding]:
        """What the report repeats."""
        said = f"{pathlib.Path(self.file).name} says so: {self.reason}"
        found = [
            Finding(f"{name}/settings", name, "skipped", where=self.file, message=f"Not looked at; {said}.")
            for name in self.skip
        ]
        if self.expect is not None:
            message = f"expect={self.expect!r}; {said}."
            found.insert(0, Finding("settings/expect", "settings", "held", where=self.file, message=message))
        return found


def settings_of(subject: Subject) -> Settings:
    """The settings of a Subject in the nearest pyproject.toml, from the current folder upwards.

    Raises:
        SpecError: the file cannot be read, or its table says something that means nothing.
    """
    file = next((p for p in _candidates() if p.is_file()), None)
    if file is None:
        return Settings()
    try:
        tables = tomllib.loads(file.read_text("utf-8")).get("tool", {}).get("gradport", {}).get("check", {})
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SpecError(f"{file} cannot be read: {error}.") from error
    module = getattr(subject.target, "__module__", None) or type(subject.target).__module__
    table = tables.get(f"{module}:{subject.name}", tables.get(subject.name))
    return Settings() if table is None else _read(table, subject.name, file)


def _candidates() -> list[pathlib.Path]:
    here = pathlib.Path.cwd()
    return [folder / "pyproject.toml" for folder in (here, *here.parents)]


def _read(table: Any, name: str, file: pathlib.Path) -> Settings:
    place = f"[tool.gradport.check.{name!r}] in {file}"
    if not isinstance(table, dict) or set(table) - _KEYS:
        raise SpecError(f"{place} knows {', '.join(sorted(_KEYS))} and nothing else.")
    if not isinstance(table.get("reason"), str) or not table["reason"].strip():
        raise SpecError(f'{place} gives no reason; add reason = "...", which the report repeats.')
    skip = table.get("skip", [])
    unknown = [rule for rule in skip if rule not in RULES] if isinstance(skip, list) else [skip]
    if unknown:
        raise SpecError(f"{place}: {unknown[0]!r} is no rule; the rules are {', '.join(RULES)}.")
    return Settings(table.get("expect"), tuple(skip), table["reason"].strip().rstrip("."), str(file))
