"""One Program beside eager torch: what export asks before it hands a file out, and what verify builds on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping

import torch

from gradport.dimensions import Dimensions
from gradport.eager import draw_cotangents, run_eager
from gradport.errors import Error, ExportError, ProgramError, TargetError
from gradport.inputs import fresh, sizes_of
from gradport.joint import Joint, Outcome, Slot, cast
from gradport.program import Program, TensorSpec
from gradport.tolerance import Comparison, compare

__all__ = ["Case", "Reference", "compared", "prove", "reference"]

Runner = Callable[[Mapping[str, torch.Tensor]], Mapping[str, torch.Tensor]]


@dataclasses.dataclass(frozen=True)
class Case:
    """One set of inputs: what it is, and the tensors."""

    what: str
    tensors: dict[Slot, torch.Tensor]


@dataclasses.dataclass(frozen=True)
class Reference:
    """Eager's answer to one case.

    Attributes:
        feeds: what the Program is given, by name.
        expected: what it should give, by name.
        oracle: the float64 values by name, or None where the subject does not run in float64; asked lazily.
    """

    feeds: dict[str, torch.Tensor]
    expected: dict[str, torch.Tensor]
    oracle: Callable[[], dict[str, torch.Tensor] | None]


def prove(program: Program, joint: Joint, dimensions: Dimensions, seed: int = 0) -> None:
    """Runs a Program in ONNX Runtime against eager: the example, moved inputs, other sizes, fresh cotangents.

    Raises:
        ExportError: an output or gradient departs; the message names it, the input and by how much.
        TargetError: eager rejects the example itself.
    """
    generator = torch.Generator().manual_seed(seed)
    for case in _cases(joint, dimensions, generator):
        try:
            answer = reference(program, joint, case.tensors, generator)
        except TargetError:
            if case.what == "the example":
                raise
            continue  # eager does not take these inputs, so there is nothing to agree with
        try:
            results = program.run_named(answer.feeds)
        except ProgramError as error:
            raise ExportError(f"{joint.subject.name} was exported, but fails on {case.what}: {error}") from error
        for name, comparison in compared(answer, results).items():
            if not comparison.ok:
                raise _refusal(program, joint, case, name, comparison, generator)


def reference(
    program: Program, joint: Joint, tensors: Mapping[Slot, torch.Tensor], generator: torch.Generator
) -> Reference:
    """Runs eager, with cotangents drawn afresh.

    Raises:
        TargetError: eager rejects these inputs.
    """
    shapes = run_eager(joint, tensors, {}) if joint.wanted and joint.subject.loss is None else None
    cotangents = draw_cotangents(shapes, generator) if shapes is not None else {}
    outcome = run_eager(joint, tensors, cotangents)
    asked: list[dict[str, torch.Tensor] | None] = []

    def oracle() -> dict[str, torch.Tensor] | None:
        if not asked:
            asked.append(_oracle(program, joint, tensors, cotangents))
        return asked[0]

    return Reference(feeds_of(program, tensors, cotangents), results_of(program, joint, outcome), oracle)


def compared(
    answer: Reference,
    results: Mapping[str, torch.Tensor],
    *,
    rtol: float | None = None,
    atol: float | None = None,
) -> dict[str, Comparison]:
    """Every result against eager's, by name."""

    def one(name: str) -> Callable[[], torch.Tensor | None]:
        return lambda: (answer.oracle() or {}).get(name)

    return {
        name: compare(results[name], expected, one(name), rtol=rtol, atol=atol)
        for name, expected in answer.expected.items()
    }


def feeds_of(
    program: Program, tensors: Mapping[Slot, torch.Tensor], cotangents: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """The Program's inputs by name, from slots and cotangents in the order in which the Program lists them."""
    by_role = {
        "argument": [tensor for slot, tensor in tensors.items() if slot.kind == "argument"],
        "target": [tensor for slot, tensor in tensors.items() if slot.kind == "target"],
        "cotangent": list(cotangents.values()),
    }
    feeds = {}
    for role, given in by_role.items():
        specs = [spec for spec in program.inputs if spec.role == role]
        feeds |= {spec.name: tensor.detach() for spec, tensor in zip(specs, given, strict=True)}
    return feeds


def results_of(program: Program, joint: Joint, outcome: Outcome) -> dict[str, torch.Tensor]:
    """Eager's results under the names of the Program's outputs."""
    gradients = iter(_gradients(joint, outcome))
    outputs = iter(_outputs(joint, outcome))
    found = {}
    for spec in program.outputs:
        if spec.role == "loss":
            assert outcome.loss is not None
            found[spec.name] = outcome.loss.detach().reshape(())
        else:
            found[spec.name] = next(gradients if spec.role == "gradient" else outputs).detach()
    return found


def _outputs(joint: Joint, outcome: Outcome) -> Iterator[torch.Tensor]:
    wanted = joint.subject.outputs
    if isinstance(wanted, str) and wanted != "all":
        wanted = [wanted]
    for name in outcome.outputs if wanted in (None, "all") else wanted:
        yield outcome.outputs[name]


def _gradients(joint: Joint, outcome: Outcome) -> Iterator[torch.Tensor]:
    for slot, gradient in outcome.gradients.items():
        if gradient is not None:
            yield gradient
        elif slot in joint.explicit:
            yield torch.zeros_like(joint.examples()[slot])


def _oracle(
    program: Program,
    joint: Joint,
    tensors: Mapping[Slot, torch.Tensor],
    cotangents: Mapping[str, torch.Tensor],
) -> dict[str, torch.Tensor] | None:
    """The same call in float64; None where the subject does not run in it."""
    try:
        outcome = run_eager(joint, cast(tensors, torch.float64), {k: v.double() for k, v in cotangents.items()})
        return results_of(program, joint, outcome)
    except Exception:
        return None


def _cases(joint: Joint, dimensions: Dimensions, generator: torch.Generator) -> Iterator[Case]:
    """The example; moved values at its sizes; then 1 and two other sizes of every dynamic dimension."""
    yield Case("the example", joint.examples())
    sizes = sizes_of(joint, dimensions)
    yield Case("moved inputs", fresh(joint, dimensions, sizes, generator))
    yield Case("moved inputs", fresh(joint, dimensions, sizes, generator))
    limits = {d.name: d for axes in dimensions.values() for d in axes.values()}
    for name, size in sizes.items():
        for other in (1, 2, size + 3):
            if other != size and limits[name].admits(other):
                yield Case(f"{name}={other}", fresh(joint, dimensions, {**sizes, name: other}, generator))


def _refusal(
    program: Program, joint: Joint, case: Case, name: str, comparison: Comparison, generator: torch.Generator
) -> Error:
    spec = next(spec for spec in program.outputs if spec.name == name)
    if _is_random(joint, case):
        return ExportError(
            f"{joint.subject.name} gives other results when it is called again with the same inputs, so it draws "
            "random numbers or keeps state outside torch; pass what varies in as an argument."
        )
    what = f"the gradient {name!r}" if spec.role == "gradient" else f"the {spec.role} {name!r}"
    return ExportError(
        f"{joint.subject.name} was not exported: on {case.what}, {what} differs from eager: {comparison.reason} "
        f"({_figure(spec, comparison)}). Something in it became a constant, or an operator is lowered wrongly; "
        "verify=False hands the file out all the same."
    )


def _is_random(joint: Joint, case: Case) -> bool:
    first, second = (run_eager(joint, case.tensors, {}) for _ in range(2))
    pairs = zip(first.outputs.values(), second.outputs.values(), strict=True)
    return any(not torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in pairs)


def _figure(spec: TensorSpec, comparison: Comparison) -> str:
    return f"{comparison.ulps:.3g} ULPs of the largest value, relative {comparison.relative:.3g}"
