"""The module of an imported graph: runs its nodes one after the other."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from gradport.compat.torch.modules import get_tensor, set_tensor
from gradport.importing.control_flow import run_if, run_loop, run_scan
from gradport.importing.functions import call_function
from gradport.importing.plan import Plan, Step, Subgraph, identifier
from gradport.importing.quantized import fake_quantize
from gradport.importing.sizes import Sizes, as_tensor, numbers_of, to_tensor
from gradport.importing.table import find_on_sizes
from gradport.importing.training import training_form

__all__ = ["ImportedModule"]

Value = Any
"""A tensor, Sizes, or None."""


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
        self.forward = _with_names(self._run, self.input_names)  # type: ignore[method-assign]

    def _run(self, *inputs: torch.Tensor) -> Any:
        tensors = {name: get_tensor(self, name) for name in self._plan.initializers}
        values: dict[str, Value] = {**tensors, **self._plan.known, **dict(zip(self.input_names, inputs, strict=True))}
        known = {id(sizes): tensors[name] for name, sizes in self._plan.known.items()}
        runner = _Runner(known, derive=self._derive, training=self.training)
        results = [as_tensor(value) for value in runner.run(self._plan.graph, values)]
        return results[0] if len(results) == 1 else dict(zip(self.output_names, results, strict=True))

    def extra_repr(self) -> str:
        """The inputs, the outputs, and in eval mode the layers that stand still."""
        fixed = () if self.training else self.fixed
        return "\n".join([f"{', '.join(self.input_names)} -> {', '.join(self.output_names)}", *fixed])


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


class _Runner:
    """Runs plans.

    Args:
        tensors: the tensor of each initializer whose numbers are known, by the identity of its Sizes.
        derive: differentiate the forward of a custom Function whose backward is not known.
        training: normalize with the statistics of the batch, and drop.
    """

    def __init__(self, tensors: Mapping[int, torch.Tensor], *, derive: bool, training: bool) -> None:
        self._tensors = tensors
        self._derive = derive
        self._training = training

    def run(self, graph: Subgraph, values: dict[str, Value]) -> list[Value]:
        """The outputs of a graph."""
        values |= graph.constants
        for step in graph.steps:
            results = self._results(step, values)
            values |= {name: result for name, result in zip(step.outputs, results, strict=False) if name}
        return [self._tensors.get(id(values[name]), values[name]) for name in graph.outputs]

    def _results(self, step: Step, values: dict[str, Value]) -> Sequence[Value]:
        inputs = [None if name is None else values[name] for name in step.inputs]
        if step.op_type == "Constant":
            return [step.attributes["value"]]
        if step.call is not None:
            return self._call(step, inputs)
        if step.op_type == "If":
            return run_if(self.run, step, inputs[0], values)
        if step.op_type == "Loop":
            return run_loop(self.run, step, inputs, values)
        if step.op_type == "Scan":
            return run_scan(self.run, step, inputs, values)
        return self._operator(step, inputs, values)

    def _operator(self, step: Step, inputs: Sequence[Value], values: dict[str, Value]) -> Sequence[Value]:
        attributes = dict(step.attributes)
        if step.op_type == "Split" and "num_outputs" not in attributes:
            attributes["num_outputs"] = len(step.outputs)
        if not step.domain and inputs and all(one is None or isinstance(one, Sizes) for one in inputs):
            on_sizes = find_on_sizes(step.op_type)
            computed = NotImplemented if on_sizes is None else on_sizes(*inputs, **attributes)
            if computed is not NotImplemented:
                return computed if isinstance(computed, tuple) else [computed]
        row = step.row
        assert row is not None
        arguments = [self._argument(value, at, step) for at, value in enumerate(inputs)]
        trained = training_form(step.op_type) if self._training and not step.domain else None
        result = row.function(*arguments, **attributes) if trained is None else trained(arguments, attributes)
        if step.quantizes is not None:
            places = attributes.get("axis", 1), attributes.get("block_size", 0)
            zero_point = arguments[2] if len(arguments) > 2 else None
            result = fake_quantize(
                as_tensor(values[step.quantizes]), arguments[0], result, arguments[1], zero_point, *places
            )
        return result if isinstance(result, (tuple, list)) else [result]

    def _argument(self, value: Value, at: int, step: Step) -> Value:
        assert step.row is not None
        reads = step.row.reads_sizes
        if at < len(reads) and reads[at]:
            return numbers_of(value) if isinstance(value, torch.Tensor) else value
        if isinstance(value, Sizes):
            known = self._tensors.get(id(value))
            return to_tensor(value) if known is None else known
        return value

    def _call(self, step: Step, inputs: Sequence[Value]) -> Sequence[Value]:
        call = step.call
        assert call is not None
        tensors = [None if one is None else as_tensor(one) for one in inputs]
        return call_function(call, self.run, tensors, derive=self._derive)
