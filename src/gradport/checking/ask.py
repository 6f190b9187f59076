"""Runs one rule on one Trial within its time limit, and searches for the smallest input that fails."""

from __future__ import annotations

import traceback

from gradport.checking.probes.trial import Trial
from gradport.checking.search import recall_failure, shrink_failure
from gradport.checking.table import Rule
from gradport.eager.joint import Joint
from gradport.errors import Error, TargetError
from gradport.evidence.evidence import Finding, Outcome, Severity
from gradport.isolation.effort import Deadline
from gradport.isolation.limit import TimeUp, limit_time
from gradport.subject.signature import place_of_gradient

__all__ = ["ask_rule", "report_endless", "report_late"]


def ask_rule(trial: Trial, rule: Rule, limit: float) -> list[Finding]:
    """Runs a rule and returns its Findings.

    Returns one Finding with the reason if the subject fails, if the rule takes more than `limit` seconds of processor
    time, or if the rule itself raises.
    """
    try:
        with limit_time(limit):
            return _answer_smallest(trial, rule)
    except TargetError as error:
        return [_describe_failure(rule.name, error, trial)]
    except TimeUp:
        return [report_endless(rule.name, trial.joint, limit)]
    except Exception as error:
        return [_report_fault(rule.name, error, trial)]


def _answer_smallest(trial: Trial, rule: Rule) -> list[Finding]:
    """The rule's Findings, the first failure at the smallest input that shows it."""
    findings = list(rule.answer(trial))
    at = next((at for at, finding in enumerate(findings) if finding.outcome == Outcome.FAILED), None)
    if not rule.shrinks:
        return findings
    if at is None:
        recalled = recall_failure(trial, rule)
        return findings if recalled is None else [recalled, *(f for f in findings if f.key != recalled.key)]
    findings[at] = shrink_failure(trial, rule, findings[at])
    return findings


def report_endless(rule: str, joint: Joint, limit: float) -> Finding:
    """The Finding for a rule that exceeded its processor time."""
    message = (
        f"The rule needed more than {limit:.3g} s of processor time: {joint.subject.name} may loop on one of its "
        "inputs. Set a larger budget if it is only slow, or skip the rule with skip=."
    )
    return Finding(
        key=f"{rule}/time",
        rule=rule,
        outcome=Outcome.UNDECIDED,
        severity=Severity.WARNING,
        figure=limit,
        unit="s",
        where=place_of_gradient(joint.subject.target),
        message=message,
    )


def report_late(rule: str, deadline: Deadline) -> Finding:
    """The Finding for a rule that did not start within the time limit."""
    message = f"The time limit of {deadline.seconds:g} s was over before this rule."
    return Finding(
        key=f"{rule}/time-limit", rule=rule, outcome=Outcome.UNDECIDED, severity=Severity.WARNING, message=message
    )


def _describe_failure(rule: str, error: Error, trial: Trial) -> Finding:
    return Finding(
        key=f"{rule}/runs",
        rule=rule,
        outcome=Outcome.FAILED,
        kind="wrong",
        severity=Severity.ERROR,
        where=trial.where(),
        message=str(error),
    )


def _report_fault(rule: str, error: Exception, trial: Trial) -> Finding:
    """The Finding for an exception inside gradport, which no subject should be able to cause."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{frames[-1].filename.rpartition('gradport/')[2]}:{frames[-1].lineno}" if frames else "?"
    message = (
        f"This rule has a bug ({type(error).__name__} at {place}: {error}); please report it. The other rules ran."
    )
    return Finding(
        key=f"{rule}/fault",
        rule=rule,
        outcome=Outcome.ERROR,
        severity=Severity.ERROR,
        where=trial.where(),
        message=message,
    )
