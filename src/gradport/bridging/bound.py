"""A model in ONNX Runtime whose inputs and outputs are torch tensors without a copy."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir
import torch

from gradport.compat.onnxruntime import tensor_by_dlpack
from gradport.errors import ProgramError, first_line
from gradport.model.sessions import from_ort_value, new_session, to_ort_value

__all__ = ["BoundModel"]


class BoundModel:
    """Runs one model; its session is made at the first run, with torch's number of threads.

    An input that is not contiguous is copied; nothing else is.
    """

    def __init__(self, model: ir.Model) -> None:
        self.inputs = tuple(value.name or "" for value in model.graph.inputs)
        self.outputs = tuple(value.name or "" for value in model.graph.outputs)
        self._model = model
        self._session: object = None

    def run(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The outputs by name.

        Raises:
            ProgramError: ONNX Runtime rejects the model or the inputs.
        """
        if self._session is None:
            self._session = new_session(self._model)
        feeds = {name: to_ort_value(tensors[name]) for name in self.inputs}
        try:
            results = self._session.run_with_ort_values(list(self.outputs), feeds)  # type: ignore[attr-defined]
        except Exception as error:
            raise ProgramError(f"ONNX Runtime fails on this model: {first_line(error, 400)}") from error
        return {name: _as_tensor(value) for name, value in zip(self.outputs, results, strict=True)}


def _as_tensor(value: object) -> torch.Tensor:
    """A tensor over the memory of a value; bool has no form in DLPack and is copied."""
    kind = value.element_type()  # type: ignore[attr-defined]
    return from_ort_value(value) if kind == ir.DataType.BOOL.value else tensor_by_dlpack(value)  # type: ignore[arg-type]
