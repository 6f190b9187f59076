"""check: Subject to Evidence. Runs the rules one after the other on the same float64 inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gradport.check.ask import asked
from gradport.check.expectation import expectations
from gradport.check.findings import judged, skipped
from gradport.check.isolation import Isolated
from gradport.check.parts import in_real_parts
from gradport.check.rules import Rule, chosen
from gradport.check.settings import settings_of
from gradport.check.trial import Trial
from gradport.compat.torch.selftest import require_hooks
from gradport.errors import TargetError
from gradport.evidence import Evidence, Finding, environment
from gradport.inputs import with_example
from gradport.joint import Joint, every_gradient
from gradport.signature import source_of
from gradport.subject import as_subject

__all__ = ["check"]

LIMIT = 30.0
"""Seconds for one rule."""


def check(
    subject: Any,
    args: Any = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    expect: Any = None,
    inputs: Any = None,
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
    budget: float | None = None,
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
        budget: seconds after which no further rule and no further input is begun.
        seed: of inputs, cotangents and torch's generator before each call.
        thorough: look at more inputs and more elements, compile with inductor too, and measure cost.

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
    said = settings_of(described)
    if described.expect is None and said.expect is not None:
        described = described.replace(expect=said.expect)
    described = in_real_parts(described)
    rules = [rule for rule in chosen(only, skip) if rule.name not in said.skip]
    joint = Joint(described if described.wrt is not None else described.replace(wrt=every_gradient(described)))
    if not callable(described.expect):
        expectations(joint, described.expect)
    trial = Trial(joint, seed=seed, budget=budget, thorough=thorough)
    trial.outputs(joint.examples())
    broken = _failure(trial)
    findings = said.findings()
    findings += _all_asked(trial, rules) if broken is None else _none_asked(trial, rules, broken)
    file, line = source_of(described.target)
    return Evidence(
        subject=described.name,
        findings=tuple({finding.key: finding for finding in reversed(findings)}.values())[::-1],
        source={"file": file, "line": line},
        environment=environment(),
    )


def _all_asked(trial: Trial, rules: Sequence[Rule]) -> list[Finding]:
    """Every rule's Findings, in the table's order."""
    found = {rule.name: [_left_out(rule)] for rule in rules if rule.thorough and not trial.thorough}
    asking = [rule for rule in rules if rule.name not in found]
    apart = Isolated(trial, [rule for rule in asking if rule.isolated], LIMIT)
    found |= {rule.name: asked(trial, rule, LIMIT) for rule in asking if not rule.isolated}
    found |= apart.findings()
    return [finding for rule in rules for finding in found[rule.name]]


def _left_out(rule: Rule) -> Finding:
    message = "Not looked at: the default profile leaves it out; ask for thorough=True, or --thorough."
    return Finding(key=f"{rule.name}/profile", rule=rule.name, outcome="skipped", message=message)


def _none_asked(trial: Trial, rules: Sequence[Rule], broken: TargetError) -> list[Finding]:
    """One failed Finding; the rules have nothing to look at."""
    failed = judged(trial, "contract", "returns", False, str(broken), kind="returns")
    others = [skipped(trial, rule.name, "", "the backward fails") for rule in rules if rule.name != "contract"]
    return [failed, *others]


def _failure(trial: Trial) -> TargetError | None:
    """Why forward and backward do not run on the example, or None."""
    try:
        trial.seeded(trial.joint.examples())
    except TargetError as error:
        return error
    return None
