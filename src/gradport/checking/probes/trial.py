"""Trial: a Subject in float64 with the inputs that every rule uses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch

from gradport.compat.quiet import quiet
from gradport.eager.inputs import draw_inputs, draw_inputs_within, move_state
from gradport.eager.joint import CallResults, Joint, Slot, cast, copies
from gradport.eager.randomness import seed_generators
from gradport.eager.run import Cotangent, cotangents_from, ones, rejection, run_eager
from gradport.errors import Error
from gradport.isolation.effort import Effort, Profile
from gradport.subject.signature import place_of_gradient

__all__ = ["Trial"]

T = TypeVar("T")

LOSS = "loss"
"""The name of the loss among the outputs of a Trial."""


_LARGE = 100_000
"""Number of elements of an argument above which only one random input is used beside the example."""


class Trial:
    """A Subject, its float64 inputs, and calls with fixed random numbers.

    Args:
        joint: the Subject with the gradients to check.
        seed: of the inputs and of torch's generator before each call.
        effort: determines how many inputs and elements are checked.
        moved: number of random inputs beside the example; None: determined by the effort.
    """

    def __init__(
        self,
        joint: Joint,
        *,
        seed: int = 0,
        effort: Effort = Effort(),  # noqa: B008
        moved: int | None = None,
    ) -> None:
        self.joint = joint
        self.seed = seed
        self.effort = effort
        self.elements = effort.count(12, 32, 256)
        self._forward = Joint(joint.subject.replace(wrt=None))
        self._known: dict[str, Any] = {}
        generator = torch.Generator().manual_seed(seed)
        large = any(tensor.numel() > _LARGE for tensor in joint.examples().values())
        count = effort.count(1, 1 if large else 2, 7) if moved is None else moved
        drawn = [self._draw_inputs(generator) for _ in range(count)]
        self.inputs = [cast(copies(joint.examples()), torch.float64), *drawn]
        self.generator = generator

    def at(self, tensors: Mapping[Slot, torch.Tensor]) -> Trial:
        """A Trial of the same subject with these arguments and targets as its only input.

        Raises:
            TargetError: the subject rejects them.
        """
        trial = Trial(self.joint.at(tensors), seed=self.seed, moved=0)
        trial.elements = 12
        trial.seeded_outputs(trial.inputs[0])
        return trial

    def _draw_inputs(self, generator: torch.Generator) -> dict[Slot, torch.Tensor]:
        """Random arguments, targets, parameters and buffers in float64. If the subject rejects them: values within
        the range of the example, and unchanged parameters."""
        moved = (
            draw_inputs(self.joint, {}, {}, generator) | move_state(self.joint, generator) | self._declared_numbers()
        )
        wide = cast(copies(moved), torch.float64)
        try:
            self.outputs(wide)
        except Error:
            within = draw_inputs_within(self.joint, {}, {}, generator) | self._declared_numbers()
            return cast(copies(within), torch.float64)
        return wide

    def _declared_numbers(self) -> dict[Slot, torch.Tensor]:
        """Tensors of one element without a wanted gradient, if `expect` is set: such a number may be the declared
        scale, so it keeps its value."""
        if self.joint.subject.expect is None:
            return {}
        examples = self.joint.examples()
        return {s: t for s, t in examples.items() if t.numel() == 1 and s not in self.joint.wanted}

    @property
    def thorough(self) -> bool:
        """Whether the thorough profile was asked for."""
        return self.effort.profile is Profile.THOROUGH

    def measure_once(self, name: str, measure: Callable[[], T]) -> T:
        """The result of `measure`, computed once and shared by all rules."""
        if name not in self._known:
            self._known[name] = measure()
        known: T = self._known[name]
        return known

    def outputs(self, tensors: Mapping[Slot, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The differentiable results of the forward only: the loss if there is one, else the outputs.

        Raises:
            TargetError: the subject rejects these inputs.
        """
        return self.results_of(self._call(self._forward, tensors, {}))

    def results_of(self, results: CallResults) -> dict[str, torch.Tensor]:
        """The loss if there is one, else the floating-point outputs."""
        if results.loss is not None:
            return {LOSS: results.loss.detach()}
        return {name: value.detach() for name, value in results.outputs.items() if value.is_floating_point()}

    def gradients(
        self, tensors: Mapping[Slot, torch.Tensor], cotangents: Mapping[str, torch.Tensor]
    ) -> dict[Slot, torch.Tensor | None]:
        """The gradients from the author's backward.

        Raises:
            TargetError: the subject rejects these inputs, or its backward fails.
        """
        return self._call(self.joint, tensors, cotangents).gradients

    def seeded_outputs(self, tensors: Mapping[Slot, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The outputs that take a cotangent, with their values.

        Raises:
            TargetError: the subject rejects these inputs, or its backward fails.
        """
        seen: dict[str, torch.Tensor] = {}

        def zeros(name: str, output: torch.Tensor) -> torch.Tensor:
            seen[name] = output.detach()
            return torch.zeros_like(output)

        self._seeded_call(self.joint, tensors, zeros)
        return seen

    def run_guarded(
        self, tensors: Mapping[Slot, torch.Tensor], body: Callable[[], T], what: str = "rejects its inputs"
    ) -> T:
        """Runs the subject's code with fixed random numbers; `what` describes the failure if it raises.

        Raises:
            TargetError: the code raised; the message has the reason and the line.
        """
        with seed_generators(self.seed):
            try:
                with quiet():
                    return body()
            except Error:
                raise
            except Exception as error:
                raise rejection(self.joint, tensors, error, what) from error

    @property
    def is_random(self) -> bool:
        """Whether another seed gives other results."""

        def measure() -> bool:
            first, second = (self._results_with_seed(seed) for seed in (self.seed, self.seed + 1))
            return any(not torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(first, second, strict=True))

        return self.measure_once("is random", measure)

    def _results_with_seed(self, seed: int) -> list[torch.Tensor]:
        with seed_generators(seed):
            results = run_eager(self.joint, self.inputs[0], ones)
        tensors = [*self.results_of(results).values(), *results.gradients.values()]
        return [tensor.detach() for tensor in tensors if tensor is not None]

    def where(self) -> str | None:
        """The source line of the backward."""
        return place_of_gradient(self.joint.subject.target)

    def _call(
        self, joint: Joint, tensors: Mapping[Slot, torch.Tensor], cotangents: Mapping[str, torch.Tensor]
    ) -> CallResults:
        return self._seeded_call(joint, tensors, cotangents_from(cotangents))

    def _seeded_call(self, joint: Joint, tensors: Mapping[Slot, torch.Tensor], cotangent: Cotangent) -> CallResults:
        with seed_generators(self.seed):
            return run_eager(joint, tensors, cotangent)
