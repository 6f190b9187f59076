"""as_module: a Program as a torch module whose parameters train."""

from __future__ import annotations

from typing import Any

import torch

from gradport.bridging.function import Bridge
from gradport.compat.torch.modules import get_tensor, set_tensor
from gradport.model.program import Program
from gradport.subject.ports import Role

__all__ = ["RuntimeModule", "as_module"]


def as_module(program: Program) -> torch.nn.Module:
    """A Program as a module: forward and backward run in ONNX Runtime, any torch optimizer trains its parameters.

    Args:
        program: with gradients of parameters (`wrt="parameters"` or "all").

    Returns:
        A module that takes the Program's arguments and targets and returns what `as_function` does. Initializers that
        have a gradient are its parameters, under their names; the others are constants.

    Raises:
        SpecError: the Program has no gradient, or is a training step.
    """
    return RuntimeModule(program)


class RuntimeModule(torch.nn.Module):
    """A Program as a module.

    Attributes:
        input_names: of the arguments and targets, in order.
        output_names: of the outputs, in order.
    """

    def __init__(self, program: Program) -> None:
        super().__init__()
        initializers = program.model.graph.initializers
        trained = [
            spec.of for spec in program.outputs if spec.role is Role.GRADIENT and spec.of in initializers and spec.of
        ]
        for name in trained:
            value = initializers[name].const_value
            assert value is not None
            set_tensor(self, name, torch.nn.Parameter(torch.from_numpy(value.numpy().copy())))
        self._bridge = Bridge(program, trained)
        self.input_names, self.output_names = self._bridge.arguments, self._bridge.outputs

    def forward(self, *args: torch.Tensor, **kwargs: torch.Tensor) -> Any:
        """Runs the Program.

        Raises:
            SpecError: an argument is missing or unknown.
        """
        return self._bridge(args, kwargs, {name: get_tensor(self, name) for name in self._bridge.parameters})

    def extra_repr(self) -> str:
        """The inputs and outputs."""
        return f"{', '.join(self.input_names)} -> {', '.join(self.output_names)}"
