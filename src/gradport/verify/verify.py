"""verify: (Subject, Program) to Evidence. Eager torch against every runtime, outputs and gradients, on many inputs."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import onnx_ir as ir
import torch

from gradport.dimensions import Dimensions, resolve_dimensions
from gradport.errors import ProgramError, SpecError, TargetError
from gradport.evidence import Evidence, Finding, environment
from gradport.inputs import fresh, sizes_of, with_example
from gradport.joint import Joint
from gradport.program import Program, load
from gradport.proof import Case, Reference, compared, grain_of, reference
from gradport.randomness import Expected, Randomness
from gradport.signature import source_of
from gradport.subject import Subject, as_subject
from gradport.tolerance import Comparison
from gradport.verify.matching import Match, match
from gradport.verify.runtimes import Runner, runners

__all__ = ["verify"]

_SIZES = (1, 2, 7)
_FRESH = 3


def verify(
    program: Program | ir.Model | str | os.PathLike[str],
    subject: Any,
    args: Any = None,
    kwargs: Mapping[str, Any] | None = None,
    *,
    wrt: Any = None,
    loss: Any = None,
    targets: Any = None,
    dynamic_shapes: Any = None,
    sizes: Mapping[str, Sequence[int]] | None = None,
    inputs: Any = None,
    runtimes: Sequence[str] | None = None,
    budget: float | None = None,
    seed: int = 0,
    rtol: float | None = None,
    atol: float | None = None,
) -> Evidence:
    """Holds an ONNX model against eager torch: every output and gradient, in every runtime.

    It runs on the example, on fresh values at the example's sizes and at several sizes of every dynamic dimension,
    each time with fresh cotangents. The figure of a Finding is the largest error in units in the last place (ULPs) of
    the tensor's largest value; what is too much stands in `gradport.tolerance`.

    Args:
        program: a Program, an `onnx_ir.Model` or the path of a model.
        subject, args, kwargs, wrt, loss, targets: as for `export`; what the Subject leaves out is read from the
            Program where gradport wrote it.
        dynamic_shapes: as for `export`; None: the dimensions that are dynamic in the model.
        sizes: sizes to try for a dynamic dimension, e.g. `{"batch": (1, 2, 7)}`; None: 1, 2 and 7 of each.
        inputs: where fresh inputs come from.
        runtimes: "onnxruntime", "reference"; None: both.
        budget: seconds after which no further input is tried.
        seed: of the fresh inputs and cotangents.
        rtol, atol: take the place of gradport's criterion.

    Returns:
        Evidence with one Finding for each runtime and result.

    Raises:
        SpecError: the model and the subject do not match, or an option does not hold together.
        TargetError: the subject rejects its own example.
        ProgramError: the file cannot be read.
    """
    program = _as_program(program)
    described = as_subject(
        subject,
        () if args is None else args,
        kwargs,
        wrt=wrt,
        loss=loss,
        targets=targets,
        dynamic_shapes=dynamic_shapes,
        inputs=inputs,
    )
    joint = Joint(with_example(_completed(described, program)))
    dimensions = resolve_dimensions(joint, joint.subject.dynamic_shapes)
    made = runners(program, runtimes)
    generator = torch.Generator().manual_seed(seed)
    drawing = program.provenance.get("options", {}).get("random")
    trial = _Trial(program, joint, made, rtol, atol, Expected if drawing == "off" else None)
    if drawing == "runtime" and program.provenance.get("distributions"):
        return _not_comparable(joint)
    started = time.monotonic()
    for case in _cases(joint, dimensions, _sizes(joint, dimensions, sizes), generator):
        if budget is not None and trial.cases and time.monotonic() - started > budget:
            break
        trial.run(case, generator)
    file, line = source_of(joint.subject.target)
    return Evidence(
        subject=joint.subject.name,
        findings=tuple(trial.findings()),
        series={"cases": trial.cases, "matched": trial.matched.how if trial.matched else ""},
        source={"file": file, "line": line},
        environment=environment(),
    )


@dataclasses.dataclass
class _Worst:
    """The worst comparison of one result in one runtime."""

    comparison: Comparison
    case: str


class _Trial:
    """Runs case after case and keeps the worst of each result."""

    def __init__(
        self,
        program: Program,
        joint: Joint,
        made: Mapping[str, Runner | ProgramError],
        rtol: Any,
        atol: Any,
        random: Callable[[], Randomness] | None,
    ) -> None:
        self._random = random
        self.cases: list[str] = []
        self.matched: Match | None = None
        self._program = program
        self._grain = grain_of(program)
        self._joint = joint
        self._runners = made
        self._tolerances = {"rtol": rtol, "atol": atol}
        self._roles: dict[str, str] = {}
        self._worst: dict[tuple[str, str], _Worst] = {}
        self._broken: dict[str, tuple[str, str]] = {}

    def run(self, case: Case, generator: torch.Generator) -> None:
        """One case in every runtime; a case that eager itself rejects is none, unless it is the example."""
        try:
            answer = reference(self._joint, case.tensors, generator, self._random, self._grain)
        except TargetError:
            if not self.cases:
                raise
            return
        self.cases.append(case.what)
        if self.matched is None:
            self.matched = match(self._program, answer.feeds, answer.expected)
            self._roles = answer.roles
        for name, runner in self._runners.items():
            if not isinstance(runner, ProgramError) and name not in self._broken:
                self._run_in(name, runner, case, answer, self.matched)

    def findings(self) -> Iterator[Finding]:
        """One for each runtime and result; one for a runtime that does not take the model."""
        for name, runner in self._runners.items():
            if isinstance(runner, ProgramError):
                yield self._not_run(name, str(runner), None)
            elif name in self._broken:
                yield self._not_run(name, *self._broken[name])
            else:
                yield from (self._held_or_failed(name, result) for result in self._roles)

    def _run_in(self, name: str, runner: Runner, case: Case, answer: Reference, matched: Match) -> None:
        feeds = {theirs: answer.feeds[ours] for ours, theirs in matched.inputs.items()}
        try:
            results = runner(feeds)
        except ProgramError as error:
            self._broken[name] = (str(error), case.what)
            return
        by_own_name = {ours: results[theirs] for ours, theirs in matched.outputs.items()}
        for result, comparison in compared(answer, by_own_name, **self._tolerances).items():
            standing = self._worst.get((name, result))
            if standing is None or _badness(comparison) > _badness(standing.comparison):
                self._worst[name, result] = _Worst(comparison, case.what)

    def _held_or_failed(self, runtime: str, result: str) -> Finding:
        worst = self._worst[runtime, result]
        comparison = worst.comparison
        what = f"{self._roles[result]} {result!r}"
        if comparison.ok:
            message = (
                f"The {what} agrees with eager in {runtime} on {len(self.cases)} inputs: "
                f"at most {comparison.ulps:.3g} ULPs, relative {comparison.relative:.2g}."
            )
        else:
            message = (
                f"The {what} differs from eager in {runtime} on {worst.case}: {comparison.reason} "
                f"({comparison.ulps:.3g} ULPs, relative {comparison.relative:.2g})."
            )
        return Finding(
            key=f"agrees-with-eager/{runtime}/{result}",
            rule="agrees-with-eager",
            outcome="held" if comparison.ok else "failed",
            kind=self._roles[result],
            severity="info" if comparison.ok else "error",
            figure=comparison.ulps,
            unit="ULP",
            input=worst.case,
            where=self._where(),
            message=message,
        )

    def _not_run(self, runtime: str, reason: str, case: str | None) -> Finding:
        """ONNX Runtime is what the model is for; the second opinion may lack an operator."""
        needed = runtime == "onnxruntime"
        return Finding(
            key=f"runs/{runtime}",
            rule="runs",
            outcome="failed" if needed else "skipped",
            severity="error" if needed else "warning",
            input=case,
            where=self._where(),
            message=reason,
        )

    def _where(self) -> str | None:
        file, line = source_of(self._joint.subject.target)
        return f"{file}:{line}" if file else None


def _not_comparable(joint: Joint) -> Evidence:
    """What is said of a model that draws its own random numbers."""
    file, line = source_of(joint.subject.target)
    finding = Finding(
        key="runs/random",
        rule="runs",
        outcome="skipped",
        severity="warning",
        where=f"{file}:{line}" if file else None,
        message="The model draws its own random numbers, so no run of eager is the same as its; "
        "export with random='input' to hold the same graph against eager.",
    )
    return Evidence(
        subject=joint.subject.name,
        findings=(finding,),
        source={"file": file, "line": line},
        environment=environment(),
    )


def _badness(comparison: Comparison) -> tuple[bool, float]:
    size = comparison.ulps
    return not comparison.ok, float("inf") if size != size else size


def _as_program(program: Program | ir.Model | str | os.PathLike[str]) -> Program:
    if isinstance(program, Program):
        return program
    if isinstance(program, ir.Model):
        return Program(program)
    return load(program)


def _completed(subject: Subject, program: Program) -> Subject:
    """What the Subject leaves open and the Program knows: gradients, outputs, dynamic dimensions."""
    changes: dict[str, Any] = {}
    roles = {role: [spec for spec in program.outputs if spec.role == role] for role in ("loss", "output", "gradient")}
    if roles["loss"] and subject.loss is None:
        raise SpecError(
            f"The program gives the loss {roles['loss'][0].name!r}; give verify the same loss= to compare with."
        )
    wanted = program.provenance.get("wrt")
    if subject.wrt is None and wanted:
        missing = set(program.missing_gradients)
        changes["wrt"] = [name for name in wanted if name.removeprefix("param.") not in missing]
    outputs = program.provenance.get("outputs")
    if subject.outputs is None and outputs is not None and program.provenance:
        changes["outputs"] = outputs
    if subject.dynamic_shapes is None and not _has_specs(subject):
        named = {spec.name: _dynamic(spec.shape) for spec in program.inputs if spec.role in ("argument", "target")}
        if any(named.values()):
            changes["dynamic_shapes"] = _by_default_name(subject, program, named)
    return subject.replace(**changes) if changes else subject


def _has_specs(subject: Subject) -> bool:
    return with_example(subject) is not subject


def _dynamic(shape: Sequence[int | str]) -> dict[int, str]:
    return {axis: size for axis, size in enumerate(shape) if isinstance(size, str) and size.isidentifier()}


def _by_default_name(
    subject: Subject, program: Program, named: Mapping[str, dict[int, str]]
) -> dict[str, dict[int, str]] | None:
    """The dimensions under the Subject's own names, where the model's inputs are its arguments one for one."""
    joint = Joint(subject.replace(wrt=None))
    leaves = [leaf.name for leaf in (*joint.arguments, *joint.targets)]
    if set(named) <= set(leaves):
        return dict(named)
    return dict(zip(leaves, named.values(), strict=True)) if len(leaves) == len(named) else None


def _sizes(
    joint: Joint, dimensions: Dimensions, wanted: Mapping[str, Sequence[int]] | None
) -> dict[str, tuple[int, ...]]:
    limits = {d.name: d for axes in dimensions.values() for d in axes.values()}
    for name in wanted or {}:
        if name not in limits:
            raise SpecError(
                f"sizes names {name!r}, which is no dynamic dimension of {joint.subject.name}; "
                f"it has {', '.join(limits) or 'none'}."
            )
    return {
        name: tuple(size for size in (wanted or {}).get(name, _SIZES) if limit.admits(size))
        for name, limit in limits.items()
    }


def _cases(
    joint: Joint, dimensions: Dimensions, wanted: Mapping[str, Sequence[int]], generator: torch.Generator
) -> Iterator[Case]:
    """The example, fresh values at its sizes, each size of each dimension, and where there are several all at once."""
    yield Case("the example", joint.examples())
    at_example = sizes_of(joint, dimensions)
    for count in range(_FRESH):
        yield Case(f"fresh values {count + 1}", fresh(joint, dimensions, at_example, generator))
    for name, sizes in wanted.items():
        for size in sizes:
            yield Case(f"{name}={size}", fresh(joint, dimensions, {**at_example, name: size}, generator))
    if len(wanted) > 1:
        for sizes in zip(*wanted.values(), strict=False):
            said = dict(zip(wanted, sizes, strict=True))
            yield Case(", ".join(f"{n}={s}" for n, s in said.items()), fresh(joint, dimensions, said, generator))
