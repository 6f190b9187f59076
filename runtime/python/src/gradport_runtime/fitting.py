"""The loop over batches: epochs, validation, progress, history."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypedDict

import numpy as np

from gradport_runtime.errors import Code, InputError

__all__ = ["Batches", "History", "fit"]

Batch = Mapping[str, Any]
Batches = Iterable[Batch] | Callable[[], Iterable[Batch]]

_SECONDS = 1.0
"""Between two lines of progress."""


class History(TypedDict):
    """Results of a training.

    steps: loss and metrics of each step. epochs: those of each validation, or the means of the steps where nothing was
    validated.
    """

    steps: list[dict[str, float]]
    epochs: list[dict[str, float]]


class _Trainer(Protocol):
    steps: int

    def accumulate(self, batches: Sequence[Batch]) -> dict[str, float]: ...

    def evaluate(self, inputs: Batch) -> dict[str, float]: ...


def fit(
    trainer: _Trainer,
    batches: Batches,
    epochs: int,
    validate: Batches | None,
    accumulate: int,
    progress: bool,
    on_step: Callable[[int, dict[str, float]], Any] | None,
) -> History:
    """`Trainer.fit`."""
    for what, value in (("epochs", epochs), ("accumulate", accumulate)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(Code.INPUT_SHAPE, f"{what}={value!r} is not a whole number of 1 or more.")
    if epochs > 1 and not callable(batches) and iter(batches) is batches:
        raise InputError(
            Code.INPUT_SHAPE, "batches is an iterator, which ends after one epoch; give a list or a function."
        )
    history: History = {"steps": [], "epochs": []}
    for epoch in range(1, epochs + 1):
        report = _Report(f"epoch {epoch} of {epochs}", progress)
        first = len(history["steps"])
        for group in _groups(batches() if callable(batches) else batches, accumulate):
            results = trainer.accumulate(group)
            history["steps"].append(results)
            report.step(trainer.steps, results)
            if on_step is not None and on_step(trainer.steps, results) is True:
                report.end(results)
                return history
        means = _mean(history["steps"][first:]) if validate is None else _validated(trainer, validate)
        history["epochs"].append(means)
        report.end(means)
    return history


def _groups(batches: Iterable[Batch], size: int) -> Iterator[list[Batch]]:
    """Groups of batches; a rest at the end of an epoch is a group too."""
    rest = iter(batches)
    while group := list(itertools.islice(rest, size)):
        yield group


def _validated(trainer: _Trainer, validate: Batches) -> dict[str, float]:
    """Means over the elements of all batches: each batch counts by its first dimension."""
    rows, weights = [], []
    for batch in validate() if callable(validate) else validate:
        rows.append(trainer.evaluate(batch))
        shape = np.shape(next(iter(batch.values())))
        weights.append(shape[0] if shape else 1)
    return _mean(rows, weights)


def _mean(rows: Sequence[Mapping[str, float]], weights: Sequence[int] | None = None) -> dict[str, float]:
    return {name: float(np.average([row[name] for row in rows], weights=weights)) for name in rows[0]} if rows else {}


class _Report:
    """Progress on the standard error stream: a tqdm bar where tqdm is installed, else a line a second."""

    def __init__(self, title: str, shown: bool) -> None:
        self._title = title
        self._shown = shown
        self._last = time.monotonic()
        self._bar: Any = None
        if shown:
            try:
                import tqdm
            except ImportError:
                return
            self._bar = tqdm.tqdm(desc=title, unit="step")

    def step(self, number: int, results: Mapping[str, float]) -> None:
        if self._bar is not None:
            self._bar.set_postfix_str(_said(results), refresh=False)
            self._bar.update()
        elif self._shown and time.monotonic() - self._last >= _SECONDS:
            self._last = time.monotonic()
            print(f"{self._title}: step {number}, {_said(results)}", file=sys.stderr)

    def end(self, results: Mapping[str, float]) -> None:
        if self._bar is not None:
            self._bar.set_postfix_str(_said(results))
            self._bar.close()
        elif self._shown:
            print(f"{self._title}: {_said(results)}", file=sys.stderr)


def _said(results: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in results.items())
