"""A Verification's Findings: what each runtime made of each result."""

from __future__ import annotations

from collections.abc import Iterator

from gradport.errors import ProgramError
from gradport.evidence.evidence import Finding, Outcome, Severity
from gradport.evidence.tolerance import UNDECIDED
from gradport.isolation.effort import Deadline
from gradport.runtimes.ort import Absent, NoKernel
from gradport.subject.signature import source_of
from gradport.verifying.found import Found
from gradport.verifying.rules import VerifyRule
from gradport.verifying.verification import Verification, Worst
from gradport.verifying.vote import Verdict

__all__ = [
    "agreement",
    "deadly",
    "draw",
    "edge_values",
    "first_node",
    "not_reached",
    "nothing_compared",
    "running",
    "stumbles",
    "too_late",
    "where",
    "who_is_wrong",
]


def where(verification: Verification) -> str | None:
    """The source line that a Finding about the whole Subject is about."""
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
    """A Finding whose rule its key begins with, about the Subject's own line where no other place is known."""
    rule = key.partition("/")[0]
    return Finding(key, rule, outcome, kind, severity, figure, unit, input, place or where(verification), message)


def running(verification: Verification) -> Iterator[Finding]:
    """A Finding for each runtime that does not run the model, or runs it on some cases alone."""
    for name, runner in verification.runners.items():
        reason = runner if isinstance(runner, ProgramError) else verification.broken.get(name)
        if reason is not None:
            yield _not_run(verification, name, reason)
        elif verification.is_slow(name):
            said = f"{name} is slow on a model of this size, so it ran only the example."
            yield _about(verification, f"runs/{name}", Outcome.SKIPPED, "slow", Severity.INFO, said)


def nothing_compared(verification: Verification) -> Iterator[Finding]:
    """A Finding where no runtime ran the model: then nothing is known of it."""
    if not verification.plain and not verification.edge:
        said = f"No result was compared: none of {', '.join(verification.rows) or 'no runtime'} ran the model."
        yield _about(verification, "runs/nothing", Outcome.UNDECIDED, "nothing compared", Severity.WARNING, said)


def draw(verification: Verification, name: str, fault: str | None) -> Finding:
    """What is said of one random tensor that the model draws by itself in ONNX Runtime."""
    if fault is None:
        said = f"The model draws {name!r} with the right distribution, and each run anew."
        return _about(verification, f"draws/{name}", Outcome.OK, "draws", Severity.INFO, said)
    return _about(
        verification,
        f"draws/{name}",
        Outcome.FAILED,
        "draws",
        Severity.ERROR,
        f"The model draws {name!r} wrongly: {fault}.",
    )


def stumbles(verification: Verification) -> Iterator[Finding]:
    """A Finding for each runtime that fails on a case which eager takes, and on the example it did not."""
    for name, failures in verification.stumbled.items():
        error, case = failures[0]
        others = [other for other in verification.working() if other not in verification.stumbled]
        alone = bool(others) or name == "reference" or all(case.edge for _, case in failures)
        said = (
            f"{name} fails on {'; '.join(case.what for _, case in failures)}"
            f"{', where ' + ', '.join(others) + ' runs' if others else ''}: {error}"
        )
        judged = (
            (Outcome.OK, "runtime deviation", Severity.WARNING) if alone else (Outcome.FAILED, "fails", Severity.ERROR)
        )
        figure = float(len(failures))
        yield _about(verification, f"runs/{name}/cases", *judged, said, figure=figure, unit="cases", input=case.what)


def agreement(verification: Verification, runtime: str, result: str) -> Finding | None:
    """What the plain cases say of one result in one runtime; None where it ran none."""
    worst = verification.plain.get((runtime, result))
    if worst is None:
        return None
    comparison, what = worst.comparison, f"{verification.roles[result]} {result!r}"
    share, branches = verification.shares.get(result, 0.0), verification.branches
    said = ""
    if share:
        decided = (
            "" if branches is None else f" (it decides otherwise in {branches:.2%} of all roundings and comparisons)"
        )
        said = f" In {share:.2%} of its elements float64 takes another branch{decided}; there eager is the measure."
    if verification.runs_in_float64 is False and not verification.given:
        said += " The subject does not run in float64, so beyond the floor torch.testing's rtol and atol decide."
    outcome, severity = Outcome.OK, Severity.INFO
    if not comparison.ok:
        outcome, severity = Outcome.FAILED, Severity.ERROR
        message = (
            f"The {what} differs from eager in {runtime} on {worst.case.what}: {comparison.reason} "
            f"({comparison.ulps:.3g} ULPs, relative {comparison.relative:.2g}).{said}"
        )
    elif result not in verification.finite:
        outcome, severity = Outcome.UNDECIDED, Severity.WARNING
        message = (
            f"The {what} is nan or infinite in every element on every input, so nothing was compared in {runtime}."
        )
    elif share > UNDECIDED and (branches is None or branches > UNDECIDED):
        outcome, severity = Outcome.UNDECIDED, Severity.WARNING
        message = (
            f"The {what} agrees with eager in {runtime}, but there is no oracle for more than {UNDECIDED:.0%} of its "
            f"elements: give inputs off the ties, or rtol and atol.{said}"
        )
    else:
        at = f" ({comparison.worst_element})" if comparison.worst else ""
        message = (
            f"The {what} agrees with eager in {runtime} on {_plain_count(verification)} inputs: "
            f"at most {comparison.ulps:.3g} ULPs, relative {comparison.relative:.2g}{at}.{said}"
        )
    key, kind = f"agrees-with-eager/{runtime}/{result}", verification.roles[result]
    return _of(verification, key, outcome, kind, severity, message, worst)


def edge_values(
    verification: Verification,
    rule: VerifyRule,
    runtime: str,
    result: str,
    worst: Worst,
    judged: list[tuple[Worst, Verdict]],
) -> Finding:
    """What the cases with edge values or ties say: held, a runtime's own deviation, an overflow of eager's, or a
    failure.

    Args:
        worst: the worst of them.
        judged: the cases that differ, each with what the vote says of it.
    """
    what = f"the {verification.roles[result]} {result!r}"
    outcome, severity, kind = Outcome.OK, Severity.INFO, str(verification.roles[result])
    hold = "equal elements" if rule is VerifyRule.TIES else "nan, inf and zeros"
    message = f"{what} agrees with eager in {runtime} where inputs hold {hold}."
    if judged:
        matters = [(_matter(worst, verdict, runtime), worst, verdict) for worst, verdict in judged]
        matter, worst, verdict = max(matters, key=lambda one: _ORDER.index(one[0]))
        outcome, named, severity, lead = _MATTERS[matter]
        kind = named or kind
        message = f"{lead.format(what=what, runtime=runtime)} with {worst.case.what}: {worst.comparison.reason}. "
        message += verdict.sentence
        if rule is VerifyRule.TIES and outcome != Outcome.OK:
            message += " Torch leaves open which of several equal elements is taken; if that is the cause, skip='ties'."
    message = message[0].upper() + message[1:]
    return _of(verification, f"{rule}/{runtime}/{result}", outcome, kind, severity, message, worst)


def _of(
    verification: Verification, key: str, outcome: Outcome, kind: str, severity: Severity, message: str, worst: Worst
) -> Finding:
    """A Finding about the worst comparison of a result."""
    figure, case = worst.comparison.ulps, worst.case.what
    return _about(verification, key, outcome, kind, severity, message, figure=figure, unit="ULP", input=case)


def who_is_wrong(verification: Verification, result: str, worst: Worst, verdict: Verdict) -> Finding:
    """Whom the vote names for a result that differs."""
    judged = (
        (Outcome.FAILED, verdict.culprit, Severity.ERROR)
        if verdict.culprit
        else (Outcome.UNDECIDED, "tie", Severity.WARNING)
    )
    said = f"{verification.roles[result].capitalize()} {result!r}: {verdict.sentence}"
    return _about(verification, f"who-is-wrong/{result}", *judged, said, input=worst.case.what)


def first_node(verification: Verification, result: str, worst: Worst, found: Found) -> Finding:
    """The node at which a result begins to depart."""
    key, kind, case = f"first-node/{result}", f"{found.phase} {found.op_type}", worst.case.what
    return _about(
        verification, key, Outcome.FAILED, kind, Severity.ERROR, found.sentence, input=case, place=found.place
    )


def deadly(verification: Verification, cases: list[str]) -> Iterator[Finding]:
    """A Finding where eager itself kills its process, so that there is nothing to compare with."""
    if cases:
        said = f"The subject kills its process in eager torch on {'; '.join(cases)}, so these were left out."
        left_out = (Outcome.SKIPPED, "eager crashes", Severity.WARNING)
        yield _about(
            verification, "runs/eager", *left_out, said, figure=float(len(cases)), unit="cases", input=cases[0]
        )


def not_reached(verification: Verification, left: list[str]) -> Finding:
    """The cases that the budget did not reach."""
    said = f"The budget does not reach these inputs; a larger one does: {'; '.join(left)}."
    judged = (Outcome.SKIPPED, "not reached", Severity.WARNING)
    return _about(verification, "budget/not-reached", *judged, said, figure=float(len(left)), unit="cases")


def too_late(verification: Verification, left: list[str], deadline: Deadline) -> Finding:
    """The cases that the time limit kept from being tried."""
    said = f"The time limit of {deadline.seconds:g} s was over before these inputs: {'; '.join(left)}."
    judged = (Outcome.UNDECIDED, "not reached", Severity.WARNING)
    return _about(verification, "time-limit/not-reached", *judged, said, figure=float(len(left)), unit="cases")


_MATTERS = {
    "range": (
        Outcome.OK,
        "overflow",
        Severity.INFO,
        "At the end of its dtype's range {what} overflows elsewhere than in eager",
    ),
    "eager": (Outcome.OK, "eager departs", Severity.WARNING, "Only eager differs from float64 in {what}"),
    "loud": (Outcome.OK, "nan spreads", Severity.WARNING, "In {what} nan or inf stands where eager has another value,"),
    "deviation": (
        Outcome.OK,
        "runtime deviation",
        Severity.WARNING,
        "alone {runtime} departs from ONNX's definition of {what}",
    ),
    "tie": (Outcome.UNDECIDED, "", Severity.WARNING, "{what} differs from eager in {runtime}"),
    "graph": (Outcome.FAILED, "", Severity.ERROR, "{what} differs from eager in {runtime}"),
}
"""What may be the matter with a result on edge values: outcome, kind, severity and how the message begins."""

_ORDER = list(_MATTERS)


def _matter(worst: Worst, verdict: Verdict, runtime: str) -> str:
    if worst.case.overflows:
        return "range"
    if verdict.culprit == "eager":
        return "eager"
    if worst.comparison.loud:
        return "loud"  # nothing is swallowed: 0 times inf, where eager leaves the product out
    if verdict.culprit is None:
        return "tie"
    return "graph" if verdict.culprit == "the exported graph" or runtime not in _name_runtimes(verdict) else "deviation"


def _name_runtimes(verdict: Verdict) -> set[str]:
    """The runtimes of the families that the vote names."""
    return {voice.name for voice in verdict.voices if voice.family in (verdict.culprit or "").split(" and ")}


def _not_run(verification: Verification, runtime: str, reason: ProgramError) -> Finding:
    """ONNX Runtime is what the model is for; the second opinion may lack an operator."""
    kind = "no kernel" if isinstance(reason, NoKernel) else "absent" if isinstance(reason, Absent) else "fails"
    needed = kind == "fails" and runtime != "reference"
    outcome = Outcome.FAILED if needed else Outcome.SKIPPED
    severity = Severity.ERROR if needed else Severity.INFO if kind == "absent" else Severity.WARNING
    case = verification.cases[0] if verification.cases and kind == "fails" else None
    return _about(verification, f"runs/{runtime}", outcome, kind, severity, str(reason), input=case)


def _plain_count(verification: Verification) -> int:
    return len(verification.cases) - verification.edge_count
