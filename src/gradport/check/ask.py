"""Asks one rule of one Trial: within its time, and for the smallest input that fails."""

from __future__ import annotations

from gradport.check.rules import Rule
from gradport.check.search import remembered, shrunk
from gradport.check.trial import Trial
from gradport.errors import Error, TargetError
from gradport.evidence import Finding
from gradport.limit import TimeUp, limited

__all__ = ["asked", "endless"]


def asked(trial: Trial, rule: Rule, limit: float) -> list[Finding]:
    """The rule's Findings; one that says so where the budget is spent, the subject fails or does not end in `limit`
    seconds."""
    if trial.out_of_time:
        return [_not_reached(rule.name)]
    try:
        with limited(limit):
            return _at_its_smallest(trial, rule)
    except TargetError as error:
        return [_broken(rule.name, error, trial)]
    except TimeUp:
        return [endless(rule.name, trial, limit)]


def _at_its_smallest(trial: Trial, rule: Rule) -> list[Finding]:
    """What a rule says, its first failure at the smallest input that shows it."""
    said = list(rule.answer(trial))
    at = next((at for at, finding in enumerate(said) if finding.outcome == "failed"), None)
    if not rule.shrinks or trial.out_of_time:
        return said
    if at is None:
        again = remembered(trial, rule)
        return said if again is None else [again, *(finding for finding in said if finding.key != again.key)]
    said[at] = shrunk(trial, rule, said[at])
    return said


def endless(rule: str, trial: Trial, limit: float) -> Finding:
    """A rule that did not come to an end."""
    message = f"The rule did not come to an end in {limit:g} s: the subject loops on some of its inputs."
    return Finding(
        key=f"{rule}/time",
        rule=rule,
        outcome="undecided",
        severity="warning",
        figure=limit,
        unit="s",
        where=trial.where(),
        message=message,
    )


def _not_reached(rule: str) -> Finding:
    message = "The budget was spent before it."
    return Finding(key=f"{rule}/budget", rule=rule, outcome="skipped", severity="warning", message=message)


def _broken(rule: str, error: Error, trial: Trial) -> Finding:
    return Finding(
        key=f"{rule}/runs",
        rule=rule,
        outcome="failed",
        kind="wrong",
        severity="error",
        where=trial.where(),
        message=str(error),
    )
