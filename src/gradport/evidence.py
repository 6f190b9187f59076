"""Evidence: what was measured about one Subject. Every report is drawn from it, and it serialises to JSON."""

from __future__ import annotations

import dataclasses
import json
import math
import platform
from typing import Any

__all__ = ["SCHEMA_VERSION", "Evidence", "Finding", "environment"]

SCHEMA_VERSION = 1

OUTCOMES = ("held", "failed", "skipped", "undecided", "error")


@dataclasses.dataclass(frozen=True)
class Finding:
    """One measured statement.

    Attributes:
        key: stable across runs, made of the rule and what it is about.
        rule: the rule's name.
        outcome: held, failed, skipped, undecided or error.
        kind: what was found (derivative, straight-through, agrees, ...).
        severity: info, warning or error.
        figure: the number that was measured, or None.
        unit: of the figure.
        input: the input that shows it, as a person would write it, or None.
        where: the source line that it is about, or None.
        message: one sentence.
    """

    key: str
    rule: str
    outcome: str
    kind: str = ""
    severity: str = "info"
    figure: float | None = None
    unit: str = ""
    input: str | None = None
    where: str | None = None
    message: str = ""


@dataclasses.dataclass(frozen=True)
class Evidence:
    """Findings, series, source and environment of one Subject.

    Attributes:
        subject: its name.
        findings: in the order in which they were made.
        series: curves, matrices and timings by name.
        source: file, line and text of what was examined.
        environment: versions and machine.
        schema_version: of the JSON form.
    """

    subject: str
    findings: tuple[Finding, ...] = ()
    series: dict[str, Any] = dataclasses.field(default_factory=dict)
    source: dict[str, Any] = dataclasses.field(default_factory=dict)
    environment: dict[str, Any] = dataclasses.field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    @property
    def ok(self) -> bool:
        """Whether nothing failed, stayed undecided or broke."""
        return all(finding.outcome in ("held", "skipped") for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """What `to_json` writes, as plain dicts and lists; nan and infinities are strings."""
        return {**_plain(dataclasses.asdict(self)), "ok": self.ok}

    def to_json(self) -> str:
        """JSON text; nan and infinities are strings."""
        return json.dumps(self.to_dict(), ensure_ascii=False, indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Evidence:
        """Reads what `to_json` wrote."""
        data = json.loads(text)
        data.pop("ok", None)
        findings = tuple(
            Finding(**{**finding, "figure": _number(finding.get("figure"))}) for finding in data.pop("findings", ())
        )
        return cls(findings=findings, **data)


def environment() -> dict[str, Any]:
    """Versions of what takes part, and the machine."""
    import importlib.metadata

    versions = {"python": platform.python_version(), "machine": platform.machine()}
    for package in ("gradport", "torch", "onnx", "onnxruntime", "onnxscript", "onnx-ir"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return str(value)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
