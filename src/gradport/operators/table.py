"""The table of operators: torch's own rows, and above them those of this package and of others.

A row is one decorated function. `lowering` gives ONNX operators, `decomposition` other operators of torch, and
`replacement` takes the place of a function of torch above autograd, so that the gradient is that of the operators it
calls.
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
from gradport.compat.torch.operators import Absent, present
from gradport.compat.torch.operators import aten as _aten
from gradport.compat.torch.tracing import without_modes
from gradport.operators.samples import Sample

__all__ = [
    "OPSETS",
    "Kind",
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
"""Opsets that can be written: outside them the exporter goes through version converters that lose the Regions."""

ENTRY_POINTS = "gradport.operators"
"""The group of entry points whose modules add rows."""

op: Any = onnxscript.opset18
"""Operators as functions of ONNX values; a node made by one belongs to the graph that is being translated."""

_INFERENCE_ONLY = present(
    _aten.nll_loss_forward.default,
    _aten.nll_loss2d_forward.default,
    _aten.native_batch_norm.default,
    _aten._native_batch_norm_legit.default,
    _aten._native_batch_norm_legit.no_stats,
    _aten._native_batch_norm_legit_functional.default,
    _aten._native_batch_norm_legit_no_training.default,
    _aten.im2col.default,
)
"""Operators whose lowering was written for inference: results that only a backward reads are wrong in it, or it takes
no empty batch."""

_LINK = re.compile(r"https://[^\s,;)]+")

F = TypeVar("F", bound=Callable[..., Any])


class Kind(enum.StrEnum):
    """What a row writes an operator with."""

    LOWERING = "lowering"
    """Operators of ONNX."""

    DECOMPOSITION = "decomposition"
    """Other operators of torch, below autograd."""

    REPLACEMENT = "replacement"
    """Other functions of torch, above autograd."""


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """How operators are written.

    Attributes:
        kind: what they are written with.
        function: takes the operator's arguments, returns its results. A decomposition may return NotImplemented, which
            leaves the operator as it is.
        targets: the operators, or the functions of torch, that the installed torch has.
        absent: names of the operators that it does not have.
        since: the first opset that the row holds for.
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
        """The module of the family and the function: `activations.hardtanh_backward`."""
        return f"{self.function.__module__.rpartition('.')[2]}.{self.function.__name__}"

    @property
    def links(self) -> tuple[str, ...]:
        """The pages that the docstring of the row, or else of its family, names as the source."""
        own = _LINK.findall(self.function.__doc__ or "")
        return tuple(own or _LINK.findall(sys.modules[self.function.__module__].__doc__ or ""))

    def __call__(self, *args: Any, **options: Any) -> Any:
        """The results of the operator."""
        used = _USED.get()
        if used is not None:
            used.append(self)
        return self.function(*args, **options)


_ROWS: list[Row] = []

_USED: contextvars.ContextVar[list[Row] | None] = contextvars.ContextVar("used rows", default=None)


def rows() -> tuple[Row, ...]:
    """All rows above torch's own, those of other packages included, in the order of their registration."""
    _load_entry_points()
    return tuple(_ROWS)


def inactive_rows() -> tuple[str, ...]:
    """Names of the operators that this package has a row for and the installed torch does not have."""
    return tuple(name for row in _ROWS for name in row.absent)


@contextlib.contextmanager
def used_rows() -> Iterator[list[Row]]:
    """While open, the list that it gives collects the rows that traces and translations call."""
    used: list[Row] = []
    token = _USED.set(used)
    try:
        yield used
    finally:
        _USED.reset(token)


def lowering(*overloads: Any, since: int = OPSETS.start, samples: Iterable[Sample] = ()) -> Callable[[F], F]:
    """Registers how these ATen overloads are written with ONNX operators.

    The function takes the operator's arguments as ONNX values (`onnx_ir.Value`) and returns its results. Between them
    it calls `gradport.operators.op`, the operators of ONNX as functions. The row takes the place of torch's own, and
    of an earlier row for a lower opset.

    Args:
        overloads: such as `torch.ops.my_library.my_operator.default`.
        since: the first opset that the row holds for.
        samples: calls that reach the row, for its test.
    """
    return _register(Kind.LOWERING, overloads, since, samples)


def decomposition(*overloads: Any, since: int = OPSETS.start, samples: Iterable[Sample] = ()) -> Callable[[F], F]:
    """Registers how these ATen overloads are written with other operators of torch. The row takes the place of torch's
    own decomposition, and of a lowering; where the function returns NotImplemented, the operator stays.

    Args:
        overloads: such as `torch.ops.my_library.my_operator.default`.
        since: the first opset that the row holds for.
        samples: calls that reach the row, for its test.
    """
    return _register(Kind.DECOMPOSITION, overloads, since, samples)


def replacement(*functions: Any, samples: Iterable[Sample] = ()) -> Callable[[F], F]:
    """Registers what runs in place of these functions of torch while a graph is traced. Eager runs the original, so
    the proof compares one with the other.

    Args:
        functions: such as `torch.nn.functional.grid_sample`.
        samples: calls that reach the row, for its test.
    """
    return _register(Kind.REPLACEMENT, functions, OPSETS.start, samples)


def _register(kind: Kind, targets: Iterable[Any], since: int, samples: Iterable[Sample]) -> Callable[[F], F]:
    def register(function: F) -> F:
        present_here = tuple(target for target in targets if not isinstance(target, Absent))
        absent = tuple(target.name for target in targets if isinstance(target, Absent))
        _ROWS.append(Row(kind, function, present_here, absent, since, tuple(samples)))
        return function

    return register


@functools.cache
def _load_entry_points() -> None:
    """Imports the modules of other packages that add rows."""
    for entry in importlib.metadata.entry_points(group=ENTRY_POINTS):
        entry.load()


def _at(opset_version: int, kind: Kind, known: tuple[Row, ...]) -> dict[Any, Row]:
    """The row of each operator at one opset: of those that hold, the one of the latest opset, then the last one."""
    held = sorted((row for row in known if row.kind is kind and row.since <= opset_version), key=lambda row: row.since)
    return {target: row for row in held for target in row.targets}


def constant(values: Any, dtype: torch.dtype) -> torch.Tensor:
    """A tensor of known values, for a decomposition: a constant of the graph."""
    with without_modes():
        return torch.tensor(values, dtype=dtype)


def registry(opset_version: int) -> Any:
    """The exporter's registry at one opset, with the rows above in front."""
    return _registry(opset_version, rows())


@functools.lru_cache(maxsize=len(OPSETS))
def _registry(opset_version: int, known: tuple[Row, ...]) -> Any:
    found = exporter.lowerings(opset_version)
    with quiet():  # it would log that plain functions have no onnxscript signature
        for overload, row in _at(opset_version, Kind.LOWERING, known).items():
            found.register_op(overload, row)
    return found


def decomposition_table(opset_version: int) -> dict[Any, Any]:
    """The operators that the trace decomposes: those without a lowering, those with one that no backward may read, and
    those that a row decomposes."""
    return _decomposition_table(opset_version, rows())


@functools.lru_cache(maxsize=len(OPSETS))
def _decomposition_table(opset_version: int, known: tuple[Row, ...]) -> dict[Any, Any]:
    own = _at(opset_version, Kind.DECOMPOSITION, known)
    lowered = _at(opset_version, Kind.LOWERING, known)
    newer = {target for target, row in own.items() if target in lowered and lowered[target].since > row.since}
    found = exporter.decompositions(_registry(opset_version, known), _INFERENCE_ONLY)
    return found | {target: row for target, row in own.items() if target not in newer}


def replacements() -> dict[Any, Row]:
    """The functions of torch that a trace replaces."""
    return _replacements(rows())


@functools.lru_cache(maxsize=1)
def _replacements(known: tuple[Row, ...]) -> dict[Any, Row]:
    return _at(OPSETS[-1], Kind.REPLACEMENT, known)


def operators_with_rows() -> frozenset[Any]:
    """The operators that a row writes, at any opset."""
    return frozenset(target for row in rows() if row.kind is not Kind.REPLACEMENT for target in row.targets)
