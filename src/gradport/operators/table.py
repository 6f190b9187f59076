"""The table of lowerings: torch's own, and above it those that this package writes, one decorated function a row: a
lowering gives ONNX operators, a decomposition other operators of torch."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import onnxscript
import torch

from gradport.compat.quiet import quiet
from gradport.compat.torch import exporter
from gradport.compat.torch.operators import Absent, present
from gradport.compat.torch.operators import aten as _aten
from gradport.compat.torch.tracing import without_modes

__all__ = ["OPSETS", "decomposition", "decomposition_table", "fixed", "inactive_rows", "lowering", "op", "registry"]

OPSETS = range(18, 26)
"""Opsets that can be written: outside them the exporter goes through version converters that lose the Regions."""

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

_ROWS: list[tuple[Any, Callable[..., Any]]] = []

_DECOMPOSITIONS: dict[Any, Callable[..., Any]] = {}

_INACTIVE: list[str] = []


def inactive_rows() -> tuple[str, ...]:
    """Names of the operators that this package has a row for and the installed torch does not have."""
    return tuple(_INACTIVE)


def _installed(overloads: tuple[Any, ...]) -> list[Any]:
    """Those of a row's overloads that the installed torch has; the others are noted as inactive."""
    _INACTIVE.extend(overload.name for overload in overloads if isinstance(overload, Absent))
    return [overload for overload in overloads if not isinstance(overload, Absent)]


def lowering(*overloads: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers a lowering of these ATen overloads; it takes the operator's arguments as ONNX values and gives its
    results, with onnxscript's opset functions between."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        _ROWS.extend((overload, function) for overload in _installed(overloads))
        return function

    return register


def decomposition(*overloads: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers a way to write these ATen overloads with other operators of torch; it takes the place of torch's own
    decomposition, and of the exporter's lowering where that is wrong."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        _DECOMPOSITIONS.update(dict.fromkeys(_installed(overloads), function))
        return function

    return register


def fixed(values: Any, dtype: torch.dtype) -> torch.Tensor:
    """A tensor of known values, for a decomposition: a constant of the graph."""
    with without_modes():
        return torch.tensor(values, dtype=dtype)


@functools.lru_cache(maxsize=len(OPSETS))
def registry(opset_version: int) -> Any:
    """The exporter's registry at one opset, with the rows of this package in front."""
    found = exporter.lowerings(opset_version)
    with quiet():  # it would log that plain functions have no onnxscript signature
        for overload, function in _ROWS:
            found.register_op(overload, function)
    return found


@functools.lru_cache(maxsize=len(OPSETS))
def decomposition_table(opset_version: int) -> dict[Any, Any]:
    """What the trace decomposes: the operators without a lowering, those with one that no backward may read, and
    those that this package decomposes."""
    return exporter.decompositions(registry(opset_version), _INFERENCE_ONLY) | _DECOMPOSITIONS
