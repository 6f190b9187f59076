"""One model of a bundle in ONNX Runtime: a session made on first use, with inputs and outputs bound to memory.

Settings were measured: memory patterns keep a second set of buffers, so they are off; the arena is on where a graph has
many temporaries and off where outputs lie on memory that is bound.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime as ort

from gradport_runtime.bundle import Model
from gradport_runtime.errors import Code, TrainingError
from gradport_runtime.frozen import FrozenWeights

__all__ = ["Engine", "Options", "share"]


def share(array: np.ndarray) -> ort.OrtValue:
    """An OrtValue on the memory of an array, which must be kept."""
    return ort.OrtValue.ortvalue_from_numpy(array)


@dataclasses.dataclass(frozen=True)
class Options:
    """How models run.

    Attributes:
        threads: of one operator; None: one for each core, bound to it (ONNX Runtime's choice). A number of threads is
            not bound to cores: a short step can take twice as long with it.
        providers: ONNX Runtime's execution providers.
    """

    threads: int | None
    providers: tuple[Any, ...]


class Engine:
    """Runs one model.

    Args:
        model: of the bundle.
        options: how it runs.
        arena: whether temporaries come from ONNX Runtime's arena.
        bound: memory that inputs and outputs lie on in every run, by name.
        frozen: gives the initializers that it shares with other models.
    """

    def __init__(
        self,
        model: Model,
        options: Options,
        *,
        arena: bool,
        bound: Mapping[str, ort.OrtValue],
        frozen: FrozenWeights,
    ) -> None:
        self.model = model
        self._frozen = frozen
        self._threads = options.threads
        self._providers = list(options.providers)
        self._arena = arena
        # outputs of a known shape have memory of their own: fetching OrtValues costs more than a small step
        self._fixed = {
            port.name: np.zeros([int(size) for size in port.shape], port.dtype)
            for port in model.outputs
            if port.name not in bound and all(isinstance(size, int) for size in port.shape)
        }
        self._bound = {**bound, **{name: share(array) for name, array in self._fixed.items()}}
        self._free = [port.name for port in model.outputs if port.name not in self._bound]
        self._session: ort.InferenceSession | None = None
        self._binding: Any = None

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs the model on the bound memory and these inputs; gives the outputs that `bound` does not name.

        Raises:
            TrainingError: ONNX Runtime fails.
        """
        try:
            session, binding = self._open()
            for name, array in inputs.items():
                binding.bind_cpu_input(name, array)
            for name in self._free:
                binding.bind_output(name)
            session.run_with_iobinding(binding)
            results = {name: array.copy() for name, array in self._fixed.items()}
            if self._free:
                values = dict(zip(self._names, binding.get_outputs(), strict=True))
                results |= {name: values[name].numpy() for name in self._free}
            return results
        except RuntimeError as error:  # ONNX Runtime's errors
            raise TrainingError(Code.RUNTIME, f"{self.model.path}: ONNX Runtime fails: {_first_line(error)}") from error

    def _open(self) -> tuple[ort.InferenceSession, Any]:
        if self._session is None:
            session = ort.InferenceSession(self.model.path, self._options(), providers=self._providers)
            binding = session.io_binding()
            self._names = [port.name for port in self.model.outputs]
            for port in self.model.inputs:
                if port.name in self._bound:
                    binding.bind_ortvalue_input(port.name, self._bound[port.name])
            for name in self._names:  # in the model's order, which `get_outputs` has
                if name in self._bound:
                    binding.bind_ortvalue_output(name, self._bound[name])
                else:
                    binding.bind_output(name)
            self._session, self._binding = session, binding
        return self._session, self._binding

    def _options(self) -> ort.SessionOptions:
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.enable_mem_pattern = False
        options.enable_cpu_mem_arena = self._arena
        options.intra_op_num_threads = self._threads or 0
        for name, value in self._frozen.initializers(self.model).items():
            options.add_initializer(name, value)
        options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")  # float32 activations
        # a step runs several sessions: without this, the threads of one spin on the cores that the next one needs
        options.add_session_config_entry("session.force_spinning_stop", "1")
        return options


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
