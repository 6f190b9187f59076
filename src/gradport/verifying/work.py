"""Counts the work of one run of a Subject, so that the number of cases does not depend on how busy the machine is."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch.utils.flop_counter import flop_registry

from gradport.compat.torch.modes import TorchDispatchMode
from gradport.compat.torch.trees import tree_leaves
from gradport.eager.joint import Joint
from gradport.eager.run import ones, run_eager
from gradport.isolation.effort import Effort
from gradport.proving.answers import InputSet
from gradport.subject.ports import Role

__all__ = ["Allowance", "work_of"]

_CALL = 100_000
"""Units for the call of an operator: 100 microseconds, if one element takes a nanosecond."""

_EDGES = 4e9
"""Units for the cases with edge values."""

_EXPLORE, _SHRINK = 5e8, 2e9
"""Units for the search for a failure, and for shrinking a failure."""

_SLOW = 4e8
"""Units of one run on the example above which slow runtimes run only the example."""

_REPEATED = (24, 100)
"""Maximum number of inputs of the two searches."""


def work_of(joint: Joint) -> float:
    """Units of work of one run on the example: elements of results, floating-point operations, and calls."""
    with _Counting() as counting:
        run_eager(joint, joint.examples(), ones)
    return counting.units


@dataclasses.dataclass
class Allowance:
    """The remaining budget of work.

    Attributes:
        unit: units of one run on the example.
        effort: factor of all limits.
        edges: units left for cases with edge values.
    """

    unit: float
    effort: Effort
    edges: float = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.edges = _EDGES * self.effort.budget

    def takes(self, case: InputSet, example: InputSet) -> bool:
        """Whether the budget has room for a case; subtracts its work."""
        if not case.edge:
            return True
        size = max(_elements(case) / max(_elements(example), 1), 1.0) * self.unit
        self.edges -= size
        return self.edges > 0

    @property
    def explored(self) -> int:
        """Number of inputs for the search for a failure."""
        return min(int(_EXPLORE * self.effort.budget / self.unit), round(_REPEATED[0] * max(self.effort.budget, 1)))

    @property
    def shrunk(self) -> int:
        """Number of inputs for the search for a smaller failure."""
        most = round(_REPEATED[1] * self.effort.budget)
        return max(min(int(_SHRINK * self.effort.budget / self.unit), most), 5)

    @property
    def is_large(self) -> bool:
        """Whether slow runtimes run only the example."""
        return self.unit > _SLOW * self.effort.budget


class _Counting(TorchDispatchMode):
    """Counts the work of all operators inside the context.

    Attributes:
        units: of work.
    """

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()
        self.units = 0.0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Runs the operator."""
        result = func(*args, **(kwargs or {}))
        tensors = [t for t in tree_leaves(result) if isinstance(t, torch.Tensor)]
        formula = flop_registry.get(getattr(func, "overloadpacket", None))
        flops = 0 if formula is None else formula(*args, **(kwargs or {}), out_val=result)
        self.units += _CALL + sum(t.numel() for t in tensors) + flops / 20
        return result


def _elements(case: InputSet) -> int:
    return sum(tensor.numel() for slot, tensor in case.tensors.items() if slot.role in (Role.ARGUMENT, Role.TARGET))
