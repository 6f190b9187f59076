"""Tests whether random numbers drawn by a file are uniform or normal, and independent.

Each statistic is compared with its expected value; a threshold of six standard errors is exceeded by chance once in
five hundred million times.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch

from gradport.lowering.passes.generators import extract_generators
from gradport.model.program import Program

__all__ = ["faults_of_draws"]

_ERRORS = 6.0
"""Allowed deviation of a statistic, in standard errors."""

_NUMBERS = 1 << 14
"""Minimum number of values drawn for each random tensor."""

_RUNS = (8, 4096)
"""Minimum and maximum number of runs of the generators."""

_MEANS = {"uniform": (0.5, 1 / 12), "normal": (0.0, 1.0)}
"""Mean and variance."""

_FOURTH = {"uniform": 1 / 80, "normal": 3.0}
"""Fourth central moment."""


def faults_of_draws(program: Program, feeds: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """The fault of each random tensor that a Program draws, by name; empty without a fault.

    Args:
        program: the Program with its generators.
        feeds: a tensor for each of its inputs, which determine the sizes of the draws.

    Raises:
        ProgramError: the generators do not run.
    """
    generators = extract_generators(program)
    if generators is None:
        return {}
    own = {spec.name: feeds[spec.name] for spec in generators.inputs}
    first = generators.run_named(own)
    smallest = min((tensor.numel() for tensor in first.values() if tensor.numel()), default=1)
    runs = min(max(_NUMBERS // smallest, _RUNS[0]), _RUNS[1])
    drawn = [first, *(generators.run_named(own) for _ in range(runs - 1))]
    kinds = program.provenance["distributions"]
    rows = {name: torch.stack([run[name].double().reshape(-1) for run in drawn]) for name in first}
    faults: dict[str, str] = {}
    for name, values in rows.items():
        fault = next(_faults(values, kinds[name]), None) if values.numel() else None
        if fault is not None:
            faults[name] = fault
    for one, other in _pairs(rows):
        if one not in faults and _are_related(rows[one], rows[other]):
            faults[one] = f"it is correlated with {other!r}"
    return faults


def _faults(values: torch.Tensor, kind: str) -> Iterator[str]:
    """The faults in the draws of one tensor, shape (runs, elements), as the end of a sentence."""
    flat = values.reshape(-1)
    count = flat.numel()
    if not bool(flat.isfinite().all()):
        yield "some of its numbers are not finite"
        return
    if kind == "uniform" and not bool(((flat >= 0) & (flat <= 1)).all()):
        yield f"its numbers lie in [{float(flat.min()):.3g}, {float(flat.max()):.3g}] instead of [0, 1)"
    mean, variance = _MEANS[kind]
    if abs(float(flat.mean()) - mean) > _ERRORS * math.sqrt(variance / count):
        yield f"its mean is {float(flat.mean()):.4g} instead of {mean:g}"
    spread = math.sqrt((_FOURTH[kind] - variance**2) / count)
    if abs(float((flat - mean).square().mean()) - variance) > _ERRORS * spread:
        yield f"its variance is {float((flat - mean).square().mean()):.4g} instead of {variance:.4g}"
    if _distance(flat, kind) * math.sqrt(count) > 3.5:  # Kolmogorov's distribution: once in 10^10 times
        yield f"its numbers are not {kind}"
    if values.shape[0] > 1 and _are_related(values[:-1], values[1:]):
        yield "each run is correlated with the previous run"
    if values.shape[1] > 1 and _are_related(values[:, :-1], values[:, 1:]):
        yield "neighbouring elements are correlated"


def _distance(flat: torch.Tensor, kind: str) -> float:
    """The largest distance between the empirical and the expected distribution function."""
    ordered = flat.sort().values
    wanted = ordered if kind == "uniform" else torch.special.ndtr(ordered)
    steps = torch.arange(1, flat.numel() + 1, dtype=torch.float64) / flat.numel()
    return float(torch.maximum((wanted - steps).abs(), (wanted - steps + 1 / flat.numel()).abs()).max())


def _are_related(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two draws of one shape are correlated."""
    a, b = one.reshape(-1), other.reshape(-1)
    count = min(a.numel(), b.numel())
    a, b = a[:count] - a[:count].mean(), b[:count] - b[:count].mean()
    size = float(a.norm() * b.norm())
    return size > 0 and abs(float(a @ b)) / size > _ERRORS / math.sqrt(count)


def _pairs(rows: Mapping[str, torch.Tensor]) -> Iterator[tuple[str, str]]:
    """Pairs of each draw with the earlier draws of the same shape, among the previous eight."""
    names = [name for name in rows if rows[name].numel()]
    for at, name in enumerate(names):
        for other in names[max(at - 8, 0) : at]:
            if rows[name].shape == rows[other].shape:
                yield name, other
