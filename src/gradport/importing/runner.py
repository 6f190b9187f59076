"""Runs the nodes of a plan one after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from gradport.importing.control_flow import run_if, run_loop, run_scan
from gradport.importing.functions import call_function
from gradport.importing.plan import Step, Subgraph
from gradport.importing.quantized import fake_quantize
from gradport.importing.sizes import Sizes, as_tensor, numbers_of, to_tensor
from gradport.importing.table import find_on_sizes
from gradport.importing.training import training_form

__all__ = ["Runner"]

Value = Any
"""A tensor, Sizes, or None."""


class Runner:
    """Runs plans.

    Args:
        tensors: the tensor of each initializer whose numbers are known, by the identity of its Sizes.
        derive: differentiate the forward of a custom Function whose backward is not known.
        training: normalize with the statistics of the batch, and drop.
        functions: the submodule of each call of a function of the file, by `LocalFunction.attribute`.
    """

    def __init__(
        self,
        tensors: Mapping[int, torch.Tensor],
        *,
        derive: bool,
        training: bool,
        functions: Mapping[str, Callable[..., Sequence[Value]]],
    ) -> None:
        self._tensors = tensors
        self._functions = functions
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
        if step.function is not None:
            return self._functions[step.function.attribute](*inputs)
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
