"""One set of inputs and eager torch's answer to it, the reference for a Program."""

from __future__ import annotations

import dataclasses
import enum
import functools
from collections.abc import Callable, Mapping

import onnx_ir as ir
import torch

from gradport.eager.joint import Joint, Slot, cast
from gradport.eager.randomness import Randomness, draw_by, draw_from
from gradport.eager.run import Cotangent, DrawnCotangents, cotangents_from, ones, run_eager
from gradport.errors import Error, TargetError
from gradport.evidence.distance import magnitude
from gradport.evidence.tolerance import Comparison, compare
from gradport.model.interface import interface
from gradport.model.program import Program
from gradport.subject.ports import Role
from gradport.subject.wrt import differentiable

__all__ = [
    "InputKind",
    "InputSet",
    "Reference",
    "ambient_of",
    "answer_case",
    "compare_results",
    "grain_of",
    "is_not_repeatable",
    "move_by_ulps",
    "reference",
]

_MOVES = 6
"""Number of runs of eager that measure its spread."""

_ULPS = 8.0
"""How far their inputs move, in ULPs: about the effect of other kernels in a deep network."""

_HALVES = {
    ir.DataType.FLOAT16: torch.finfo(torch.float16).eps,
    ir.DataType.BFLOAT16: torch.finfo(torch.bfloat16).eps,
}


class InputKind(enum.StrEnum):
    """The kind of a set of inputs."""

    PLAIN = "plain"
    EDGE = "edge"
    TIES = "ties"


@dataclasses.dataclass(frozen=True)
class InputSet:
    """One set of inputs.

    Attributes:
        what: a description.
        tensors: the tensors by slot.
        kind: plain, with edge values (nan, infinities), or with many equal elements, whose order torch does not define.
        is_example: whether it is the Subject's own example, which eager must accept.
        overflows: whether it contains the largest number of its dtype, which makes a tolerance meaningless.
        seed: of its cotangents and random numbers.
        otherwise: the inputs to try if eager rejects these, or None.
        cotangent: a function applied to each drawn cotangent.
    """

    what: str
    tensors: dict[Slot, torch.Tensor]
    kind: InputKind = InputKind.PLAIN
    is_example: bool = False
    overflows: bool = False
    seed: int = 0
    otherwise: Callable[[], dict[Slot, torch.Tensor]] | None = None
    cotangent: Callable[[torch.Tensor], torch.Tensor] = lambda drawn: drawn

    @classmethod
    def example(cls, joint: Joint) -> InputSet:
        """The Subject's own inputs."""
        return cls("the example", joint.examples(), is_example=True)

    @property
    def edge(self) -> bool:
        """Whether it has edge values or ties, where float64 may take another branch."""
        return self.kind is not InputKind.PLAIN


@dataclasses.dataclass(frozen=True)
class _Again:
    """The cotangents and random numbers of a call, to repeat the call."""

    cotangent: Cotangent
    random: Callable[[], Randomness]


@dataclasses.dataclass(frozen=True)
class Reference:
    """Eager's answer to one case, under the Subject's default names and in graph order.

    Attributes:
        feeds: the graph's inputs.
        expected: the expected outputs of the graph.
        roles: role of each output.
        input_roles: role of each input.
        narrowest: the narrowest floating-point dtype of the inputs, or None without one.
        oracle: computes the float64 values; None if the subject does not run in float64.
        spread: computes the change of each value if all inputs move by a few ULPs.
        again: the cotangents and random numbers, to repeat the call.
        new_state: the new state of a training step.
    """

    feeds: dict[str, torch.Tensor]
    expected: dict[str, torch.Tensor]
    roles: dict[str, Role]
    input_roles: dict[str, Role]
    narrowest: torch.dtype | None
    oracle: Callable[[], dict[str, torch.Tensor] | None]
    spread: Callable[[], dict[str, torch.Tensor]]
    again: _Again
    new_state: dict[Slot, torch.Tensor]


def reference(
    joint: Joint,
    tensors: Mapping[Slot, torch.Tensor],
    generator: torch.Generator,
    random: Callable[[], Randomness] | None = None,
    grain: float = 0.0,
    cotangent: Callable[[torch.Tensor], torch.Tensor] = lambda drawn: drawn,
) -> Reference:
    """Runs eager with new random cotangents, and new random numbers unless `random` provides them.

    Args:
        joint: the Joint to run.
        tensors: a tensor for every slot.
        generator: of cotangents and random numbers.
        random: the source of eager's random numbers; None: the generator.
        grain: the result of `grain_of`.
        cotangent: a function applied to each drawn cotangent.

    Raises:
        TargetError: eager rejects these inputs.
    """
    drawn = DrawnCotangents(generator, cotangent)
    outcome = run_eager(joint, tensors, drawn, random or draw_by(generator))
    again = _Again(cotangents_from(drawn.cotangents), random or draw_from(outcome.random))
    listed = interface(joint, tensors, drawn.cotangents, outcome)
    dtypes = [tensor.dtype.to_real() for tensor in tensors.values() if differentiable(tensor)]
    narrowest = max(dtypes, key=lambda dtype: torch.finfo(dtype).eps, default=None)
    oracle = functools.cache(lambda: _oracle(joint, tensors, drawn.cotangents, again))
    spread = functools.cache(lambda: _measure_spread(joint, tensors, drawn.cotangents, again, listed.outputs, grain))
    new_state = {slot: tensor.detach() for slot, tensor in outcome.new_state.items()}
    return Reference(
        listed.inputs, listed.outputs, listed.roles, listed.input_roles, narrowest, oracle, spread, again, new_state
    )


def answer_case(case: InputSet, ask: Callable[[InputSet], Reference]) -> tuple[InputSet, Reference] | None:
    """The case and eager's answer. If eager rejects the inputs, the alternative inputs are tried; None if eager rejects
    these too.

    Raises:
        TargetError: eager rejects the example.
    """
    try:
        return case, ask(case)
    except TargetError:
        if case.is_example:
            raise
        if case.otherwise is None:
            return None
    return answer_case(dataclasses.replace(case, tensors={**case.tensors, **case.otherwise()}, otherwise=None), ask)


def compare_results(
    answer: Reference,
    results: Mapping[str, torch.Tensor],
    *,
    rtol: float | None = None,
    atol: float | None = None,
) -> dict[str, Comparison]:
    """Compares every result with eager, by name."""

    def one(name: str) -> Callable[[], torch.Tensor | None]:
        return lambda: (answer.oracle() or {}).get(name)

    def usual(name: str) -> Callable[[], torch.Tensor | None]:
        return lambda: answer.spread().get(name)

    ambient = ambient_of(answer)
    return {
        name: compare(
            results[name],
            expected,
            one(name),
            spread=usual(name),
            narrowest=answer.narrowest,
            ambient=ambient,
            squares=answer.roles[name] == Role.NEW_STATE,
            rtol=rtol,
            atol=atol,
        )
        for name, expected in answer.expected.items()
    }


def ambient_of(answer: Reference) -> float:
    """The largest magnitude among all results of a call."""
    floating = [t for t in answer.expected.values() if t.is_floating_point() and t.numel()]
    return max((magnitude(t) for t in floating), default=0.0)


def grain_of(program: Program) -> float:
    """The relative step of a 16-bit dtype that the graph uses internally but not in its inputs and outputs, as autocast
    does; else 0."""
    graph = program.model.graph
    outer = {value.dtype for value in (*graph.inputs, *graph.outputs)}
    inner = {value.dtype for node in graph for value in node.outputs}
    return max((step for dtype, step in _HALVES.items() if dtype in inner and dtype not in outer), default=0.0)


def _oracle(
    joint: Joint, tensors: Mapping[Slot, torch.Tensor], cotangents: Mapping[str, torch.Tensor], again: _Again
) -> dict[str, torch.Tensor] | None:
    """The results of the same call in float64; None if the subject does not run in float64."""
    wide = cast(tensors, torch.float64)
    try:
        return interface(joint, wide, cotangents, run_eager(joint, wide, again.cotangent, again.random)).outputs
    except Error:
        return None


def _measure_spread(
    joint: Joint,
    tensors: Mapping[Slot, torch.Tensor],
    cotangents: Mapping[str, torch.Tensor],
    again: _Again,
    expected: Mapping[str, torch.Tensor],
    grain: float,
) -> dict[str, torch.Tensor]:
    """The largest change of each result over a few runs in which every element moves by up to a few ULPs, or by half a
    step of the narrower internal dtype; empty if eager is not repeatable."""
    if is_not_repeatable(joint, tensors, again):
        return {}  # the spread of a non-repeatable subject is meaningless
    worst: dict[str, torch.Tensor] = {}
    generator = torch.Generator().manual_seed(0)
    for _ in range(_MOVES):
        moved = {slot: move_by_ulps(tensor, generator, grain) for slot, tensor in tensors.items()}
        moved_cotangents = {name: move_by_ulps(tensor, generator, grain) for name, tensor in cotangents.items()}
        try:
            outcome = run_eager(joint, moved, cotangents_from(moved_cotangents), again.random)
            outputs = interface(joint, moved, moved_cotangents, outcome).outputs
        except Error:
            return {}
        for name, value in expected.items():
            gap = (outputs[name].detach().double() - value.detach().double()).abs()
            worst[name] = torch.maximum(worst[name], gap) if name in worst else gap
    return worst


def move_by_ulps(tensor: torch.Tensor, generator: torch.Generator, grain: float = 0.0) -> torch.Tensor:
    """Moves every floating-point element by up to a few ULPs, or by half of the relative step `grain`."""
    if tensor.is_complex():
        pair = torch.view_as_real(tensor.detach().resolve_conj())
        return torch.view_as_complex(move_by_ulps(pair, generator, grain))
    if not tensor.is_floating_point():
        return tensor
    noise = 2 * torch.rand(tensor.shape, generator=generator, dtype=torch.float64) - 1
    wide = tensor.detach().double()
    reach = max(_ULPS * torch.finfo(tensor.dtype).eps, grain / 2)
    return (wide * (1 + reach * noise)).to(tensor.dtype)


def is_not_repeatable(joint: Joint, tensors: Mapping[Slot, torch.Tensor], again: _Again) -> bool:
    """Whether a second call with the same inputs and random numbers gives other results."""
    first, second = (run_eager(joint, tensors, ones, again.random) for _ in range(2))
    pairs = zip(first.outputs.values(), second.outputs.values(), strict=True)
    return any(not torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in pairs)
