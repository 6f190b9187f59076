"""Asks one rule of one Trial: within its limit, and for the smallest input that fails."""

from __future__ import annotations

import traceback

from gradport.checking.probes.trial import Trial
from gradport.checking.search import recall_failure, shrunk
from gradport.checking.table import Rule
from gradport.eager.joint import Joint
from gradport.errors import Error, TargetError
from gradport.evidence.evidence import Finding, Outcome, Severity
from gradport.isolation.effort import Deadline
from gradport.isolation.limit import TimeUp, limit_time
from gradport.subject.signature import place_of_gradient

__all__ = ["ask_rule", "endless", "late"]


def ask_rule(trial: Trial, rule: Rule, limit: float) -> list[Finding]:
    """The rule's Findings; one that says why there are none, where the subject fails, does not come to an end within
    `limit` seconds of processor time, or where the rule itself is at fault."""
    try:
        with limit_time(limit):
            return _at_its_smallest(trial, rule)
    except TargetError as error:
        return [_describe_failure(rule.name, error, trial)]
    except TimeUp:
        return [endless(rule.name, trial.joint, limit)]
    except Exception as error:
        return [_fault(rule.name, error, trial)]


def _at_its_smallest(trial: Trial, rule: Rule) -> list[Finding]:
    """What a rule finds, its first failure at the smallest input that shows it."""
    found = list(rule.answer(trial))
    at = next((at for at, finding in enumerate(found) if finding.outcome == Outcome.FAILED), None)
    if not rule.shrinks:
        return found
    if at is None:
        again = recall_failure(trial, rule)
        return found if again is None else [again, *(finding for finding in found if finding.key != again.key)]
    found[at] = shrunk(trial, rule, found[at])
    return found


def endless(rule: str, joint: Joint, limit: float) -> Finding:
    """A rule that did not come to an end."""
    message = (
        f"The rule needed more than {limit:.3g} s of processor time: {joint.subject.name} may loop on one of its "
        "inputs. Give a larger budget if it is only slow, or leave the rule out with skip."
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


def late(rule: str, deadline: Deadline) -> Finding:
    """A rule that the time limit did not let begin."""
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


def _fault(rule: str, error: Exception, trial: Trial) -> Finding:
    """What no subject should be able to cause: an exception of ours."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{frames[-1].filename.rpartition('gradport/')[2]}:{frames[-1].lineno}" if frames else "?"
    message = (
        f"This rule has a fault ({type(error).__name__} at {place}: {error}); please report it. The other rules were "
        "asked."
    )
    return Finding(
        key=f"{rule}/fault",
        rule=rule,
        outcome=Outcome.ERROR,
        severity=Severity.ERROR,
        where=trial.where(),
        message=message,
    )
