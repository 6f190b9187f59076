"""verify: from a Subject and a Program to Evidence. Compares outputs and gradients of eager torch and all runtimes."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence

import onnx_ir as ir
import torch

from gradport.eager.dimensions import Dimensions, by_name, resolve_dimensions
from gradport.eager.inputs import draw_inputs, sizes_of, with_example
from gradport.eager.inputs.strategies import Space
from gradport.eager.joint import Joint
from gradport.eager.randomness import Expected
from gradport.errors import ProgramError
from gradport.evidence.evidence import Evidence, Finding, environment
from gradport.evidence.settings import Command, settings_of
from gradport.evidence.tolerance import CRITERION
from gradport.isolation.effort import Deadline, Profile, as_effort, as_seconds
from gradport.lowering.passes.generators import expose_draws
from gradport.model.program import Program
from gradport.proving.answers import InputKind, InputSet
from gradport.proving.draws import faults_of_draws
from gradport.proving.weights import move_constants, replace_weights
from gradport.runtimes.table import choose_runtimes
from gradport.subject.given import Arguments, Inputs, Keywords, Loss, Shapes, Target, Targets, Wrt
from gradport.subject.signature import source_of
from gradport.subject.subject import as_subject
from gradport.verifying import findings
from gradport.verifying.cases import case_sizes, cases
from gradport.verifying.completing import as_program, complete_subject
from gradport.verifying.localise import localise
from gradport.verifying.reproducer import write_reproducer
from gradport.verifying.rules import VerifyRule, choose_rules
from gradport.verifying.shapes_and_types import shapes_and_types
from gradport.verifying.shrinking import explore, shrink_case
from gradport.verifying.surviving import find_crashes
from gradport.verifying.verification import Verification, Worst
from gradport.verifying.vote import Jury
from gradport.verifying.work import Allowance, work_of

__all__ = ["verify"]

_SHRUNK = 3
"""Maximum number of failures that are shrunk."""


def verify(
    program: Program | ir.Model | str | os.PathLike[str],
    subject: Target,
    args: Arguments = None,
    kwargs: Keywords = None,
    *,
    wrt: Wrt = None,
    loss: Loss = None,
    targets: Targets = None,
    dynamic_shapes: Shapes = None,
    sizes: Mapping[str, Sequence[int]] | None = None,
    inputs: Inputs = None,
    runtimes: Sequence[str] | None = None,
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
    budget: float = 1.0,
    time_limit: float | str | None = None,
    seed: int = 0,
    rtol: float | None = None,
    atol: float | None = None,
    reproducer: str | os.PathLike[str] | None = None,
) -> Evidence:
    """Compares an ONNX model with eager torch: every output and gradient, in every runtime.

    The inputs are the example, random values at the example's sizes, several sizes of every dynamic dimension, other
    strides and edge values, each with new random cotangents. Hypothesis searches for more inputs, and shrinks those
    that fail. The figure of a Finding is the largest error in units in the last place (ULPs) of the tensor's largest
    value; `gradport.evidence.tolerance` defines the allowed error.

    Args:
        program: a Program, an `onnx_ir.Model` or the path of a model.
        subject, args, kwargs, wrt, loss, targets: as for `export`; missing fields of the Subject are read from the
            Program if gradport wrote it.
        dynamic_shapes: as for `export`; None: the dimensions that are dynamic in the model.
        sizes: sizes to try for a dynamic dimension, e.g. `{"batch": (1, 2, 7)}`; None: 1, 2, 7, 257 and, if the
            Subject accepts it, 0.
        inputs: how to draw random inputs: ranges, values or strategies by name, or a callable. Inputs with such an
            entry get no edge values.
        runtimes: names of runtimes; None: "onnxruntime", "reference", "onnxruntime-cuda" if installed, and runtimes
            registered by other packages (see `gradport.runtimes`).
        only, skip: names of rules, see `gradport.verifying.rules`.
        budget: factor of the amount of work: 0.2, 1, 5. Cases with edge values that exceed it on a large model are
            listed as skipped. A verdict does not depend on how busy the machine is.
        time_limit: seconds, or a text such as "30s", after which no further case starts; the remaining cases are
            listed, and the result is undecided. None: no limit.
        seed: of the random inputs and cotangents.
        rtol, atol: replace gradport's criterion.
        reproducer: a folder to write if the first wrong node is known: this node as a model, its inputs and expected
            outputs as in ONNX's backend tests, and a script that needs only onnxruntime.

    Settings in `[tool.gradport.verify."module:Name"]` of the nearest pyproject.toml (`skip`, `rtol`, `atol`, `reason`)
    are the defaults; `rtol` and `atol` of the call override them.

    Returns:
        Evidence with Findings for each runtime and result, and for all other rules.

    Raises:
        SpecError: the model and the subject do not match, or an option is invalid.
        TargetError: the subject rejects its own example.
        ProgramError: the file cannot be read.
    """
    program = as_program(program)
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
    joint = Joint(with_example(complete_subject(described, program)))
    settings = settings_of(joint.subject, Command.VERIFY, list(VerifyRule))
    if rtol is None and atol is None:
        rtol, atol = settings.rtol, settings.atol
    dimensions = resolve_dimensions(joint, joint.subject.dynamic_shapes)
    drawing = program.provenance.get("options", {}).get("random")
    random = Expected if drawing == "off" else None
    cut = expose_draws(program)
    verification = Verification(cut, joint, choose_runtimes(runtimes), rtol=rtol, atol=atol, random=random, seed=seed)
    plan = _Plan(
        rules=choose_rules(only, (*skip, *settings.skip)),
        allowance=Allowance(work_of(joint), as_effort(Profile.DEFAULT, budget)),
        deadline=Deadline(as_seconds(time_limit)),
        reproducer=reproducer,
    )
    about_cases = _try_cases(verification, dimensions, case_sizes(joint, dimensions, sizes), plan)
    judged = list(_judge_results(verification, Space(dimensions, sizes or {}), plan))
    judged = _replace_findings(judged, _run_other_weights(verification, dimensions, plan))
    shapes = shapes_and_types(verification, _inputs_at_sizes(verification, dimensions), findings.where(verification))
    draws = _check_draws(verification, program) if cut is not program else []
    every = [*judged, *draws, *about_cases, *shapes]
    return _evidence(verification, [*settings.findings(), *(finding for finding in every if plan.asks(finding.rule))])


@dataclasses.dataclass(frozen=True)
class _Plan:
    """The rules to run, and the limits of the work.

    Attributes:
        rules: the rules to run.
        allowance: the limit of work.
        deadline: the time after which no case starts.
        reproducer: the folder of the reproducer, or None.
    """

    rules: frozenset[VerifyRule]
    allowance: Allowance
    deadline: Deadline
    reproducer: str | os.PathLike[str] | None

    def asks(self, rule: str) -> bool:
        """Whether Findings of this rule are wanted; Findings about the runs themselves always are."""
        return rule not in list(VerifyRule) or rule in self.rules

    def tries(self, case: InputSet) -> bool:
        """Whether a rule of the plan needs this case."""
        return case.is_example or _RULE_OF[case.kind] in self.rules


_RULE_OF = {
    InputKind.PLAIN: VerifyRule.AGREES,
    InputKind.EDGE: VerifyRule.EDGE_VALUES,
    InputKind.TIES: VerifyRule.TIES,
}


def _check_draws(verification: Verification, program: Program) -> list[Finding]:
    """The Findings on random numbers that the file draws; all other rules use a model with these draws as inputs."""
    if verification.matched is None:
        return []
    feeds = verification.feeds(verification.answer(InputSet.example(verification.joint)))
    try:
        faults = faults_of_draws(program, feeds)
    except ProgramError as error:
        faults = {"random": str(error)}
    return [findings.report_draw(verification, name, faults.get(name)) for name in program.provenance["distributions"]]


def _run_other_weights(verification: Verification, dimensions: Dimensions, plan: _Plan) -> list[Finding]:
    """The Findings of a run in which constant weights (all elements equal) get other values.

    Returns an empty list if a result differs already, if there are no such weights, or if they are not initializers of
    the model under their names.
    """
    generator = torch.Generator().manual_seed(verification.seed)
    weights = move_constants(verification.program, verification.joint, generator)
    if not weights or not all(worst.comparison.ok for worst in verification.plain.values()):
        return []
    twin = verification.with_program(replace_weights(verification.program, verification.joint, weights))
    tensors = draw_inputs(verification.joint, dimensions, sizes_of(verification.joint, dimensions), generator)
    twin.run(InputSet("random values and other weights", tensors | weights))
    failed = {key: worst for key, worst in twin.plain.items() if not worst.comparison.ok}
    differing = [findings.report_agreement(twin, runtime, result) for runtime, result in failed]
    blamed = _blame(twin, failed, plan, compiled=False)
    return [*(finding for finding in differing if finding is not None), *blamed]


def _replace_findings(first: Sequence[Finding], later: Sequence[Finding]) -> list[Finding]:
    """All Findings; a later Finding replaces an earlier Finding of the same key."""
    keys = {finding.key for finding in later}
    return [*(finding for finding in first if finding.key not in keys), *later]


def _try_cases(
    verification: Verification, dimensions: Dimensions, sizes: Mapping[str, tuple[int, ...]], plan: _Plan
) -> list[Finding]:
    """Runs the cases within the budget and the time limit; returns Findings on cases that did not run or failed."""
    generator = torch.Generator().manual_seed(verification.seed)
    late: list[str] = []
    spent: list[str] = []
    deadly: list[str] = []
    verification.large = plan.allowance.is_large
    fresh_ones = plan.allowance.effort.count(1, 3, 10)
    every = cases(
        verification.joint, dimensions, sizes, generator, fresh_ones=fresh_ones, overflowing=not verification.given
    )
    example = InputSet.example(verification.joint)
    for case in _survivors(verification, (case for case in every if plan.tries(case)), deadly):
        if verification.cases and plan.deadline.is_over:
            late.append(case.what)
        elif verification.cases and not plan.allowance.takes(case, example):
            spent.append(case.what)
        else:
            verification.run(case)
    not_run = [findings.report_not_reached(verification, spent)] if spent else []
    not_run += [findings.report_too_late(verification, late, plan.deadline)] if late else []
    return [*findings.report_failures(verification), *not_run, *findings.report_crashes(verification, deadly)]


def _survivors(verification: Verification, every: Iterator[InputSet], deadly: list[str]) -> Iterator[InputSet]:
    """The cases without those on which eager kills its process; the names of these are added to `deadly`."""
    for case in every:
        if not case.edge:
            yield case
            continue
        rest = [case, *every]
        deadly += find_crashes(verification, [one for one in rest if one.edge])
        yield from (one for one in rest if one.what not in deadly)


def _judge_results(verification: Verification, space: Space, plan: _Plan) -> Iterator[Finding]:
    """Judges every result in every runtime; shrinks the failures and determines who is wrong."""
    if all(worst.comparison.ok for worst in verification.plain.values()) and not plan.deadline.is_over:
        failing = explore(verification, space, plan.allowance.explored)
        if failing is not None:
            verification.run(failing)
    yield from findings.report_runtimes(verification)
    yield from findings.report_nothing_compared(verification)
    failed = {key: worst for key, worst in verification.plain.items() if not worst.comparison.ok}
    for runtime, result in list(failed)[:_SHRUNK] if not plan.deadline.is_over else ():
        case = shrink_case(verification, space, runtime, result, failed[runtime, result].case, plan.allowance.shrunk)
        comparison = verification.find_difference(runtime, result, case)
        if comparison is not None:
            verification.plain[runtime, result] = failed[runtime, result] = Worst(comparison, case)
    for runtime, result in ((runtime, result) for runtime in verification.runners for result in verification.roles):
        finding = findings.report_agreement(verification, runtime, result)
        if finding is not None:
            yield finding
    yield from _blame(verification, failed, plan, compiled=plan.allowance.effort.budget >= 1)
    yield from _judge_edges(verification)


def _blame(
    verification: Verification,
    failed: Mapping[tuple[str, str], Worst],
    plan: _Plan,
    *,
    compiled: bool,
) -> Iterator[Finding]:
    """Determines who is wrong for each result that differs, and the first wrong node for each culprit."""
    juries: dict[str, Jury] = {}
    located: set[str | None] = set()
    for result in dict.fromkeys(result for _, result in failed):
        worst = next(worst for (_, name), worst in failed.items() if name == result)
        what = worst.case.what
        if what not in juries and len(juries) < _SHRUNK:
            juries[what] = Jury(verification, worst.case, compiled=compiled and not juries)
        if what not in juries:
            continue
        verdict = juries[what].verdict(result)
        yield findings.report_culprit(verification, result, worst, verdict)
        if verdict.culprit in located:
            continue
        located.add(verdict.culprit)
        node = localise(verification, worst.case, verdict)
        if node is None:
            continue
        verification.divergence = verification.divergence or node.values
        yield findings.report_first_node(verification, result, worst, node)
        if plan.reproducer is not None and node.expected and not verification.reproducer:
            verification.reproducer = str(write_reproducer(node, plan.reproducer))


def _judge_edges(verification: Verification) -> Iterator[Finding]:
    """The Findings of edge values, for results that agree on plain values."""
    juries: dict[str, Jury] = {}
    for (kind, runtime, result), tried in verification.edge.items():
        plain = verification.plain.get((runtime, result))
        if plain is not None and not plain.comparison.ok:
            continue
        judged = []
        for worst in (worst for worst in tried if not worst.comparison.ok):
            if worst.case.what not in juries:
                juries[worst.case.what] = Jury(verification, worst.case, compiled=False)
            judged.append((worst, juries[worst.case.what].verdict(result)))
        finding = findings.report_edge_values(verification, _RULE_OF[kind], runtime, result, tried[0], judged)
        if finding is not None:
            yield finding


def _inputs_at_sizes(verification: Verification, dimensions: Dimensions) -> list[InputSet]:
    """The example, and with dynamic dimensions an input with each of them at another size."""
    joint = verification.joint
    inputs = [InputSet.example(joint)]
    sizes = sizes_of(joint, dimensions)
    limits = by_name(dimensions)
    larger = {name: size + step for step, (name, size) in enumerate(sizes.items(), 2)}
    if larger and all(limits[name].admits(size) for name, size in larger.items()):
        what = ", ".join(f"{name}={size}" for name, size in larger.items())
        inputs.append(
            InputSet(what, draw_inputs(joint, dimensions, larger, torch.Generator().manual_seed(verification.seed)))
        )
    return inputs


def _evidence(verification: Verification, every: Sequence[Finding]) -> Evidence:
    file, line = source_of(verification.joint.subject.target)
    return Evidence(
        subject=verification.joint.subject.name,
        findings=tuple(every),
        series={
            "cases": verification.cases,
            "matched": verification.matched.how if verification.matched else "",
            "criterion": CRITERION,
            **({"divergence": list(verification.divergence)} if verification.divergence else {}),
            **({"reproducer": verification.reproducer} if verification.reproducer else {}),
        },
        source={"file": file, "line": line},
        environment=environment(),
    )
