"""Sessions of ONNX Runtime, and the conversion of their tensors."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import onnx_ir as ir
import torch

from gradport.compat.onnxruntime import tensor_by_dlpack
from gradport.errors import ProgramError, first_line

if TYPE_CHECKING:
    import onnxruntime

__all__ = [
    "PROTOBUF_LIMIT",
    "from_ort_value",
    "new_session",
    "open_session",
    "run_session",
    "session_options",
    "to_ort_value",
    "weight",
]

Provider = tuple[str, Mapping[str, str]]
"""An execution provider with its options."""

PROTOBUF_LIMIT = (1 << 31) - (1 << 20)
"""Maximum size of the weights in one protobuf message, with some room for the rest."""


def new_session(
    model: ir.Model, options: Any = None, providers: Sequence[str | Provider] = ("CPUExecutionProvider",)
) -> onnxruntime.InferenceSession:
    """A session of ONNX Runtime.

    Args:
        model: the model to run; models above protobuf's limit go through a file.
        options: `onnxruntime.SessionOptions`, or None for those of `session_options`.
        providers: execution providers in order, each a name, or a name with its options.

    Raises:
        ProgramError: ONNX Runtime rejects the model.
    """
    with _serialise(model) as source:
        return open_session(source, options, providers)


def open_session(
    source: str | bytes, options: Any = None, providers: Sequence[str | Provider] = ("CPUExecutionProvider",)
) -> onnxruntime.InferenceSession:
    """A session of ONNX Runtime for a file or the bytes of one; otherwise as `new_session`."""
    import onnxruntime

    options = session_options() if options is None else options
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(source, options, providers=list(providers))
    except Exception as error:
        raise ProgramError(f"ONNX Runtime rejects this model: {first_line(error, 400)}") from error


def session_options(level: str = "ORT_ENABLE_ALL") -> onnxruntime.SessionOptions:
    """Options with torch's number of threads, and a level of graph optimization by its name in ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # torch and other sessions need the cores as soon as a run ends
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    return options


def run_session(session: onnxruntime.InferenceSession, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Runs a session; returns its outputs by name, in order.

    Raises:
        ProgramError: the session fails, or an output is not a tensor.
    """
    names = [value.name for value in session.get_outputs()]
    feeds = {name: to_ort_value(tensor) for name, tensor in tensors.items()}
    try:
        results = session.run_with_ort_values(names, feeds)
        return {name: from_ort_value(result) for name, result in zip(names, results, strict=True)}
    except Exception as error:
        raise ProgramError(f"ONNX Runtime fails on this model: {first_line(error, 400)}") from error


def weight(model: ir.Model) -> int:
    """The size of all initializers in bytes."""
    return sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value is not None)


@contextlib.contextmanager
def _serialise(model: ir.Model) -> Any:
    if weight(model) < PROTOBUF_LIMIT // 2:
        yield ir.to_proto(model).SerializeToString()
        return
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "model.onnx")
        ir.save(model, file, external_data="model.onnx.data")
        yield file


def to_ort_value(tensor: torch.Tensor) -> onnxruntime.OrtValue:
    """An OrtValue with a copy of the data, for every dtype of ONNX."""
    import onnxruntime

    tensor = tensor.detach().cpu().contiguous()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor).contiguous()
    if tensor.dtype == torch.bfloat16:
        return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(
            tensor.view(torch.uint16).numpy(), ir.DataType.BFLOAT16.value
        )
    return onnxruntime.OrtValue.ortvalue_from_numpy(tensor.numpy())


def from_ort_value(value: onnxruntime.OrtValue) -> torch.Tensor:
    """A torch tensor with the data of an OrtValue."""
    if value.element_type() == ir.DataType.BFLOAT16.value:
        return tensor_by_dlpack(value)
    return torch.from_numpy(value.numpy().copy())
