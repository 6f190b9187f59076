"""equivalent: two Functions or modules agree in values and gradients, over inputs, sizes, dtypes and edge values."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from gradport.checking.rules.edges import EDGES
from gradport.eager.dimensions import Dimensions, by_name, resolve_dimensions
from gradport.eager.inputs import draw_inputs, sizes_of, with_example
from gradport.eager.joint import Joint, Slot, cast
from gradport.eager.randomness import seed_generators
from gradport.eager.run import DrawnCotangents, cotangents_from, run_eager
from gradport.errors import SpecError, TargetError
from gradport.evidence.evidence import Evidence, Finding, Outcome, Severity, environment
from gradport.evidence.tolerance import Comparison, compare
from gradport.isolation.effort import Deadline, as_effort, as_seconds
from gradport.model.interface import Interface, interface
from gradport.subject.given import Arguments, Inputs, Keywords, Target, Wrt
from gradport.subject.ports import Role
from gradport.subject.signature import source_of
from gradport.subject.subject import as_function, as_subject

__all__ = ["equivalent"]

_FRESH = 3
_SIZES = (1, 2, 7)
_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def equivalent(
    f: Target,
    g: Target,
    args: Arguments = (),
    kwargs: Keywords = None,
    *,
    wrt: Wrt = "inputs",
    inputs: Inputs = None,
    sizes: Mapping[str, Sequence[int]] | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    budget: float = 1.0,
    time_limit: float | str | None = None,
    seed: int = 0,
) -> Evidence:
    """Checks that `f` and `g` give the same outputs, and the same gradients for the same cotangents.

    Args:
        f: a Subject or a target; its float64 run is the reference.
        g: a Function, callable or module that takes the same arguments.
        args, kwargs: example arguments; named dimensions of specs are tried at several sizes.
        wrt: the inputs or parameters whose gradients are compared.
        inputs: how to draw random inputs: ranges, values or strategies by name, or a callable.
        sizes: sizes to try for a named dimension; None: 1, 2 and 7 for each.
        rtol, atol: replace the criterion of `gradport.evidence.tolerance`.
        budget: factor of the number of random inputs.
        time_limit: seconds, or a text such as "30s", after which no further case is tried; the remaining cases are
            listed, and the result is undecided.
        seed: of inputs and cotangents.

    Returns:
        Evidence with a Finding for each result; the figure is the largest error in ULPs of the largest value.

    Raises:
        TargetError: `f` rejects its own example.
        SpecError: `f` and `g` take different arguments, or an option is invalid.
    """
    subject = with_example(as_subject(f, args, kwargs, wrt=wrt, inputs=inputs))
    first = Joint(subject)
    second = Joint(subject.replace(target=as_function(g)))
    if len(first.arguments) != len(second.arguments):
        raise SpecError(
            f"{first.subject.name} takes {len(first.arguments)} tensors and {second.subject.name} "
            f"{len(second.arguments)}; both must take the same arguments."
        )
    dimensions = resolve_dimensions(first, subject.dynamic_shapes)
    generator = torch.Generator().manual_seed(seed)
    pair = _Pair(first, second, generator, rtol, atol)
    deadline = Deadline(as_seconds(time_limit))
    fresh_ones = as_effort("default", budget).count(1, _FRESH, 2 * _FRESH)
    left: list[str] = []
    for what, tensors in _cases(first, dimensions, sizes, generator, fresh_ones):
        if pair.cases and deadline.is_over:
            left.append(what)
        else:
            pair.try_on(what, tensors)
    file, line = source_of(second.subject.target)
    return Evidence(
        subject=f"{first.subject.name} and {second.subject.name}",
        findings=(*pair.findings(f"{file}:{line}" if file else None), *_not_tried(left, deadline)),
        series={"cases": pair.cases},
        source={"file": file, "line": line},
        environment=environment(),
    )


@dataclasses.dataclass
class _Worst:
    comparison: Comparison
    case: str


class _Pair:
    """Runs both on each case and keeps the worst comparison of each result."""

    def __init__(
        self, first: Joint, second: Joint, generator: torch.Generator, rtol: float | None, atol: float | None
    ) -> None:
        self.cases: list[str] = []
        self._first, self._second = first, second
        self._generator = generator
        self._tolerances: dict[str, Any] = {"rtol": rtol, "atol": atol}
        self._worst: dict[str, _Worst] = {}
        self._one_sided: tuple[str, str] | None = None

    def try_on(self, what: str, tensors: Mapping[Slot, torch.Tensor]) -> None:
        """Compares both on one case; a case that both reject is ignored."""
        seed = int(torch.randint(0, 2**31, (1,), generator=self._generator))
        try:
            drawn = DrawnCotangents(self._generator)
            with seed_generators(seed):
                want = interface(self._first, tensors, drawn.cotangents, run_eager(self._first, tensors, drawn))
        except TargetError as error:
            if not self.cases:
                raise
            self._note_one_sided(what, error, tensors)
            return
        self.cases.append(what)
        try:
            got = self._run_second(tensors, drawn.cotangents, seed)
        except (TargetError, KeyError) as error:
            self._one_sided = self._one_sided or (what, f"{self._second.subject.name} fails: {error}")
            return
        oracle = self._oracle(tensors, drawn.cotangents, seed)
        for name, mine, theirs in zip(want.outputs, want.outputs.values(), got.outputs.values(), strict=False):
            comparison = compare(theirs, mine, lambda name=name: oracle().get(name), **self._tolerances)  # type: ignore[misc]
            worst = self._worst.get(name)
            if worst is None or (not comparison.ok, comparison.ulps) > (
                not worst.comparison.ok,
                worst.comparison.ulps,
            ):
                self._worst[name] = _Worst(comparison, what)
        if len(want.outputs) != len(got.outputs):
            names = f"{self._first.subject.name} gives {len(want.outputs)} results"
            self._one_sided = (what, f"{names} and {self._second.subject.name} gives {len(got.outputs)}")

    def findings(self, where: str | None) -> Iterator[Finding]:
        """One Finding for each result, and one if only one of the two runs."""
        names = f"{self._first.subject.name} and {self._second.subject.name}"
        for name, worst in self._worst.items():
            comparison = worst.comparison
            reason = comparison.reason_beside(self._first.subject.name)
            figures = f"{comparison.ulps:.3g} ULPs, relative {comparison.relative:.2g}"
            message = (
                f"{name} of {names} agrees on {len(self.cases)} inputs: at most {figures}."
                if comparison.ok
                else f"{name} of {names} differs on {worst.case}: {reason} ({figures})."
            )
            yield Finding(
                key=f"equivalent/{name}",
                rule="equivalent",
                outcome=Outcome.OK if comparison.ok else Outcome.FAILED,
                severity=Severity.INFO if comparison.ok else Severity.ERROR,
                figure=comparison.ulps,
                unit="ULP",
                input=worst.case,
                where=where,
                message=message,
            )
        if self._one_sided is not None:
            case, message = self._one_sided
            yield Finding(
                "equivalent/runs",
                "equivalent",
                Outcome.FAILED,
                "raises",
                Severity.ERROR,
                input=case,
                where=where,
                message=message,
            )

    def _run_second(
        self, tensors: Mapping[Slot, torch.Tensor], cotangents: Mapping[str, torch.Tensor], seed: int
    ) -> Interface:
        """The results of the second, with arguments and outputs matched by position."""
        own = [Slot(Role.ARGUMENT, argument.name) for argument in self._second.arguments]
        mine = dict(zip(own, (t for s, t in tensors.items() if s.role == Role.ARGUMENT), strict=True))
        order = iter(cotangents.values())
        used: dict[str, torch.Tensor] = {}

        def cotangent(name: str, output: torch.Tensor) -> torch.Tensor:
            used[name] = next(order).to(output.dtype)
            return used[name]

        with seed_generators(seed):
            return interface(self._second, mine, used, run_eager(self._second, mine, cotangent))

    def _oracle(self, tensors: Mapping[Slot, torch.Tensor], cotangents: Mapping[str, torch.Tensor], seed: int) -> Any:
        """The results of the first in float64, computed on demand."""
        known: list[dict[str, torch.Tensor]] = []

        def ask() -> dict[str, torch.Tensor]:
            if not known:
                wide = cast(tensors, torch.float64)
                try:
                    with seed_generators(seed):
                        outcome = run_eager(self._first, wide, cotangents_from(cotangents))
                    known.append(interface(self._first, wide, cotangents, outcome).outputs)
                except TargetError:
                    known.append({})
            return known[0]

        return ask

    def _note_one_sided(self, what: str, error: TargetError, tensors: Mapping[Slot, torch.Tensor]) -> None:
        try:
            self._run_second(tensors, {}, 0)
        except (TargetError, StopIteration):
            return
        self._one_sided = self._one_sided or (what, f"{self._first.subject.name} fails: {error}")


def _not_tried(left: Sequence[str], deadline: Deadline) -> Iterator[Finding]:
    if left:
        message = f"The time limit of {deadline.seconds:g} s was over before {', '.join(left)}."
        yield Finding(
            "equivalent/time-limit", "equivalent", Outcome.UNDECIDED, severity=Severity.WARNING, message=message
        )


def _cases(
    joint: Joint,
    dimensions: Dimensions,
    wanted: Mapping[str, Sequence[int]] | None,
    generator: torch.Generator,
    fresh_ones: int,
) -> Iterator[tuple[str, dict[Slot, torch.Tensor]]]:
    """The example, fresh values, sizes, dtypes, edge values."""
    example = joint.examples()
    yield "the example", example
    at_example = sizes_of(joint, dimensions)
    for count in range(fresh_ones):
        yield f"fresh values {count + 1}", draw_inputs(joint, dimensions, at_example, generator)
    for name, limit in by_name(dimensions).items():
        for size in (wanted or {}).get(name, _SIZES):
            if limit.admits(size):
                yield f"{name}={size}", draw_inputs(joint, dimensions, {**at_example, name: size}, generator)
    for dtype in _DTYPES:
        if any(t.is_floating_point() and t.dtype != dtype for t in example.values()):
            yield str(dtype).removeprefix("torch."), cast(example, dtype)
    for slot in joint.wanted:
        for name, value in EDGES.items():
            moved = example[slot].detach().clone().contiguous()
            if not moved.numel() or name == "largest":  # whose products overflow in one order and not in another
                continue
            moved.view(-1)[0] = value
            yield f"{slot.name}[0] = {name}", {**example, slot: moved}
