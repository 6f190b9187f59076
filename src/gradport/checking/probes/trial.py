"""Trial: a Subject made ready to be examined in float64, with the inputs that every rule looks at."""

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
"""Elements of an argument above which one input beside the example has to do."""


class Trial:
    """A Subject, its float64 inputs, and calls of it that always see the same random numbers.

    Args:
        joint: the Subject with the gradients that are examined.
        seed: of the inputs and of torch's generator before each call.
        effort: how many inputs and elements are looked at.
        moved: how many inputs there are beside the example; None: as the effort says.
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
        drawn = [self._drawn(generator) for _ in range(count)]
        self.inputs = [cast(copies(joint.examples()), torch.float64), *drawn]
        self.generator = generator

    def at(self, tensors: Mapping[Slot, torch.Tensor]) -> Trial:
        """The same subject with these arguments and targets as its one input.

        Raises:
            TargetError: the subject rejects them.
        """
        made = Trial(self.joint.at(tensors), seed=self.seed, moved=0)
        made.elements = 12
        made.seeded_outputs(made.inputs[0])
        return made

    def _drawn(self, generator: torch.Generator) -> dict[Slot, torch.Tensor]:
        """Moved arguments, targets, parameters and buffers in float64; values that the example shows, and the
        parameters as they are, where the subject rejects those."""
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
        """Lone numbers without a wanted gradient, where one is declared: such a number may be the factor of a scale."""
        if self.joint.subject.expect is None:
            return {}
        examples = self.joint.examples()
        return {s: t for s, t in examples.items() if t.numel() == 1 and s not in self.joint.wanted}

    @property
    def thorough(self) -> bool:
        """Whether the thorough profile was asked for."""
        return self.effort.profile is Profile.THOROUGH

    def once(self, name: str, measure: Callable[[], T]) -> T:
        """What `measure` gives, measured once for all rules that ask for it."""
        if name not in self._known:
            self._known[name] = measure()
        known: T = self._known[name]
        return known

    def outputs(self, tensors: Mapping[Slot, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The differentiable results of the forward alone: the loss where there is one, else the outputs.

        Raises:
            TargetError: the subject rejects these inputs.
        """
        return self.results_of(self._call(self._forward, tensors, {}))

    def results_of(self, results: CallResults) -> dict[str, torch.Tensor]:
        """The loss where there is one, else the floating-point outputs."""
        if results.loss is not None:
            return {LOSS: results.loss.detach()}
        return {name: value.detach() for name, value in results.outputs.items() if value.is_floating_point()}

    def gradients(
        self, tensors: Mapping[Slot, torch.Tensor], cotangents: Mapping[str, torch.Tensor]
    ) -> dict[Slot, torch.Tensor | None]:
        """What the author's backward gives.

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

    def guarded(
        self, tensors: Mapping[Slot, torch.Tensor], body: Callable[[], T], what: str = "rejects its inputs"
    ) -> T:
        """Runs the subject's code, with the same random numbers every time; `what` says what it does when it raises.

        Raises:
            TargetError: it raised; the message carries its reason and its line.
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

        return self.once("is random", measure)

    def _results_with_seed(self, seed: int) -> list[torch.Tensor]:
        with seed_generators(seed):
            results = run_eager(self.joint, self.inputs[0], ones)
        found = [*self.results_of(results).values(), *results.gradients.values()]
        return [tensor.detach() for tensor in found if tensor is not None]

    def where(self) -> str | None:
        """The line that a Finding about the backward is about."""
        return place_of_gradient(self.joint.subject.target)

    def _call(
        self, joint: Joint, tensors: Mapping[Slot, torch.Tensor], cotangents: Mapping[str, torch.Tensor]
    ) -> CallResults:
        return self._seeded_call(joint, tensors, cotangents_from(cotangents))

    def _seeded_call(self, joint: Joint, tensors: Mapping[Slot, torch.Tensor], cotangent: Cotangent) -> CallResults:
        with seed_generators(self.seed):
            return run_eager(joint, tensors, cotangent)
