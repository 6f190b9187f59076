"""A learning-rate scheduler as one value a step and group."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import torch

from gradport.eager.optimizers import group_names
from gradport.errors import SpecError

__all__ = ["record_schedule"]


def record_schedule(
    optimizer: torch.optim.Optimizer, scheduler: Any, steps: int | None
) -> dict[str, tuple[float, ...]]:
    """The learning rate of each group at each step, by the name of its input. Optimizer and scheduler stay unchanged.

    Args:
        optimizer: the learning rates without a scheduler.
        scheduler: a `torch.optim.lr_scheduler` on that optimizer, or None.
        steps: how many steps are recorded; after them the last value stays.

    Raises:
        SpecError: the scheduler needs a metric, changes more than learning rates, or is of another optimizer.
    """
    names = group_names(optimizer)
    if scheduler is None:
        return {name: (float(group["lr"]),) for name, group in zip(names, optimizer.param_groups, strict=True)}
    name = type(scheduler).__name__
    if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
        raise SpecError(f"scheduler={name} needs a metric at each step; pass lr= to the trainer's step instead.")
    if not isinstance(scheduler, torch.optim.lr_scheduler.LRScheduler):
        raise SpecError(f"scheduler is {name}; give a torch.optim.lr_scheduler on the optimizer.")
    if scheduler.optimizer is not optimizer:
        raise SpecError(f"scheduler={name} is on another optimizer; build it on the optimizer that is exported.")
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise SpecError(f"steps={steps!r} is not a number of steps; give how many steps of {name} are recorded.")
    rows = _run(optimizer, scheduler, steps, name)
    return {name: tuple(row[at] for row in rows) for at, name in enumerate(names)}


def _run(optimizer: torch.optim.Optimizer, scheduler: Any, steps: int, name: str) -> list[list[float]]:
    groups = [dict(group) for group in optimizer.param_groups]
    kept = copy.deepcopy(scheduler.state_dict())
    rows = [[float(group["lr"]) for group in optimizer.param_groups]]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the optimizer takes no step between
            for _ in range(steps - 1):
                scheduler.step()
                _require_only_lr(optimizer, groups, name)
                rows.append([float(group["lr"]) for group in optimizer.param_groups])
    finally:
        scheduler.load_state_dict(kept)
        for group, before in zip(optimizer.param_groups, groups, strict=True):
            group.update(before)
    return rows


def _require_only_lr(optimizer: torch.optim.Optimizer, before: list[dict[str, Any]], name: str) -> None:
    for group, old in zip(optimizer.param_groups, before, strict=True):
        for key, value in old.items():
            if key not in ("lr", "initial_lr", "params") and group[key] != value:
                raise SpecError(
                    f"scheduler={name} changes {key}, and a bundle has a schedule of learning rates only; "
                    "take a scheduler that leaves it (OneCycleLR: cycle_momentum=False)."
                )
