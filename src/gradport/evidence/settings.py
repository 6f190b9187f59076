"""Settings for single Functions in pyproject.toml, each with a reason that reports show.

[tool.gradport.check."mypackage.ops:Quantize"]   # or "Quantize"
expect = "straight-through"
skip = ["second-order"]
reason = "trained by the straight-through estimator, arXiv:1308.3432"

[tool.gradport.verify."mypackage.ops:TopK"]
skip = ["ties"]                                  # also rtol, atol
reason = "torch leaves the order of equal elements open"
"""

from __future__ import annotations

import dataclasses
import enum
import pathlib
import tomllib
from collections.abc import Collection
from typing import Any

from gradport.errors import SpecError
from gradport.evidence.evidence import Finding, Outcome
from gradport.subject.subject import Subject

__all__ = ["Command", "Settings", "settings_of"]


class Command(enum.StrEnum):
    """The command to which settings apply."""

    CHECK = "check"
    VERIFY = "verify"


_KEYS = {Command.CHECK: {"expect", "skip", "reason"}, Command.VERIFY: {"skip", "rtol", "atol", "reason"}}


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of one Function.

    Attributes:
        expect: as in `gradport.check`, or None.
        skip: names of rules.
        rtol, atol: as in `gradport.verify`, or None.
        reason: the reason for the settings.
        file: the pyproject.toml.
    """

    expect: Any = None
    skip: tuple[str, ...] = ()
    reason: str = ""
    file: str = ""
    rtol: float | None = None
    atol: float | None = None

    def findings(self) -> list[Finding]:
        """The Findings that show the settings in a report."""
        source = f"set in {pathlib.Path(self.file).name}: {self.reason}"
        findings = [
            Finding(f"{name}/settings", name, Outcome.SKIPPED, where=self.file, message=f"Skipped: {source}.")
            for name in self.skip
        ]
        for name in ("expect", "rtol", "atol"):
            value = getattr(self, name)
            if value is not None:
                message = f"{name}={value!r}; {source}."
                first = Finding(f"settings/{name}", "settings", Outcome.OK, where=self.file, message=message)
                findings.insert(0, first)
        return findings


def settings_of(subject: Subject, command: Command, rules: Collection[str]) -> Settings:
    """The settings of a Subject in the nearest pyproject.toml, from the current folder upwards.

    Args:
        subject: the Subject.
        command: the command.
        rules: the valid names for `skip`.

    Raises:
        SpecError: the file cannot be read, or its table is invalid.
    """
    file = next((p for p in _candidates() if p.is_file()), None)
    if file is None:
        return Settings()
    try:
        tables = tomllib.loads(file.read_text("utf-8")).get("tool", {}).get("gradport", {}).get(command, {})
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SpecError(f"{file} cannot be read: {error}.") from error
    module = getattr(subject.target, "__module__", None) or type(subject.target).__module__
    table = tables.get(f"{module}:{subject.name}", tables.get(subject.name))
    return Settings() if table is None else _read_table(table, subject.name, file, command, rules)


def _candidates() -> list[pathlib.Path]:
    here = pathlib.Path.cwd()
    return [folder / "pyproject.toml" for folder in (here, *here.parents)]


def _read_table(table: Any, name: str, file: pathlib.Path, command: Command, rules: Collection[str]) -> Settings:
    place = f"[tool.gradport.{command}.{name!r}] in {file}"
    if not isinstance(table, dict) or set(table) - _KEYS[command]:
        raise SpecError(f"{place} may have only {', '.join(sorted(_KEYS[command]))}.")
    if not isinstance(table.get("reason"), str) or not table["reason"].strip():
        raise SpecError(f'{place} has no reason; add reason = "...", which the report shows.')
    skip = table.get("skip", [])
    unknown = [rule for rule in skip if rule not in rules] if isinstance(skip, list) else [skip]
    if unknown:
        raise SpecError(f"{place}: {unknown[0]!r} is not a rule; the rules are {', '.join(rules)}.")
    for key in ("rtol", "atol"):
        if key in table and (not isinstance(table[key], (int, float)) or table[key] < 0):
            raise SpecError(f"{place}: {key} is {table[key]!r}; it must be a number of at least 0.")
    return Settings(
        expect=table.get("expect"),
        skip=tuple(skip),
        reason=table["reason"].strip().rstrip("."),
        file=str(file),
        rtol=table.get("rtol"),
        atol=table.get("atol"),
    )
