"""Compares one Program with eager torch: the check that export runs before it returns a Program."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence

import torch

from gradport.eager.dimensions import Dimensions, by_name
from gradport.eager.inputs import draw_inputs, draw_inputs_within, move_state, sizes_of
from gradport.eager.joint import Joint, Slot
from gradport.eager.randomness import Randomness
from gradport.errors import Error, ExportError, ProgramError
from gradport.evidence.tolerance import Comparison
from gradport.lowering.passes.generators import expose_draws
from gradport.model.program import Program
from gradport.model.sessions import new_session, run_session, session_options
from gradport.proving.answers import (
    InputSet,
    Reference,
    answer_case,
    compare_results,
    grain_of,
    is_not_repeatable,
    reference,
)
from gradport.proving.draws import faults_of_draws
from gradport.proving.following import Following
from gradport.proving.weights import move_constants, replace_weights
from gradport.tracing import SpecialSize

__all__ = ["prove"]


def prove(
    program: Program,
    joint: Joint,
    dimensions: Dimensions,
    *,
    random: Callable[[], Randomness] | None = None,
    locate: Callable[[InputSet, Reference], object] = lambda case, answer: None,
    special_sizes: Sequence[SpecialSize] = (),
    seed: int = 0,
) -> None:
    """Compares a Program in ONNX Runtime with eager: on the example, on random inputs and weights, at other sizes, with
    random cotangents; for a training step also over successive steps.

    Args:
        program: the Program to check.
        joint: the Joint that it was exported from.
        dimensions: its dynamic dimensions.
        random: the source of eager's random numbers; None: new draws, which are inputs of the Program.
        special_sizes: sizes at which a condition of the trace is false, so that the graph may be wrong.
        locate: returns the first operator that differs, for the message; None if unknown.
        seed: of inputs, cotangents and draws.

    Raises:
        ExportError: an output or gradient differs; the message has its name, the input and the error.
        TargetError: eager rejects the example itself.
    """
    generator = torch.Generator().manual_seed(seed)
    cut = expose_draws(program)
    if cut is not program:
        _require_good_draws(program, joint, generator)
        program = cut
    bench = _Bench(joint, generator, random, grain_of(program), locate)
    weights = move_constants(program, joint, generator)
    if weights:
        other = replace_weights(program, joint, weights)
        moved = draw_inputs(joint, dimensions, sizes_of(joint, dimensions), generator)
        bench.compare(other, InputSet("moved inputs and weights", moved | weights))
    state = _move_state(joint, generator)
    if state:
        bench.compare(program, InputSet("other state", joint.examples() | state))
    following = Following(joint) if joint.proof_runs else None
    refusals = {f"{special.name}={special.size}": special.refusal for special in special_sizes}
    for case in _cases(joint, dimensions, generator, special_sizes, joint.proof_runs):
        try:
            compared = bench.compare(program, case if following is None else following.start_from_state(case))
        except ExportError as error:
            if case.what in refusals:
                raise ExportError(refusals[case.what]) from error
            raise
        if compared is not None and following is not None:
            following.record(*compared)


def _move_state(joint: Joint, generator: torch.Generator) -> dict[Slot, torch.Tensor]:
    """Other values for the input state; empty for a training step, whose runs change it."""
    if joint.proof_runs or not joint.moving:
        return {}
    return {slot: tensor for slot, tensor in move_state(joint, generator).items() if slot in joint.moving}


def _require_good_draws(program: Program, joint: Joint, generator: torch.Generator) -> None:
    """Tests the random numbers that a Program draws, at the example's sizes."""
    answer = reference(joint, joint.examples(), generator)
    inputs = [spec.name for spec in expose_draws(program).inputs]
    feeds = dict(zip(inputs, answer.feeds.values(), strict=True))
    for name, fault in faults_of_draws(program, feeds).items():
        raise ExportError(
            f"{joint.subject.name} was not exported: ONNX Runtime draws {name!r} incorrectly: {fault}; "
            "export with random='input' and feed the numbers of Program.draw."
        )


@dataclasses.dataclass
class _Bench:
    """Compares a Program with eager on one case."""

    joint: Joint
    generator: torch.Generator
    random: Callable[[], Randomness] | None
    grain: float
    locate: Callable[[InputSet, Reference], object]

    def compare(self, program: Program, case: InputSet) -> tuple[InputSet, Reference, dict[str, torch.Tensor]] | None:
        """Returns the case that ran, eager's answer and the results; None if eager rejects the case.

        Raises:
            ExportError: a result differs.
            TargetError: eager rejects the example.
        """
        answered = answer_case(
            case, lambda one: reference(self.joint, one.tensors, self.generator, self.random, self.grain)
        )
        if answered is None:
            return None
        case, answer = answered
        inputs = [spec.name for spec in program.inputs]
        if len(inputs) != len(answer.feeds):
            raise ExportError(
                f"{self.joint.subject.name} was not exported: on {case.what} it draws different random tensors than on "
                "its example; draw the same random tensors at every size."
            )
        try:
            results = program.run_named(dict(zip(inputs, answer.feeds.values(), strict=True)))
        except ProgramError as error:
            raise ExportError(
                f"{self.joint.subject.name} was not exported: on {case.what}, {error} "
                "Rewrite this part or use another dtype; verify=False returns the Program without this check."
            ) from error
        _require_all_gradients(program, self.joint, answer)
        results = dict(zip(answer.expected, results.values(), strict=True))
        for name, comparison in compare_results(answer, results).items():
            if not comparison.ok:
                changed = _is_right_unoptimized(program, answer, name)
                raise _refusal(self.joint, case, answer, name, comparison, self.locate, changed)
        return case, answer, results


def _require_all_gradients(program: Program, joint: Joint, answer: Reference) -> None:
    """Eager may differentiate an operator whose trace has no derivative, as the second one of a scan."""
    lost = [f"grad_{name}" for name in program.missing_gradients if f"grad_{name}" in answer.expected]
    if lost:
        raise ExportError(
            f"{joint.subject.name} was not exported: eager has the gradient {lost[0]!r}, and torch's trace has none; "
            "leave it out of `wrt`, or write that part without a second derivative."
        )


def _is_right_unoptimized(program: Program, answer: Reference, name: str) -> bool:
    """Whether ONNX Runtime gives this result correctly without graph optimizations."""
    feeds = dict(zip((spec.name for spec in program.inputs), answer.feeds.values(), strict=True))
    try:
        results = run_session(new_session(program.model, session_options("ORT_DISABLE_ALL")), feeds)
    except ProgramError:
        return False
    return compare_results(answer, dict(zip(answer.expected, results.values(), strict=True)))[name].ok


def _cases(
    joint: Joint, dimensions: Dimensions, generator: torch.Generator, special: Sequence[SpecialSize], runs: int
) -> Iterator[InputSet]:
    """Yields the example; random values at its sizes; sizes 1, 2, n + 3 and all special sizes of every dynamic
    dimension; then random values again until the number of runs is reached."""
    sizes = sizes_of(joint, dimensions)
    limits = by_name(dimensions)

    def draw_case(what: str, at: dict[str, int]) -> InputSet:
        within = functools.partial(draw_inputs_within, joint, dimensions, at, generator)
        return InputSet(what, draw_inputs(joint, dimensions, at, generator), otherwise=within)

    yield InputSet.example(joint)
    count = 3
    yield draw_case("moved inputs", sizes)
    yield draw_case("moved inputs", sizes)
    for name, size in sizes.items():
        for other in dict.fromkeys((1, 2, size + 3, *(one.size for one in special if one.name == name))):
            if other != size and limits[name].admits(other):
                count += 1
                yield draw_case(f"{name}={other}", {**sizes, name: other})
    for _ in range(count, runs):
        yield draw_case("moved inputs", sizes)


def _refusal(
    joint: Joint,
    case: InputSet,
    answer: Reference,
    name: str,
    comparison: Comparison,
    locate: Callable[[InputSet, Reference], object],
    changed: bool,
) -> Error:
    if is_not_repeatable(joint, case.tensors, answer.again):
        return ExportError(
            f"{joint.subject.name} gives other results when it is called again with the same inputs, so it draws "
            "random numbers or keeps state outside torch; pass random numbers and state as arguments."
        )
    operator = None if changed else locate(case, answer)
    first = (
        "ONNX Runtime's graph optimizations change it, and without them it agrees; rewrite this part"
        if changed
        else f"The first operator that differs is {operator}; rewrite this part"
        if operator is not None
        else "A value that should change between runs was frozen in the file"
    )
    return ExportError(
        f"{joint.subject.name} was not exported: on {case.what}, the {answer.roles[name]} {name!r} differs from eager: "
        f"{comparison.reason} ({comparison.ulps:.3g} ULPs of the largest value, relative {comparison.relative:.3g}). "
        f"{first}; verify=False returns the Program without this check."
    )
