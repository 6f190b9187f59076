"""Compares the backward with central differences, and with autograd of the forward's own operators."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from gradport.checking.probes.directions import measure_along
from gradport.checking.probes.expectation import Expectation, expectations, is_accepted
from gradport.checking.probes.judging import judge
from gradport.checking.probes.kinds import Kind, classify
from gradport.checking.probes.samples import BackwardCall, Sample, by_differences, by_operators, is_piecewise_constant
from gradport.checking.probes.trial import Trial
from gradport.checking.table import Topic, rule
from gradport.eager.joint import Slot
from gradport.errors import SpecError
from gradport.evidence.distance import relative_distance
from gradport.evidence.evidence import Finding, Outcome, Severity
from gradport.subject.leaves import replace_leaves
from gradport.subject.ports import Role

__all__ = ["backward_against_differences", "backward_against_operators"]


@rule(
    Topic.GRADIENT, "differences", "Is the backward the derivative of the forward, by central differences in float64?"
)
def backward_against_differences(trial: Trial) -> Iterator[Finding]:
    """Yields one Finding for each argument."""
    calls = by_differences(trial)
    if callable(trial.joint.subject.expect):
        yield from _against_callable(trial, calls, trial.joint.subject.expect)
    else:
        yield from _judge("differences", "differences give", trial, calls, calls)
        yield from _judge_direction(trial, calls)


@rule(Topic.GRADIENT, "operators", "Is the backward equal to autograd of the forward's own operators?")
def backward_against_operators(trial: Trial) -> Iterator[Finding]:
    """Yields one Finding for each argument; skipped if the forward's operators are not differentiable."""
    if callable(trial.joint.subject.expect):
        yield _report_skipped(trial, "the backward is declared by a callable; the rule 'differences' compares them")
        return
    own = by_operators(trial)
    if own is None:
        yield _report_skipped(trial, "the forward's own operators do not run under autograd")
        return
    differences = by_differences(trial)
    sound = {slot: calls for slot, calls in own.items() if _is_derivative(calls, differences[slot])}
    for slot in own:
        if slot not in sound:
            yield _report_skipped(trial, "the forward detaches, rounds or writes past autograd", slot)
    yield from _judge("operators", "the forward's own operators give", trial, sound, differences)


def _judge_direction(trial: Trial, calls: Mapping[Slot, list[BackwardCall]]) -> Iterator[Finding]:
    """Checks large arguments, of which only some elements were checked, along a random direction."""
    large = [slot for slot in calls if trial.inputs[0][slot].numel() > trial.elements]
    derivative = [slot for slot in large if all(s.agrees for call in calls[slot] for s in call.samples)]
    if not derivative or trial.is_random:
        return
    for one in measure_along(trial, trial.inputs[0]):
        if one.slot not in derivative or one.slope.nature != "smooth":
            continue
        gap = abs(one.got - one.slope.value) / max(abs(one.got), abs(one.slope.value), one.norm, 1e-300)
        message = (
            f"Along a random direction through all {trial.inputs[0][one.slot].numel()} elements of {one.slot.name} "
            f"the backward gives {one.got:.6g}, differences give {one.slope.value:.6g}"
        )
        if one.departs:
            message += "; the elements that were checked one by one are correct, so others are wrong"
        yield judge(
            trial,
            "differences",
            f"{one.slot.name} whole",
            not one.departs,
            message + ".",
            kind="wrong" if one.departs else "derivative",
            figure=gap,
            unit="relative",
        )


def _judge(
    rule_name: str,
    source: str,
    trial: Trial,
    calls: Mapping[Slot, list[BackwardCall]],
    differences: Mapping[Slot, list[BackwardCall]],
) -> Iterator[Finding]:
    declared = expectations(trial.joint, trial.joint.subject.expect)
    seen = {slot: list(each) for slot, each in calls.items() if any(call.samples for call in each)}
    constant = {slot: is_piecewise_constant(differences, slot) for slot in calls}
    # both rules use the same name for one gradient: the name from the differences, if they have samples
    kinds = {slot: _name_kind(each, differences[slot], constant[slot]) for slot, each in seen.items()}
    match = {slot: is_accepted(declared[slot.name], kinds[slot], seen[slot], constant[slot]) for slot in seen}
    for slot in calls:
        if slot not in seen:
            yield _report_undecided(rule_name, trial, slot)
            continue
        expectation = declared[slot.name]
        # a declaration for all arguments must match at least one of them; the others may be derivatives
        if match[slot] and kinds[slot].name == "wrong":  # it was declared as a surrogate
            kinds[slot] = dataclasses.replace(kinds[slot], name="surrogate")
        held = match[slot] or (kinds[slot].name == "derivative" and not expectation.alone and any(match.values()))
        yield _finding(rule_name, source, trial, slot, kinds[slot], seen[slot], held, constant[slot], expectation)


def _name_kind(calls: Sequence[BackwardCall], differences: Sequence[BackwardCall], constant: bool) -> Kind:
    kind = classify(calls, constant)
    if kind.name == "derivative" or not any(call.samples for call in differences):
        return kind
    usual = classify(differences, constant)
    if usual.name in ("derivative", kind.name):
        return kind
    return dataclasses.replace(kind, name=usual.name, expect=usual.expect, factor=usual.factor, masked=usual.masked)


def _finding(
    rule_name: str,
    source: str,
    trial: Trial,
    slot: Slot,
    kind: Kind,
    calls: Sequence[BackwardCall],
    held: bool,
    constant: bool,
    expectation: Expectation,
) -> Finding:
    looked = f"{sum(len(call.samples) for call in calls)} elements of {len(calls)} backward calls"
    message = f"The gradient of {slot.name} is {_describe(kind, constant)}"
    if kind.worst is not None:
        place, got, want = _place(slot, kind.worst), kind.worst.got, kind.worst.want
        message += f": at {place} the backward gives {got:.6g}, {source} {want:.6g}"
        if all(call.missing for call in calls):
            message += " (it returns None)"
    message += f" ({looked})."
    if not held:
        message += _advice(slot, kind, expectation)
    return Finding(
        key=f"{rule_name}/{slot.name}",
        rule=rule_name,
        outcome=Outcome.OK if held else Outcome.FAILED,
        kind=kind.name,
        severity=Severity.INFO if held else Severity.ERROR,
        figure=kind.figure,
        unit="relative",
        input=_place(slot, kind.worst) if kind.worst is not None else None,
        where=trial.where(),
        message=message,
    )


def _describe(kind: Kind, constant: bool) -> str:
    if kind.name == "derivative":
        return f"the derivative, to {kind.figure:.1g} relative"
    forward = "where the forward is piecewise constant" if constant else "and not the derivative of the forward"
    return {
        "straight-through": f"straight-through {_reach(kind)} {forward}",
        "surrogate": f"a surrogate {forward}",
        "clipped": "the derivative, clipped",
    }.get(kind.name, kind.name if kind.name == "wrong" else f"the derivative {kind.name}")


def _reach(kind: Kind) -> str:
    """The interval where a straight-through gradient is the cotangent."""
    if kind.masked is None:
        return "at all checked elements"
    low, high = kind.masked
    return f"from {low:.6g} to {high:.6g} and zero outside"


def _advice(slot: Slot, kind: Kind, expectation: Expectation) -> str:
    declared = f" It is declared as {str(expectation)!r}." if expectation.kind is not None else ""
    if kind.name == "wrong":
        return declared
    return f'{declared} If this is intended, declare expect={{"{slot.name}": "{kind.expect}"}}.'


def _place(slot: Slot, sample: Sample) -> str:
    index = f"[{', '.join(map(str, sample.index))}]" if sample.index else ""
    cotangent = "".join(f" with a cotangent of {value:.6g}" for value in list(sample.cotangents.values())[:1])
    return f"{slot.name}{index} = {sample.x:.6g}{cotangent}"


def _is_derivative(own: Sequence[BackwardCall], differences: Sequence[BackwardCall]) -> bool:
    """Whether autograd of the forward's operators agrees with the differences at the elements that both checked."""
    exact = {(call.input, call.size, sample.index): sample.left for call in own for sample in call.samples}
    for call in differences:
        for sample in call.samples:
            value = exact.get((call.input, call.size, sample.index))
            if value is None:
                continue
            low, high = sorted((sample.left, sample.right))
            slack = 16 * sample.error + 1e-6 * max(abs(value), abs(low), abs(high)) + 1e-12
            if not low - slack <= value <= high + slack:
                return False
    return True


def _against_callable(
    trial: Trial, calls: Mapping[Slot, list[BackwardCall]], expected: Callable[..., Any]
) -> Iterator[Finding]:
    """Compares the backward with the user's gradient, on every element of every input."""
    worst: dict[Slot, float] = dict.fromkeys(trial.joint.wanted, 0.0)
    for tensors in trial.inputs:
        seeded = trial.seeded_outputs(tensors)
        cotangents = {name: torch.randn(v.shape, generator=trial.generator).to(v.dtype) for name, v in seeded.items()}
        wanted = _declared_gradients(trial, tensors, cotangents, expected)
        got = trial.gradients(tensors, cotangents)
        for slot in trial.joint.wanted:
            declared, actual = wanted[slot], got[slot]
            declared = torch.zeros_like(tensors[slot]) if declared is None else declared
            actual = torch.zeros_like(tensors[slot]) if actual is None else actual
            worst[slot] = max(worst[slot], relative_distance(actual, declared))
    for slot, figure in worst.items():
        held = figure <= 1e-6
        kind = classify(calls[slot], is_piecewise_constant(calls, slot)).name if calls[slot] else ""
        yield Finding(
            key=f"differences/{slot.name}",
            rule="differences",
            outcome=Outcome.OK if held else Outcome.FAILED,
            kind=kind,
            severity=Severity.INFO if held else Severity.ERROR,
            figure=figure,
            unit="relative",
            where=trial.where(),
            message=f"The gradient of {slot.name} {'is' if held else 'is not'} the declared gradient: "
            f"they differ by at most {figure:.2g} relative.",
        )


def _declared_gradients(
    trial: Trial,
    tensors: Mapping[Slot, torch.Tensor],
    cotangents: Mapping[str, torch.Tensor],
    expected: Callable[..., Any],
) -> dict[Slot, torch.Tensor | None]:
    """The result of `expect(cotangents, *arguments)` by argument.

    Raises:
        SpecError: the number of gradients matches neither the wanted arguments nor all arguments.
    """
    subject = trial.joint.subject
    by_path = {a.path: tensors[Slot(Role.ARGUMENT, a.name)] for a in trial.joint.arguments}
    given = replace_leaves({"args": subject.args, "kwargs": subject.kwargs}, by_path)
    cotangent: Any = tuple(cotangents.values())
    result = expected(cotangent[0] if len(cotangent) == 1 else cotangent, *given["args"], **given["kwargs"])
    result = result if isinstance(result, tuple) else (result,)
    wanted = trial.joint.wanted
    if len(result) == len(wanted):
        return dict(zip(wanted, result, strict=True))
    leaves = sorted((*trial.joint.arguments, *trial.joint.statics), key=lambda leaf: str(leaf.path))
    names = list(dict.fromkeys(leaf.of for leaf in leaves))
    if len(result) == len(names):
        by_name = dict(zip(names, result, strict=True))
        return {slot: by_name[slot.name] for slot in wanted}
    raise SpecError(
        f"expect= of {subject.name} returned {len(result)} gradients; "
        f"return one for each of {', '.join(slot.name for slot in wanted)}."
    )


def _report_undecided(rule_name: str, trial: Trial, slot: Slot) -> Finding:
    return Finding(
        key=f"{rule_name}/{slot.name}",
        rule=rule_name,
        outcome=Outcome.UNDECIDED,
        severity=Severity.WARNING,
        where=trial.where(),
        message=f"The forward is not smooth at any checked element of {slot.name}; give other inputs.",
    )


def _report_skipped(trial: Trial, reason: str, slot: Slot | None = None) -> Finding:
    about = "" if slot is None else f"/{slot.name}"
    return Finding(
        key=f"operators{about}",
        rule="operators",
        outcome=Outcome.SKIPPED,
        where=trial.where(),
        message=f"Skipped{f' for {slot.name}' if slot else ''}: {reason}.",
    )
