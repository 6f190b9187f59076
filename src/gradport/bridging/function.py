"""as_function: a Program as a differentiable function that runs in ONNX Runtime."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from gradport.bridging.bound import BoundModel
from gradport.bridging.cut import Cut, cut
from gradport.errors import SpecError
from gradport.model.program import Program
from gradport.subject.ports import Role

__all__ = ["Bridge", "as_function"]


def as_function(program: Program) -> Callable[..., Any]:
    """A Program as a torch function: forward and backward run in ONNX Runtime, without a copy of a tensor.

    Args:
        program: with the gradients that are wanted (`wrt` of `export`); with a loss, or with cotangents.

    Returns:
        A function of the Program's arguments and targets, by position or by name. It returns the output, or a tuple of
        the outputs (with a loss: the loss first). Weights are constants; `as_module` trains them. Random inputs are
        drawn anew in each call, from torch's generator.

    Raises:
        SpecError: the Program has no gradient, or is a training step.
    """
    bridge = Bridge(program, ())

    def call(*args: torch.Tensor, **kwargs: torch.Tensor) -> Any:
        return bridge(args, kwargs, {})

    call.__name__ = call.__qualname__ = str(program.provenance.get("subject", "program")).rpartition(".")[2]
    return call


class Bridge:
    """Calls of a Program, cut once for each set of wanted gradients.

    Args:
        program: the Program.
        parameters: names of initializers that are inputs of each call.

    Raises:
        SpecError: the Program has no gradient, or is a training step.
    """

    def __init__(self, program: Program, parameters: Sequence[str]) -> None:
        specs = program.inputs
        if any(spec.role is Role.STATE for spec in specs):
            raise SpecError("The Program is a training step; export_training makes a bundle that a Trainer runs.")
        self.arguments = tuple(spec.name for spec in specs if spec.role in (Role.ARGUMENT, Role.TARGET))
        self.outputs = tuple(spec.name for spec in program.outputs if spec.role is not Role.GRADIENT)
        self.gradients = {spec.of: spec.name for spec in program.outputs if spec.role is Role.GRADIENT}
        self.cotangents = {spec.of: spec.name for spec in specs if spec.role is Role.COTANGENT}
        if not self.gradients:
            raise SpecError("The Program has no gradients: export it with wrt=.")
        self._program = program
        self._shapes = {spec.name: spec.shape for spec in specs}
        self._model = program.model.clone()
        self.parameters = tuple(parameters)
        for name in parameters:
            value = self._model.graph.initializers.pop(name)
            value.const_value = None
            self._model.graph.inputs.append(value)
        self._parts = functools.cache(self._cut)

    def __call__(
        self, args: Sequence[torch.Tensor], kwargs: Mapping[str, torch.Tensor], weights: Mapping[str, torch.Tensor]
    ) -> Any:
        """Runs the forward.

        Raises:
            SpecError: an argument is missing or unknown.
        """
        named = dict(zip(self.arguments, args, strict=False))
        unknown = [name for name in kwargs if name not in self.arguments or name in named]
        named |= kwargs
        missing = [name for name in self.arguments if name not in named]
        if unknown or missing or len(args) > len(self.arguments):
            wrong = f"{unknown[0]!r} is unknown" if unknown else f"{len(args)} were given"
            wrong = f"{missing[0]!r} is missing" if missing else wrong
            raise SpecError(f"The Program takes {', '.join(self.arguments)}; {wrong}.")
        tensors = [*(named[name] for name in self.arguments), *weights.values()]
        results = _Call.apply(self, self._draws(named), *tensors)
        return results[0] if len(results) == 1 else results

    def _draws(self, named: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        if not self._program.random:
            return {}
        sizes = {
            size: int(actual)
            for name, tensor in named.items()
            for size, actual in zip(self._shapes[name], tensor.shape, strict=True)
            if isinstance(size, str)
        }
        seed = int(torch.randint(2**62, ()))
        drawn = self._program.draw(seed, **sizes)
        return {spec.name: tensor for spec, tensor in zip(self._program.random, drawn, strict=True)}

    def parts(self, wanted: frozenset[str]) -> tuple[Cut, BoundModel, BoundModel | None]:
        """The models for a set of arguments and parameters whose gradients are wanted."""
        return self._parts(wanted)

    def _cut(self, wanted: frozenset[str]) -> tuple[Cut, BoundModel, BoundModel | None]:
        gradients = [name for of, name in self.gradients.items() if of in wanted]
        found = cut(self._model, self.outputs, gradients)
        return found, BoundModel(found.forward), None if found.backward is None else BoundModel(found.backward)


class _Call(torch.autograd.Function):
    """One call of a Bridge."""

    @staticmethod
    def forward(ctx: Any, bridge: Bridge, draws: dict[str, torch.Tensor], *tensors: torch.Tensor) -> Any:
        """The outputs; keeps the saved values and the inputs that the backward model reads."""
        names = (*bridge.arguments, *bridge.parameters)
        asked = [name for name, needed in zip(names, ctx.needs_input_grad[2:], strict=True) if needed]
        wanted = frozenset(name for name in asked if name in bridge.gradients)
        found, forward, backward = bridge.parts(wanted)
        feeds = {**dict(zip(names, tensors, strict=True)), **draws}
        results = forward.run(feeds)
        outputs = tuple(results[name] for name in found.outputs)
        kept = {name: {**feeds, **results}[name] for name in found.reads if name in feeds or name in results}
        ctx.bridge, ctx.found, ctx.model, ctx.names, ctx.kept = bridge, found, backward, names, tuple(kept)
        differentiated = [one for one, needed in zip(tensors, ctx.needs_input_grad[2:], strict=True) if needed]
        ctx.save_for_backward(*kept.values(), *differentiated)
        ctx.mark_non_differentiable(*(one for one in outputs if not one.is_floating_point()))
        ctx.set_materialize_grads(True)
        return outputs

    @staticmethod
    def backward(ctx: Any, *cotangents: torch.Tensor) -> Any:  # type: ignore[override]
        """The wanted gradients; with a loss its cotangent is a factor."""
        bridge, found = ctx.bridge, ctx.found
        count = len(ctx.kept)
        feeds = dict(zip(ctx.kept, ctx.saved_tensors[:count], strict=True))
        given = dict(zip(found.outputs, cotangents, strict=True))
        feeds |= {name: given[of] for of, name in bridge.cotangents.items() if name in found.reads}
        results = {} if ctx.model is None else ctx.model.run(feeds)
        factor = None if bridge.cotangents else cotangents[0]
        gradients = []
        for name in ctx.names:
            gradient = results.get(bridge.gradients.get(name, ""))
            gradients.append(gradient if gradient is None or factor is None else gradient * factor)
        if torch.is_grad_enabled():
            anchors = [one for one in (*ctx.saved_tensors[count:], *cotangents) if one.requires_grad]
            gradients = [None if one is None else _FirstDerivative.apply(one, *anchors) for one in gradients]
        return None, None, *gradients


class _FirstDerivative(torch.autograd.Function):
    """The identity of a gradient, which depends on the anchors; its own derivative is refused, not zero."""

    @staticmethod
    def forward(ctx: Any, gradient: torch.Tensor, *anchors: torch.Tensor) -> torch.Tensor:
        """Returns the gradient."""
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, cotangent: torch.Tensor) -> Any:  # type: ignore[override]
        """Refuses."""
        raise SpecError(
            "The Program has no second derivative: its backward is once_differentiable. Export a model whose forward "
            "computes the first derivative with torch.autograd.grad(..., create_graph=True)."
        )
