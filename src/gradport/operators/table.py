"""The table of operators: the rows of gradport and of other packages take precedence over torch's own.

A row is one decorated function. A `lowering` returns ONNX operators, a `decomposition` other torch operators. A
`replacement` runs in place of a torch function above autograd, so its gradient is that of the operators it calls.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import enum
import functools
import importlib.metadata
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import onnxscript
import torch

from gradport.compat.quiet import quiet
from gradport.compat.torch import exporter
from gradport.compat.torch.operators import Absent, drop_absent
from gradport.compat.torch.operators import aten as _aten
from gradport.compat.torch.tracing import without_modes
from gradport.operators.samples import Sample

__all__ = [
    "OPSETS",
    "Kind",
    "OwnBackward",
    "Row",
    "constant",
    "decomposition",
    "decomposition_table",
    "inactive_rows",
    "lowering",
    "op",
    "operators_with_rows",
    "registry",
    "replacement",
    "replacements",
    "rows",
    "used_rows",
]

OPSETS = range(18, 26)
"""Opsets that the export supports: outside them the exporter uses version converters that lose the Regions."""

ENTRY_POINTS = "gradport.operators"
"""The entry point group of modules that add rows."""

op: Any = onnxscript.opset18
"""ONNX operators as functions of ONNX values; their nodes are added to the graph under translation."""

_INFERENCE_ONLY = drop_absent(
    _aten.nll_loss_forward.default,
    _aten.nll_loss2d_forward.default,
    _aten.native_batch_norm.default,
    _aten._native_batch_norm_legit.default,
    _aten._native_batch_norm_legit_no_training.default,
    _aten.im2col.default,
)
"""Operators whose lowering is only for inference: results that only a backward reads are wrong, or an empty batch
fails."""

_LINK = re.compile(r"https://[^\s,;)]+")

F = TypeVar("F", bound=Callable[..., Any])


class OwnBackward(torch.autograd.Function):
    """Base of a Function that a row uses for its backward: a trace shows its operators, not a call of it."""


class Kind(enum.StrEnum):
    """The form in which a row expresses an operator."""

    LOWERING = "lowering"
    """ONNX operators."""

    DECOMPOSITION = "decomposition"
    """Other torch operators, below autograd."""

    REPLACEMENT = "replacement"
    """Other torch functions, above autograd."""


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """The export rule of one or more operators.

    Attributes:
        kind: lowering, decomposition or replacement.
        function: takes the operator's arguments, returns its results. A decomposition may return NotImplemented: the
            operator then stays.
        targets: the operators or torch functions that the installed torch has.
        absent: names of the operators that the installed torch lacks.
        since: the first opset that the row supports.
        samples: calls that reach the row.
    """

    kind: Kind
    function: Callable[..., Any]
    targets: tuple[Any, ...]
    absent: tuple[str, ...]
    since: int
    samples: tuple[Sample, ...]

    @property
    def name(self) -> str:
        """The family's module and the function: `activations.hardtanh_backward`."""
        return f"{self.function.__module__.rpartition('.')[2]}.{self.function.__name__}"

    @property
    def links(self) -> tuple[str, ...]:
        """The source links in the row's docstring, or else in its family's."""
        own = _LINK.findall(self.function.__doc__ or "")
        return tuple(own or _LINK.findall(sys.modules[self.function.__module__].__doc__ or ""))

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Calls the function; returns the results of the operator."""
        used = _USED.get()
        if used is not None:
            used.append(self)
        return self.function(*args, **options)


_ROWS: list[Row] = []

_USED: contextvars.ContextVar[list[Row] | None] = contextvars.ContextVar("used rows", default=None)


def rows() -> tuple[Row, ...]:
    """All rows of gradport and of other packages, in order of registration."""
    _load_entry_points()
    return tuple(_ROWS)


def inactive_rows() -> tuple[str, ...]:
    """Names of the operators that have a row but that the installed torch lacks."""
    return tuple(name for row in _ROWS for name in row.absent)


@contextlib.contextmanager
def used_rows() -> Iterator[list[Row]]:
    """Yields a list that collects the rows that traces and translations call while the context is open."""
    used: list[Row] = []
    token = _USED.set(used)
    try:
        yield used
    finally:
        _USED.reset(token)


def lowering(*overloads: Any, since: int = OPSETS.start, samples: Iterable[Sample] = ()) -> Callable[[F], F]:
    """Registers a function that expresses these ATen overloads by ONNX operators.

    The function takes the operator's arguments as ONNX values (`onnx_ir.Value`) and returns its results. It calls the
    ONNX operators as functions of `gradport.operators.op`. The row replaces torch's lowering, and any earlier row for a
    lower opset.

    Args:
        overloads: such as `torch.ops.my_library.my_operator.default`.
        since: the first opset that the row supports.
        samples: calls that reach the row, for its test.
    """
    return _register(Kind.LOWERING, overloads, since, samples)


def decomposition(*overloads: Any, since: int = OPSETS.start, samples: Iterable[Sample] = ()) -> Callable[[F], F]:
    """Registers a function that expresses these ATen overloads by other torch operators. The row replaces torch's
    decomposition and any lowering; if the function returns NotImplemented, the operator stays.

    Args:
        overloads: such as `torch.ops.my_library.my_operator.default`.
        since: the first opset that the row supports.
        samples: calls that reach the row, for its test.
    """
    return _register(Kind.DECOMPOSITION, overloads, since, samples)


def replacement(*functions: Any, samples: Iterable[Sample] = ()) -> Callable[[F], F]:
    """Registers a function that runs in place of these torch functions during a trace. Eager runs the original, so the
    proof compares the two.

    Args:
        functions: such as `torch.nn.functional.grid_sample`.
        samples: calls that reach the row, for its test.
    """
    return _register(Kind.REPLACEMENT, functions, OPSETS.start, samples)


def _register(kind: Kind, targets: Iterable[Any], since: int, samples: Iterable[Sample]) -> Callable[[F], F]:
    def register(function: F) -> F:
        installed = tuple(target for target in targets if not isinstance(target, Absent))
        absent = tuple(target.name for target in targets if isinstance(target, Absent))
        _ROWS.append(Row(kind, function, installed, absent, since, tuple(samples)))
        return function

    return register


@functools.cache
def _load_entry_points() -> None:
    """Imports the modules of other packages that add rows."""
    for entry in importlib.metadata.entry_points(group=ENTRY_POINTS):
        entry.load()


def _at(opset_version: int, kind: Kind, known: tuple[Row, ...]) -> dict[Any, Row]:
    """The row of each operator at one opset: of the supported rows the row of the latest opset, then the last one."""
    held = sorted((row for row in known if row.kind is kind and row.since <= opset_version), key=lambda row: row.since)
    return {target: row for row in held for target in row.targets}


def constant(values: Any, dtype: torch.dtype) -> torch.Tensor:
    """A tensor of known values for a decomposition: a constant in the graph."""
    with without_modes():
        return torch.tensor(values, dtype=dtype)


def registry(opset_version: int) -> Any:
    """The exporter's registry at one opset, extended by the lowerings of the table."""
    return _registry(opset_version, rows())


@functools.lru_cache(maxsize=len(OPSETS))
def _registry(opset_version: int, known: tuple[Row, ...]) -> Any:
    lowerings = exporter.lowerings(opset_version)
    with quiet():  # onnxscript logs that plain functions have no signature
        for overload, row in _at(opset_version, Kind.LOWERING, known).items():
            lowerings.register_op(overload, row)
    return lowerings


def decomposition_table(opset_version: int) -> dict[Any, Any]:
    """The decompositions of a trace: for operators without a lowering, with a lowering that is only for inference, or
    with a decomposition row."""
    return _decomposition_table(opset_version, rows())


@functools.lru_cache(maxsize=len(OPSETS))
def _decomposition_table(opset_version: int, known: tuple[Row, ...]) -> dict[Any, Any]:
    own = _at(opset_version, Kind.DECOMPOSITION, known)
    lowered = _at(opset_version, Kind.LOWERING, known)
    newer = {target for target, row in own.items() if target in lowered and lowered[target].since > row.since}
    decompositions = exporter.decompositions(_registry(opset_version, known), _INFERENCE_ONLY)
    return decompositions | {target: row for target, row in own.items() if target not in newer}


def replacements() -> dict[Any, Row]:
    """The torch functions that a trace replaces, and their rows."""
    return _replacements(rows())


@functools.lru_cache(maxsize=1)
def _replacements(known: tuple[Row, ...]) -> dict[Any, Row]:
    return _at(OPSETS[-1], Kind.REPLACEMENT, known)


def operators_with_rows() -> frozenset[Any]:
    """The operators that have a lowering or a decomposition row, at any opset."""
    return frozenset(target for row in rows() if row.kind is not Kind.REPLACEMENT for target in row.targets)
