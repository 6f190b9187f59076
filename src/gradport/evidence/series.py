"""Series of Evidence: curves, matrices and timings, their types, and `read_series`.

Evidence may come from an untrusted file, so code that reads a series uses `read_series`, which validates it.
"""

from __future__ import annotations

import enum
import functools
import importlib.resources
import json
from collections.abc import Sequence
from typing import Any, TypedDict

from gradport.compat.extras import Extra, extra
from gradport.errors import SpecError, first_line
from gradport.evidence.evidence import Evidence, plain

__all__ = [
    "Curves",
    "Errors",
    "Form",
    "Jacobian",
    "Node",
    "Onnx",
    "Series",
    "Snippet",
    "SweepCell",
    "TimingRow",
    "Timings",
    "read_series",
]

Number = float | str
"""A number, or "nan", "inf" or "-inf"."""


class Series(enum.StrEnum):
    """The series that gradport writes and draws."""

    CURVES = "curves"
    JACOBIAN = "jacobian"
    ERRORS = "errors"
    DIVERGENCE = "divergence"
    ONNX = "onnx"
    TIMINGS = "timings"
    FORMS = "forms"
    SNIPPET = "snippet"
    SWEEP = "sweep"


class Curves(TypedDict, total=False):
    """Curves along a line through the inputs of one argument; `others` has the curves of the other arguments."""

    along: str
    t: Sequence[Number]
    forward: Sequence[Number]
    derivative: Sequence[Number]
    backward: Sequence[Number]
    kinks: Sequence[Number]
    jumps: Sequence[Number]
    others: Sequence[Curves]


class Jacobian(TypedDict):
    """The error of each entry divided by the largest entry, with a row for each element of the output."""

    argument: str
    output: str
    errors: Sequence[Sequence[Number]]


class Errors(TypedDict):
    """The number of elements up to each edge; the error against float64 in ULPs of the largest value."""

    edges: Sequence[Number]
    eager: Sequence[int]
    onnxruntime: Sequence[int]


class Node(TypedDict, total=False):
    """One node of a divergence, in graph order."""

    node: str
    op: str
    half: str
    place: str | None
    relative: Number
    first: bool


class Onnx(TypedDict):
    """The model: its size, its names, and its local functions."""

    opset: int
    nodes: int
    bytes: int
    inputs: Sequence[str]
    outputs: Sequence[str]
    operators: dict[str, int]
    functions: Sequence[dict[str, Any]]


class TimingRow(TypedDict):
    """Milliseconds of one way (eager, torch.compile, onnxruntime) and phase (forward, both) at one size."""

    way: str
    phase: str
    sizes: dict[str, int]
    bytes: int
    milliseconds: float


class Timings(TypedDict):
    """Times, peak memory in bytes by way, and the machine's memory bandwidth in bytes a second."""

    rows: Sequence[TimingRow]
    memory: dict[str, int]
    bandwidth: float
    threads: int


class Form(TypedDict):
    """One form at one opset: exported and checked, or refused."""

    opset: int
    functions: str
    outcome: str
    message: str


class Snippet(TypedDict, total=False):
    """Code that ran and its output, or the reason why there is no code."""

    code: str
    printed: str
    ok: bool
    reason: str


class SweepCell(TypedDict):
    """One setting of a sweep; an unused axis is None."""

    cell: str
    opset: int | None
    dtype: str | None
    dynamic: bool | None
    functions: str | None
    runtime: str | None
    outcome: str
    figure: Number | None
    message: str


def read_series(evidence: Evidence, series: Series) -> Any:
    """A validated series in JSON types, in the form of its TypedDict.

    Raises:
        SpecError: the series has another form; the message names the place.
    """
    value = plain(evidence.series[series])
    with extra(Extra.PAGES, "Series of Evidence"):
        import jsonschema

    error = jsonschema.exceptions.best_match(_validator(series).iter_errors(value))
    if error is not None:
        place = f"{series}{error.json_path.removeprefix('$')}"
        raise SpecError(f"{place} of this Evidence does not have the form of its schema: {first_line(error, 100)}.")
    for of_a_kind in _parallel(series, value):
        if len({len(one) for one in of_a_kind}) > 1:
            raise SpecError(f"{series} of this Evidence has lists of different lengths.")
    return value


@functools.cache
def _validator(series: Series) -> Any:
    import jsonschema

    text = (importlib.resources.files("gradport.evidence") / "series.schema.json").read_text("utf-8")
    whole = json.loads(text)
    return jsonschema.Draft202012Validator({**whole["properties"][series], "$defs": whole["$defs"]})


def _parallel(series: Series, value: Any) -> list[list[Any]]:
    """The lists of a series that must have equal lengths, which a JSON schema cannot express."""
    if series is Series.CURVES:
        return [
            [one[key] for key in ("t", "forward", "derivative", "backward")]
            for one in (value, *value.get("others", ()))
        ]
    if series is Series.JACOBIAN:
        return [value["errors"]]
    if series is Series.ERRORS:
        return [list(value.values())]
    return []
