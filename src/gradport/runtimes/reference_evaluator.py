"""`onnx.reference.ReferenceEvaluator` as a runtime: slow, but it follows the definitions of the operators."""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from gradport.compat.quiet import quiet
from gradport.errors import ProgramError, first_line
from gradport.isolation.limit import TimeUp, limit_time
from gradport.model.program import Program, require_fitting

__all__ = ["evaluator"]

_LIMIT = 10.0
"""Time limit of a run in seconds; the evaluator is slow, for example at convolutions."""

Runner = Callable[[Mapping[str, torch.Tensor]], dict[str, torch.Tensor]]


def evaluator(program: Program) -> Runner:
    """A runner of a model.

    Raises:
        ProgramError: the evaluator rejects the model.
    """
    from onnx.reference import ReferenceEvaluator

    overloaded = [function.name for function in program.model.functions.values() if function.overload]
    if overloaded:
        raise ProgramError(f"The reference evaluator ignores overloads, and {overloaded[0]!r} has several.")
    try:
        session = ReferenceEvaluator(ir.to_proto(program.model), new_ops=_patched_operators())
    except Exception as error:
        raise ProgramError(f"The reference evaluator rejects this model: {first_line(error)}") from error
    specs = program.inputs
    wanted = {spec.name: spec.dtype for spec in program.outputs}

    def run(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        given = tuple(spec for spec in specs if spec.name in tensors)
        require_fitting(given, tensors)
        feeds = {name: to_numpy(tensor) for name, tensor in tensors.items()}
        try:
            with quiet(), np.errstate(all="ignore"), contextlib.redirect_stdout(io.StringIO()), limit_time(_LIMIT):
                results = session.run(None, feeds)
        except TimeUp:
            raise ProgramError(f"The reference evaluator takes more than {_LIMIT:g} s for one run.") from None
        except Exception as error:
            raise ProgramError(f"The reference evaluator fails on this model: {first_line(error)}") from error
        return {
            name: to_torch(result, wanted[name])
            for name, result in zip(session.output_names, results, strict=True)  # type: ignore[arg-type]
        }

    return run


@functools.cache
def _patched_operators() -> list[Any]:
    """Replacements for operators of the evaluator that hang or fail: its GatherElements moves an index far out of range
    back in steps of the axis size, and accepts at most 64 rows."""
    from onnx.reference.op_run import OpRun

    class GatherElements(OpRun):  # type: ignore[misc]
        """https://onnx.ai/onnx/operators/onnx__GatherElements.html"""

        op_domain = ""

        def _run(self, data: Any, indices: Any, axis: int | None = None) -> Any:
            axis, size = axis or 0, data.shape[axis or 0]
            if indices.size and (indices.min() < -size or indices.max() >= size):
                raise IndexError(f"GatherElements: an index is out of the range of an axis of {size} elements")
            cut = tuple(slice(None) if a == axis % data.ndim else slice(s) for a, s in enumerate(indices.shape))
            return (np.take_along_axis(data[cut], indices % max(size, 1), axis),)

    return [GatherElements]


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """A tensor as an array for the evaluator; complex numbers are pairs, bfloat16 is the type of ml_dtypes."""
    tensor = tensor.detach().cpu().contiguous()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor).contiguous()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.uint16).numpy().view(ir.DataType.BFLOAT16.numpy())
    return tensor.numpy()


def to_torch(result: Any, dtype: torch.dtype) -> torch.Tensor:
    """An array as a tensor; a wrong dtype is kept, and found by the comparison.

    Raises:
        ProgramError: the result is not a tensor.
    """
    if result is None or isinstance(result, (list, dict)):
        raise ProgramError(f"The reference evaluator returned {type(result).__name__} instead of a tensor.")
    array = np.asarray(result)
    array = np.ascontiguousarray(array).reshape(array.shape)  # a 0-d array stays one
    if dtype == torch.bfloat16 and array.dtype.itemsize == 2:
        return torch.from_numpy(array.view(np.uint16).copy()).view(torch.bfloat16)
    return torch.from_numpy(array.copy())
