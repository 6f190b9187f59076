"""Arrays that are given for the inputs of a model, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gradport_runtime.bundle import Port
from gradport_runtime.errors import Code, InputError

__all__ = ["arrays_of"]


def arrays_of(ports: Sequence[Port], given: Mapping[str, Any], model: str) -> dict[str, np.ndarray]:
    """A contiguous array of the right dtype and shape for each port. Lists and numbers become arrays; an array is
    converted where no value is lost by its kind (float64 to float32, int32 to int64).

    Raises:
        InputError: a name is missing or unknown, or a dtype or shape does not fit.
    """
    names = [port.name for port in ports]
    missing = [name for name in names if name not in given]
    if missing:
        raise InputError(Code.INPUT_MISSING, f"{model} takes {', '.join(names)}: {', '.join(missing)} is missing.")
    unknown = [name for name in given if name not in names]
    if unknown:
        raise InputError(Code.INPUT_UNKNOWN, f"{model} takes {', '.join(names)}: {unknown[0]!r} is unknown.")
    sizes: dict[str, int] = {}
    arrays = {port.name: _array(port, given[port.name]) for port in ports}
    for port in ports:
        shape = arrays[port.name].shape
        fits = len(shape) == len(port.shape) and all(
            actual == (size if isinstance(size, int) or not size.isidentifier() else sizes.setdefault(size, actual))
            or (isinstance(size, str) and not size.isidentifier())
            for size, actual in zip(port.shape, shape, strict=True)
        )
        if not fits:
            wanted = ", ".join(
                f"{size}={sizes[size]}" if isinstance(size, str) and size in sizes else str(size) for size in port.shape
            )
            raise InputError(Code.INPUT_SHAPE, f"{port.name!r} has the shape {list(shape)}; {model} takes [{wanted}].")
    return arrays


def _array(port: Port, value: Any) -> np.ndarray:
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InputError(Code.INPUT_SHAPE, f"{port.name!r} is not an array: {error}.") from error
    if not np.can_cast(array.dtype, port.dtype, "same_kind"):
        raise InputError(Code.INPUT_DTYPE, f"{port.name!r} is {array.dtype}; it takes {port.dtype}.")
    return np.asarray(array, port.dtype, order="C")
