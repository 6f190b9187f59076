"""Evidence: the measured results about one Subject. All reports are made from it, and it serializes to JSON."""

from __future__ import annotations

import dataclasses
import enum
import functools
import importlib.resources
import json
import math
import platform
from typing import Any

from gradport.compat.extras import Extra, extra
from gradport.errors import SpecError, first_line

__all__ = ["SCHEMA_VERSION", "Evidence", "Finding", "Outcome", "Severity", "environment", "line_of", "plain", "schema"]

SCHEMA_VERSION = 3


class Outcome(enum.StrEnum):
    """The outcome of a rule."""

    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"
    UNDECIDED = "undecided"
    ERROR = "error"

    @property
    def passes(self) -> bool:
        """Whether Evidence with this outcome may be ok."""
        return self in (Outcome.OK, Outcome.SKIPPED)


class Severity(enum.StrEnum):
    """The importance of a Finding."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclasses.dataclass(frozen=True)
class Finding:
    """One measured statement.

    Attributes:
        key: stable across runs: the rule and the subject of the Finding.
        rule: the rule's name.
        outcome: ok, failed, skipped, undecided or error.
        kind: the kind of result (derivative, straight-through, ...).
        severity: info, warning or error.
        figure: the measured number, or None.
        unit: of the figure.
        input: the input that shows the result, as text, or None.
        where: the source line, or None.
        message: one sentence.
    """

    key: str
    rule: str
    outcome: Outcome
    kind: str = ""
    severity: Severity = Severity.INFO
    figure: float | None = None
    unit: str = ""
    input: str | None = None
    where: str | None = None
    message: str = ""

    def __post_init__(self) -> None:  # converts strings to enum members
        object.__setattr__(self, "outcome", Outcome(self.outcome))
        object.__setattr__(self, "severity", Severity(self.severity))


@dataclasses.dataclass(frozen=True)
class Evidence:
    """Findings, series, source and environment of one Subject.

    Attributes:
        subject: its name.
        findings: in the order of measurement.
        series: curves, matrices and timings by name.
        source: file, line and text of the Subject's code.
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
        """Whether no Finding is failed, undecided or an error."""
        return all(finding.outcome.passes for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """The content of `to_json` as plain dicts and lists; nan and infinities are strings."""
        return {**plain(dataclasses.asdict(self)), "ok": self.ok}

    def to_json(self) -> str:
        """JSON text; nan and infinities are strings."""
        text = json.dumps(self.to_dict(), ensure_ascii=False, indent=1, allow_nan=False)
        return text.encode("utf-8", "backslashreplace").decode()  # lone surrogates cannot be written as UTF-8

    @classmethod
    def from_json(cls, text: str) -> Evidence:
        """Reads the text of `to_json`, of this version or an older one.

        Raises:
            SpecError: the text does not match `schema`, or has a later version.
        """
        data = _upgrade(_parse(text))
        data.pop("ok", None)
        try:
            findings = tuple(
                Finding(**{**finding, "figure": _number(finding.get("figure"))}) for finding in data.pop("findings")
            )
        except OverflowError as error:
            raise SpecError("This is not Evidence: a figure is larger than any floating-point number.") from error
        return cls(findings=findings, **data)


@functools.cache
def schema() -> dict[str, Any]:
    """The JSON Schema (https://json-schema.org/draft/2020-12/schema) of the text of `Evidence.to_json`."""
    text = (importlib.resources.files("gradport.evidence") / "evidence.schema.json").read_text("utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def _parse(text: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SpecError(f"This is not Evidence: it is not JSON ({first_line(error, 120)}).") from error
    if not isinstance(data, dict) or not isinstance(data.get("schema_version"), int):
        raise SpecError("This is not Evidence: it has no schema_version.")
    if data["schema_version"] > SCHEMA_VERSION:
        raise SpecError(
            f"This Evidence has version {data['schema_version']}, and this gradport reads {SCHEMA_VERSION}; "
            "update gradport."
        )
    return data


def _upgrade(data: dict[str, Any]) -> dict[str, Any]:
    """Converts the data to the current version.

    Raises:
        SpecError: the data do not have the form of their version.
    """
    try:
        data = _upgrade_version_1(data) if data["schema_version"] == 1 else data
        data = _upgrade_version_2(data) if data["schema_version"] == 2 else data
        fault = _fault(data)
    except (RecursionError, TypeError, ValueError):  # version 1 had no schema
        fault = "it is nested too deeply, or does not have the form of its version."
    if fault:
        raise SpecError(f"This is not Evidence: {fault}")
    return data


def _fault(data: dict[str, Any]) -> str:
    """The first violation of the schema, with its place; empty without one."""
    with extra(Extra.PAGES, "Evidence files"):
        import jsonschema

    error = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(schema()).iter_errors(data))
    if error is None:
        return ""
    place = error.json_path.removeprefix("$").lstrip(".") or "its top"
    return f"at {place}, {first_line(error, 200)}"


def _upgrade_version_1(data: dict[str, Any]) -> dict[str, Any]:
    """Removes timings, which were two numbers without sizes and cannot be plotted."""
    series = dict(data.get("series") or {})
    if "timings" in series:
        del series["timings"]
        series["left_out"] = {**series.get("left_out", {}), "timings": "an older gradport kept them without sizes"}
    return {**data, "series": series, "schema_version": 2}


def _upgrade_version_2(data: dict[str, Any]) -> dict[str, Any]:
    """Renames the outcome `held` to `ok` in Findings, forms of a card and cells of a sweep."""
    series = dict(data.get("series") or {})
    for name in ("forms", "sweep"):
        if isinstance(series.get(name), list):
            series[name] = [_rename_held(row) for row in series[name]]
    findings = data.get("findings")
    renamed = {"findings": [_rename_held(one) for one in findings]} if isinstance(findings, list) else {}
    return {**data, **renamed, "series": series, "schema_version": 3}


def _rename_held(row: Any) -> Any:
    return {**row, "outcome": "ok"} if isinstance(row, dict) and row.get("outcome") == "held" else row


def line_of(place: str | None) -> tuple[str, int] | None:
    """The file and the line of a `Finding.where`; None if it is not `file:line`."""
    file, _, line = (place or "").rpartition(":")
    return (file, int(line)) if file and line.isascii() and line.isdigit() and len(line) < 10 else None


def environment() -> dict[str, Any]:
    """Versions of Python and the packages, and the machine."""
    import importlib.metadata

    versions = {"python": platform.python_version(), "machine": platform.machine()}
    for package in ("gradport", "torch", "onnx", "onnxruntime", "onnxscript", "onnx-ir"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def plain(value: Any) -> Any:
    """The value in JSON types: nan and infinities become strings, tuples become lists, other objects their text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if value is None or isinstance(value, (int, float, bool)):
        return value
    return str(value)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
