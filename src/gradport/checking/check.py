"""check: from a Subject to Evidence. Runs all rules on the same float64 inputs."""

from __future__ import annotations

from collections.abc import Sequence

from gradport.checking.probes.expectation import expectations
from gradport.checking.probes.parts import split_complex
from gradport.checking.table import RULES, Rule, choose_rules
from gradport.checking.workers import Examination, RuleResults, examine
from gradport.eager.inputs import with_example
from gradport.eager.joint import Joint, every_gradient
from gradport.evidence.evidence import Evidence, Finding, Outcome, Severity, environment
from gradport.evidence.settings import Command, settings_of
from gradport.isolation.effort import Deadline, Effort, as_effort, as_seconds
from gradport.subject.given import Arguments, Expectation, Inputs, Keywords, Target
from gradport.subject.signature import place_of_gradient, source_of
from gradport.subject.subject import as_subject

__all__ = ["check"]

LIMIT = 60.0
"""Minimum limit of processor time for one rule, in seconds."""


def check(
    subject: Target,
    args: Arguments = (),
    kwargs: Keywords = None,
    *,
    expect: Expectation = None,
    inputs: Inputs = None,
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
    profile: str = "default",
    budget: float = 1.0,
    time_limit: float | str | None = None,
    seed: int = 0,
    thorough: bool = False,
) -> Evidence:
    """Determines which gradient the backward of a Function computes, and whether it is accepted.

    Without a declaration, the derivative of the forward is accepted. A straight-through or surrogate gradient is
    accepted only if the forward is piecewise constant. Every other gradient fails, and the message shows the `expect=`
    that would accept it. A declared backward must match its declaration. The check runs in float64 and needs no ONNX.

    Args:
        subject, args, kwargs: a `Subject`, or a target with its example arguments. Without `wrt` the gradients of all
            inputs and of a module's parameters are checked.
        expect: "derivative", "straight-through", "surrogate", "clipped", "scaled by -0.5"; a callable
            `(cotangents, *arguments) -> gradients`; or a mapping of arguments to these (absent: derivative).
        inputs: how to draw random inputs: ranges, values or strategies by name, or a callable.
        only, skip: names of rules.
        profile: "quick" (fewer rules, inputs and elements), "default", or "thorough" (more of each, inductor, and the
            cost of forward and backward). Rules that a profile skips are listed as skipped.
        budget: factor of the amount of work: 0.2, 1, 5. A verdict does not depend on how busy the machine is.
        time_limit: seconds, or a text such as "30s", after which no further rule starts; the remaining rules are
            undecided. None: no limit.
        seed: of inputs, cotangents and torch's generator before each call.
        thorough: deprecated; the same as profile="thorough".

    Settings in `[tool.gradport.check."module:Name"]` of the nearest pyproject.toml (`expect`, `skip`, `reason`) are
    the defaults; an `expect` of the call overrides them.

    Returns:
        Evidence with a Finding for each rule and argument.

    Raises:
        TargetError: the subject rejects its own example.
        SpecError: an option is invalid.
    """
    described = with_example(as_subject(subject, args, kwargs, expect=expect, inputs=inputs))
    settings = settings_of(described, Command.CHECK, RULES)
    if described.expect is None and settings.expect is not None:
        described = described.replace(expect=settings.expect)
    described = split_complex(described)
    rules = [rule for rule in choose_rules(only, skip) if rule.name not in settings.skip]
    effort = as_effort("thorough" if thorough else profile, budget)
    joint = Joint(described if described.wrt is not None else described.replace(wrt=every_gradient(described)))
    if not callable(described.expect):
        expectations(joint, described.expect)
    examination = Examination(joint, seed, effort, Deadline(as_seconds(time_limit)), LIMIT)
    running = [rule for rule in rules if effort.profile in rule.profiles]
    results = examine(examination, running)
    findings = settings.findings()
    findings += (
        _report_broken(joint, rules, results.broken) if results.broken else _order_findings(rules, results, effort)
    )
    file, line = source_of(described.target)
    return Evidence(
        subject=described.name,
        findings=tuple({finding.key: finding for finding in reversed(findings)}.values())[::-1],
        source={"file": file, "line": line},
        environment=environment(),
    )


def _order_findings(rules: Sequence[Rule], results: RuleResults, effort: Effort) -> list[Finding]:
    """The Findings of all rules, in the order of the table."""
    by_rule = {rule.name: results.findings.get(rule.name, [_report_left_out(rule, effort)]) for rule in rules}
    return [finding for rule in rules for finding in by_rule[rule.name]]


def _report_left_out(rule: Rule, effort: Effort) -> Finding:
    profile = rule.profiles[0]
    message = f"Skipped: not part of the profile {str(effort.profile)!r}; use profile={str(profile)!r}."
    return Finding(key=f"{rule.name}/profile", rule=rule.name, outcome=Outcome.SKIPPED, message=message)


def _report_broken(joint: Joint, rules: Sequence[Rule], broken: str) -> list[Finding]:
    """One failed Finding for a backward that does not run; all other rules are skipped."""
    where = place_of_gradient(joint.subject.target)
    failed = Finding(
        "contract/returns", "contract", Outcome.FAILED, "returns", Severity.ERROR, where=where, message=broken
    )
    reason = "Skipped: the backward fails."
    return [failed] + [
        Finding(rule.name, rule.name, Outcome.SKIPPED, where=where, message=reason)
        for rule in rules
        if rule.name != "contract"
    ]
