"""The Findings of a Verification, for each runtime and result."""

from __future__ import annotations

from collections.abc import Iterator

from gradport.errors import ProgramError
from gradport.evidence.evidence import Finding, Outcome, Severity
from gradport.evidence.tolerance import UNDECIDED
from gradport.isolation.effort import Deadline
from gradport.runtimes.ort import Absent, NoKernel
from gradport.subject.signature import source_of
from gradport.verifying.found import FaultyNode
from gradport.verifying.rules import VerifyRule
from gradport.verifying.verification import Verification, Worst
from gradport.verifying.vote import Verdict

__all__ = [
    "report_agreement",
    "report_crashes",
    "report_culprit",
    "report_draw",
    "report_edge_values",
    "report_failures",
    "report_first_node",
    "report_not_reached",
    "report_nothing_compared",
    "report_runtimes",
    "report_too_late",
    "where",
]


def where(verification: Verification) -> str | None:
    """The source line of the Subject."""
    file, line = source_of(verification.joint.subject.target)
    return f"{file}:{line}" if file else None


def _about(
    verification: Verification,
    key: str,
    outcome: Outcome,
    kind: str,
    severity: Severity,
    message: str,
    *,
    figure: float | None = None,
    unit: str = "",
    input: str | None = None,
    place: str | None = None,
) -> Finding:
    """A Finding whose rule is the first part of its key; its place is the Subject's line unless `place` is given."""
    rule = key.partition("/")[0]
    return Finding(key, rule, outcome, kind, severity, figure, unit, input, place or where(verification), message)


def report_runtimes(verification: Verification) -> Iterator[Finding]:
    """A Finding for each runtime that does not run the model, or runs only the example."""
    for name, runner in verification.runners.items():
        reason = runner if isinstance(runner, ProgramError) else verification.broken.get(name)
        if reason is not None:
            yield _report_not_run(verification, name, reason)
        elif verification.is_slow(name):
            message = f"{name} is slow on a model of this size, so it ran only the example."
            yield _about(verification, f"runs/{name}", Outcome.SKIPPED, "slow", Severity.INFO, message)


def report_nothing_compared(verification: Verification) -> Iterator[Finding]:
    """A Finding if no runtime ran the model, so that nothing was compared."""
    if not verification.plain and not verification.edge:
        names = ", ".join(verification.rows)
        message = f"No result was compared: {f'none of {names} ran the model' if names else 'there is no runtime'}."
        yield _about(verification, "runs/nothing", Outcome.UNDECIDED, "nothing compared", Severity.WARNING, message)


def report_draw(verification: Verification, name: str, fault: str | None) -> Finding:
    """The Finding for one random tensor that the model draws in ONNX Runtime."""
    if fault is None:
        message = f"The model draws {name!r} from the right distribution, with new values in each run."
        return _about(verification, f"draws/{name}", Outcome.OK, "draws", Severity.INFO, message)
    return _about(
        verification,
        f"draws/{name}",
        Outcome.FAILED,
        "draws",
        Severity.ERROR,
        f"The model draws {name!r} incorrectly: {fault}.",
    )


def report_failures(verification: Verification) -> Iterator[Finding]:
    """A Finding for each runtime that runs the example and fails on another case that eager accepts."""
    for name, failures in verification.stumbled.items():
        error, case = failures[0]
        others = [other for other in verification.working_runtimes() if other not in verification.stumbled]
        excused = bool(others) or name == "reference" or all(case.edge for _, case in failures)
        message = (
            f"{name} fails on {'; '.join(case.what for _, case in failures)}"
            f"{', where ' + ', '.join(others) + ' runs' if others else ''}: {error}"
        )
        judged = (
            (Outcome.OK, "runtime deviation", Severity.WARNING)
            if excused
            else (Outcome.FAILED, "fails", Severity.ERROR)
        )
        figure = float(len(failures))
        yield _about(verification, f"runs/{name}/cases", *judged, message, figure=figure, unit="cases", input=case.what)


def report_agreement(verification: Verification, runtime: str, result: str) -> Finding | None:
    """The Finding of the plain cases for one result in one runtime; None if the runtime ran no plain case."""
    worst = verification.plain.get((runtime, result))
    if worst is None:
        return None
    comparison, what = worst.comparison, f"{verification.roles[result]} {result!r}"
    share, branches = verification.shares.get(result, 0.0), verification.branches
    remark = ""
    if share:
        decided = "" if branches is None else f" (in {branches:.2%} of all roundings and comparisons)"
        remark = f" In {share:.2%} of its elements float64 takes another branch{decided}; they are compared with eager."
    if verification.runs_in_float64 is False and not verification.given:
        remark += " The subject does not run in float64, so torch.testing's rtol and atol apply above the floor."
    outcome, severity = Outcome.OK, Severity.INFO
    if not comparison.ok:
        outcome, severity = Outcome.FAILED, Severity.ERROR
        message = (
            f"The {what} differs from eager in {runtime} on {worst.case.what}: {comparison.reason} "
            f"({comparison.ulps:.3g} ULPs, relative {comparison.relative:.2g}).{remark}"
        )
    elif result not in verification.finite:
        outcome, severity = Outcome.UNDECIDED, Severity.WARNING
        message = (
            f"The {what} is nan or infinite in every element on every input, so nothing was compared in {runtime}."
        )
    elif share > UNDECIDED and (branches is None or branches > UNDECIDED):
        outcome, severity = Outcome.UNDECIDED, Severity.WARNING
        message = (
            f"The {what} agrees with eager in {runtime}, but more than {UNDECIDED:.0%} of its elements have no float64 "
            f"reference: give inputs away from ties, or rtol and atol.{remark}"
        )
    else:
        at = f" ({comparison.worst_element})" if comparison.worst else ""
        message = (
            f"The {what} agrees with eager in {runtime} on {_plain_count(verification)} inputs: "
            f"at most {comparison.ulps:.3g} ULPs, relative {comparison.relative:.2g}{at}.{remark}"
        )
    key, kind = f"agrees-with-eager/{runtime}/{result}", verification.roles[result]
    return _about_worst(verification, key, outcome, kind, severity, message, worst)


def report_edge_values(
    verification: Verification,
    rule: VerifyRule,
    runtime: str,
    result: str,
    worst: Worst,
    judged: list[tuple[Worst, Verdict]],
) -> Finding:
    """The Finding of the cases with edge values or ties: ok, a runtime's deviation, an overflow in eager, or a failure.

    Args:
        verification: the model and the Subject.
        rule: the rule of the cases.
        runtime, result: the runtime and the result.
        worst: the worst comparison.
        judged: the cases that differ, each with its verdict.
    """
    what = f"the {verification.roles[result]} {result!r}"
    outcome, severity, kind = Outcome.OK, Severity.INFO, str(verification.roles[result])
    contents = "equal elements" if rule is VerifyRule.TIES else "nan, inf or zeros"
    message = f"{what} agrees with eager in {runtime} on inputs with {contents}."
    if judged:
        matters = [(_matter(worst, verdict, runtime), worst, verdict) for worst, verdict in judged]
        matter, worst, verdict = max(matters, key=lambda one: _ORDER.index(one[0]))
        outcome, named, severity, lead = _MATTERS[matter]
        kind = named or kind
        message = f"{lead.format(what=what, runtime=runtime)} with {worst.case.what}: {worst.comparison.reason}. "
        message += verdict.sentence
        if rule is VerifyRule.TIES and outcome != Outcome.OK:
            message += " PyTorch does not define which of several equal elements is chosen; if this is the cause, "
            message += "skip='ties'."
    message = message[0].upper() + message[1:]
    return _about_worst(verification, f"{rule}/{runtime}/{result}", outcome, kind, severity, message, worst)


def _about_worst(
    verification: Verification, key: str, outcome: Outcome, kind: str, severity: Severity, message: str, worst: Worst
) -> Finding:
    """A Finding about the worst comparison of a result."""
    figure, case = worst.comparison.ulps, worst.case.what
    return _about(verification, key, outcome, kind, severity, message, figure=figure, unit="ULP", input=case)


def report_culprit(verification: Verification, result: str, worst: Worst, verdict: Verdict) -> Finding:
    """The Finding with the verdict on a result that differs."""
    judged = (
        (Outcome.FAILED, verdict.culprit, Severity.ERROR)
        if verdict.culprit
        else (Outcome.UNDECIDED, "tie", Severity.WARNING)
    )
    message = f"{verification.roles[result].capitalize()} {result!r}: {verdict.sentence}"
    return _about(verification, f"who-is-wrong/{result}", *judged, message, input=worst.case.what)


def report_first_node(verification: Verification, result: str, worst: Worst, found: FaultyNode) -> Finding:
    """The Finding with the first node that differs."""
    key, kind, case = f"first-node/{result}", f"{found.phase} {found.op_type}", worst.case.what
    return _about(
        verification, key, Outcome.FAILED, kind, Severity.ERROR, found.sentence, input=case, place=found.place
    )


def report_crashes(verification: Verification, cases: list[str]) -> Iterator[Finding]:
    """A Finding if eager itself kills its process on some cases, so that they cannot be compared."""
    if cases:
        message = f"The subject kills its process in eager torch on {'; '.join(cases)}, so these were skipped."
        judged = (Outcome.SKIPPED, "eager crashes", Severity.WARNING)
        figure = float(len(cases))
        yield _about(verification, "runs/eager", *judged, message, figure=figure, unit="cases", input=cases[0])


def report_not_reached(verification: Verification, left: list[str]) -> Finding:
    """The Finding with the cases that exceed the budget."""
    message = f"The budget is too small for these inputs; set a larger budget: {'; '.join(left)}."
    judged = (Outcome.SKIPPED, "not reached", Severity.WARNING)
    return _about(verification, "budget/not-reached", *judged, message, figure=float(len(left)), unit="cases")


def report_too_late(verification: Verification, left: list[str], deadline: Deadline) -> Finding:
    """The Finding with the cases that did not start within the time limit."""
    message = f"The time limit of {deadline.seconds:g} s was over before these inputs: {'; '.join(left)}."
    judged = (Outcome.UNDECIDED, "not reached", Severity.WARNING)
    return _about(verification, "time-limit/not-reached", *judged, message, figure=float(len(left)), unit="cases")


_MATTERS = {
    "range": (
        Outcome.OK,
        "overflow",
        Severity.INFO,
        "Near the largest value of the dtype {what} overflows at other elements than in eager",
    ),
    "eager": (Outcome.OK, "eager departs", Severity.WARNING, "Only eager differs from float64 in {what}"),
    "loud": (Outcome.OK, "nan spreads", Severity.WARNING, "{what} has nan or inf where eager has another value,"),
    "deviation": (
        Outcome.OK,
        "runtime deviation",
        Severity.WARNING,
        "only {runtime} differs from the other runtimes in {what}",
    ),
    "tie": (Outcome.UNDECIDED, "", Severity.WARNING, "{what} differs from eager in {runtime}"),
    "graph": (Outcome.FAILED, "", Severity.ERROR, "{what} differs from eager in {runtime}"),
}
"""The possible judgements on a result with edge values: outcome, kind, severity and the start of the message."""

_ORDER = list(_MATTERS)


def _matter(worst: Worst, verdict: Verdict, runtime: str) -> str:
    if worst.case.overflows:
        return "range"
    if verdict.culprit == "eager":
        return "eager"
    if worst.comparison.loud:
        return "loud"  # nan is added, not lost: 0 * inf, where eager skips the product
    if verdict.culprit is None:
        return "tie"
    return "graph" if verdict.culprit == "the exported graph" or runtime not in _name_runtimes(verdict) else "deviation"


def _name_runtimes(verdict: Verdict) -> set[str]:
    """The runtimes of the families that the verdict names."""
    return {voice.name for voice in verdict.voices if voice.family in (verdict.culprit or "").split(" and ")}


def _report_not_run(verification: Verification, runtime: str, reason: ProgramError) -> Finding:
    """The Finding for a runtime that did not run. Only ONNX Runtime must run every operator."""
    kind = "no kernel" if isinstance(reason, NoKernel) else "absent" if isinstance(reason, Absent) else "fails"
    needed = kind == "fails" and runtime != "reference"
    outcome = Outcome.FAILED if needed else Outcome.SKIPPED
    severity = Severity.ERROR if needed else Severity.INFO if kind == "absent" else Severity.WARNING
    case = verification.cases[0] if verification.cases and kind == "fails" else None
    return _about(verification, f"runs/{runtime}", outcome, kind, severity, str(reason), input=case)


def _plain_count(verification: Verification) -> int:
    return len(verification.cases) - verification.edge_count
