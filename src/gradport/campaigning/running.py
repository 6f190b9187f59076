"""Runs one case in this process."""

from __future__ import annotations

import dataclasses
import random
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

from gradport.campaigning.cases import Action, Case, CaseOutcome, Options, Result
from gradport.campaigning.settings import Setting, settings
from gradport.campaigning.tasks import Task
from gradport.checking import check
from gradport.eager.inputs import with_every_gradient
from gradport.errors import Error, first_line
from gradport.evidence.evidence import Evidence, Finding, Outcome
from gradport.model.program import Program
from gradport.subject.paths import without_machine
from gradport.subject.signature import source_of
from gradport.subject.subject import Subject
from gradport.verifying.verify import verify

Axis = TypeVar("Axis")

__all__ = ["run_case", "setting_of", "summarize"]


def run_case(case: Case, found: Subject | Task, options: Options, **export_options: Any) -> Result:
    """The outcome of a case; exceptions of the user's code are outcomes too.

    Args:
        case: the case.
        found: its Subject or Task.
        options: the amount of work and the seed.
        **export_options: further arguments of `export`.
    """
    import torch

    torch.manual_seed(options.seed)
    random.seed(options.seed)
    if isinstance(found, Task):
        return _outcome_of(found.function, _line_of(found.function))
    where = _line_of(found.target)
    if case.action is Action.CHECK:
        return _outcome_of(
            lambda: check(found, profile=options.profile, budget=options.budget, seed=options.seed), where
        )
    result = _outcome_of(lambda: _verify(case, found, options, export_options), where)
    return _refusal(case, found, options, export_options, result) if result.outcome is CaseOutcome.FAILED else result


def setting_of(case: Case) -> Setting:
    """The setting of a case."""
    (setting,) = settings(
        _axis(case.opset), _axis(case.dtype), _axis(case.dynamic), _axis(case.functions), _axis(case.runtime)
    )
    return setting


def _axis(value: Axis | None) -> list[Axis]:
    return [] if value is None else [value]


def _refusal(case: Case, subject: Subject, options: Options, export_options: dict[str, Any], failed: Result) -> Result:
    """A failure as a refusal, if `export` does not return this file because its proof fails."""
    try:
        _export(case, subject, options, {**export_options, "verify": True})
    except Error as error:
        return dataclasses.replace(failed, outcome=CaseOutcome.REFUSED, message=str(error))
    except Exception:
        return failed
    return failed


def _export(case: Case, subject: Subject, options: Options, export_options: dict[str, Any]) -> tuple[Program, Subject]:
    setting = setting_of(case)
    applied = setting.apply(with_every_gradient(subject) if subject.wrt is None and options.gradients else subject)
    return setting.export_program(applied, **export_options), applied


def _verify(case: Case, subject: Subject, options: Options, export_options: dict[str, Any]) -> Evidence:
    # `verify` below replaces the check of `export`: there, a missing kernel is not a failure
    program, applied = _export(case, subject, options, {**export_options, "verify": False})
    runtimes = None if case.runtime is None else [case.runtime]
    return verify(program, applied, runtimes=runtimes, budget=options.budget, seed=options.seed)


def _outcome_of(measure: Callable[[], Evidence | None], where: str) -> Result:
    try:
        evidence = measure()
    except Error as error:
        return Result(CaseOutcome.REFUSED, message=str(error), where=where)
    except AssertionError as error:
        return Result(CaseOutcome.FAILED, message=first_line(error, 400) or "An assertion failed.", where=where)
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        message = f"{type(error).__name__}: {first_line(error, 400)} (at {place.filename}:{place.lineno})"
        return Result(CaseOutcome.ERROR, message=without_machine(message), where=where)
    if evidence is None:
        return Result(CaseOutcome.OK, where=where)
    if not isinstance(evidence, Evidence):
        message = f"The Task returned {type(evidence).__name__}; it must return gradport.Evidence or None."
        return Result(CaseOutcome.ERROR, message=message, where=where)
    return summarize(evidence, where)


def summarize(evidence: Evidence, where: str) -> Result:
    """The result of Evidence: its worst Finding, or the largest difference from eager."""
    text = evidence.to_json()
    compared = [one for one in evidence.findings if one.rule == "agrees-with-eager" and one.figure is not None]
    largest = max(compared, key=_figure, default=None)
    figure, unit = (None, "") if largest is None else (largest.figure, largest.unit)
    worst = next((one for kind in _WORST for one in evidence.findings if one.outcome is kind), None)
    lacking = next((one for one in evidence.findings if one.kind == "no kernel"), None)
    if lacking is not None and (worst is None or not compared):
        return Result(CaseOutcome.NO_KERNEL, lacking.rule, message=lacking.message, where=where, evidence=text)
    if worst is not None:
        outcome = CaseOutcome(worst.outcome)
        return Result(outcome, worst.rule, figure, unit, worst.message, worst.where or where, text)
    if evidence.findings and all(one.outcome is Outcome.SKIPPED for one in evidence.findings):
        return Result(CaseOutcome.SKIPPED, message=evidence.findings[0].message, where=where, evidence=text)
    return Result(CaseOutcome.OK, "", figure, unit, "", where, text)


_WORST = (Outcome.FAILED, Outcome.ERROR, Outcome.UNDECIDED)


def _figure(finding: Finding) -> float:
    return float("-inf") if finding.figure is None else finding.figure


def _line_of(target: Any) -> str:
    file, line = source_of(target)
    return f"{file}:{line}" if file else ""
