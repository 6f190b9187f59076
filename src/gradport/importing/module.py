"""The module of an imported graph, and those of the functions that its nodes call."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch

from gradport.compat.torch.modules import get_tensor, set_tensor
from gradport.importing.plan import LocalFunction, Plan, Subgraph, identifier
from gradport.importing.runner import Runner, Value
from gradport.importing.sizes import as_tensor

__all__ = ["ImportedFunction", "ImportedModule"]


class ImportedModule(torch.nn.Module):
    """An ONNX graph as a torch module.

    Attributes:
        input_names: of the graph, in order; `forward` takes them by position, or by keyword where they are identifiers.
        output_names: of the graph, in order.
        fixed: layers that the exporter wrote for inference, each with what it does; `train()` makes them train.
    """

    def __init__(self, plan: Plan, trained: set[str], *, derive: bool) -> None:
        super().__init__()
        self._plan = plan
        self._derive = derive
        self.input_names, self.output_names, self.fixed = plan.graph.inputs, plan.graph.outputs, plan.fixed
        for name, tensor in plan.initializers.items():
            if name in plan.parameters:
                tensor = torch.nn.Parameter(tensor, requires_grad=name in trained)
            set_tensor(self, name, tensor)
        self._functions = _add_functions(self, plan.graph, derive=derive)
        self.forward = _with_names(self._run, self.input_names)  # type: ignore[method-assign]

    def _run(self, *inputs: torch.Tensor) -> Any:
        tensors = {name: get_tensor(self, name) for name in self._plan.initializers}
        values: dict[str, Value] = {**tensors, **self._plan.known, **dict(zip(self.input_names, inputs, strict=True))}
        known = {id(sizes): tensors[name] for name, sizes in self._plan.known.items()}
        functions = {name: getattr(self, attribute) for name, attribute in self._functions.items()}
        runner = Runner(known, derive=self._derive, training=self.training, functions=functions)
        results = [as_tensor(value) for value in runner.run(self._plan.graph, values)]
        return results[0] if len(results) == 1 else dict(zip(self.output_names, results, strict=True))

    def extra_repr(self) -> str:
        """The inputs, the outputs, and in eval mode the layers that stand still."""
        fixed = () if self.training else self.fixed
        return "\n".join([f"{', '.join(self.input_names)} -> {', '.join(self.output_names)}", *fixed])


class ImportedFunction(torch.nn.Module):
    """One call of a function of the file as a submodule. `forward` takes the inputs of the call in their order, and
    returns its outputs as a list."""

    def __init__(self, function: LocalFunction, *, derive: bool) -> None:
        super().__init__()
        self._function = function
        self._derive = derive
        self._functions = _add_functions(self, function.body, derive=derive)

    def forward(self, *inputs: Value) -> list[Value]:
        """The outputs."""
        functions = {name: getattr(self, attribute) for name, attribute in self._functions.items()}
        runner = Runner({}, derive=self._derive, training=self.training, functions=functions)
        body = self._function.body
        absent = [None] * (len(body.inputs) - len(inputs))  # a call may leave out the last inputs
        return runner.run(body, dict(zip(body.inputs, (*inputs, *absent), strict=True)))

    def extra_repr(self) -> str:
        """The function's domain and name."""
        return self._function.label


def _add_functions(module: torch.nn.Module, graph: Subgraph, *, derive: bool) -> dict[str, str]:
    """Adds a submodule for each call of a function; gives their names in the module by those in the plan."""
    names = {}
    for step in graph.own_steps():
        if step.function is not None:
            name = step.function.attribute
            while hasattr(module, name):
                name += "_"
            module.add_module(name, ImportedFunction(step.function, derive=derive))
            names[step.function.attribute] = name
    return names


def _with_names(run: Any, names: Sequence[str]) -> Any:
    """`run` with the parameters of the graph's inputs."""
    chosen: list[str] = []
    for name in names:
        own = identifier(name)
        while own in chosen:
            own += "_"
        chosen.append(own)
    signature = inspect.Signature([inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in chosen])

    def forward(*args: Any, **kwargs: Any) -> Any:
        return run(*signature.bind(*args, **kwargs).args)

    forward.__signature__ = signature  # type: ignore[attr-defined]
    return forward
