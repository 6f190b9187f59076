"""check: Subject to Evidence. Runs the rules one after the other on the same float64 inputs."""

from __future__ import annotations

from collections.abc import Sequence

from gradport.checking.probes.expectation import expectations
from gradport.checking.probes.parts import in_real_parts
from gradport.checking.table import RULES, Rule, choose_rules
from gradport.checking.workers import Examination, RuleResults, examine
from gradport.compat.torch.selftest import require_hooks
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
"""Seconds of processor time for one rule, at least."""


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
    """Says what the backward of a Function is, and whether that is accepted.

    Undeclared, the derivative of the forward is; a straight-through or surrogate gradient is where the forward is
    piecewise constant. Everything else fails, and the message shows the `expect=` that would accept it. A declared
    backward is held to its declaration. It runs in float64 and needs no ONNX.

    Args:
        subject, args, kwargs: a `Subject`, or what one is made from. Without `wrt` the gradients of all inputs are
            examined, and those of a module's parameters.
        expect: "derivative", "straight-through", "surrogate", "clipped", "scaled by -0.5"; a callable
            `(cotangents, *arguments) -> gradients`; or a mapping of arguments to these (absent: derivative).
        inputs: where fresh inputs come from.
        only, skip: names of rules.
        profile: "quick" (fewer rules, inputs and elements), "default", or "thorough" (more of each, inductor, and what
            forward and backward cost). Rules that a profile leaves out are listed as skipped.
        budget: factor of the amount of work: 0.2, 1, 5. A verdict does not depend on how busy the machine is.
        time_limit: seconds, or a text such as "30s", after which no further rule is begun; what was not asked is
            undecided. None: no limit.
        seed: of inputs, cotangents and torch's generator before each call.
        thorough: deprecated; the same as profile="thorough".

    What `[tool.gradport.check."module:Name"]` in the nearest pyproject.toml says (`expect`, `skip`, `reason`) holds
    where the call says nothing.

    Returns:
        Evidence with a Finding for each rule and argument.

    Raises:
        TargetError: the subject rejects its own example.
        SpecError: an option does not hold together.
    """
    require_hooks()
    described = with_example(as_subject(subject, args, kwargs, expect=expect, inputs=inputs))
    said = settings_of(described, Command.CHECK, RULES)
    if described.expect is None and said.expect is not None:
        described = described.replace(expect=said.expect)
    described = in_real_parts(described)
    rules = [rule for rule in choose_rules(only, skip) if rule.name not in said.skip]
    effort = as_effort("thorough" if thorough else profile, budget)
    joint = Joint(described if described.wrt is not None else described.replace(wrt=every_gradient(described)))
    if not callable(described.expect):
        expectations(joint, described.expect)
    examination = Examination(joint, seed, effort, Deadline(as_seconds(time_limit)), LIMIT)
    asking = [rule for rule in rules if effort.profile in rule.profiles]
    results = examine(examination, asking)
    findings = said.findings()
    findings += _none_asked(joint, rules, results.broken) if results.broken else _in_order(rules, results, effort)
    file, line = source_of(described.target)
    return Evidence(
        subject=described.name,
        findings=tuple({finding.key: finding for finding in reversed(findings)}.values())[::-1],
        source={"file": file, "line": line},
        environment=environment(),
    )


def _in_order(rules: Sequence[Rule], results: RuleResults, effort: Effort) -> list[Finding]:
    """Every rule's Findings, in the table's order."""
    found = {rule.name: results.findings.get(rule.name, [_list_left_out(rule, effort)]) for rule in rules}
    return [finding for rule in rules for finding in found[rule.name]]


def _list_left_out(rule: Rule, effort: Effort) -> Finding:
    profile = rule.profiles[0]
    message = f"Skipped: the profile {str(effort.profile)!r} leaves it out; ask for profile={str(profile)!r}."
    return Finding(key=f"{rule.name}/profile", rule=rule.name, outcome=Outcome.SKIPPED, message=message)


def _none_asked(joint: Joint, rules: Sequence[Rule], broken: str) -> list[Finding]:
    """One failed Finding; the rules have nothing to look at."""
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
