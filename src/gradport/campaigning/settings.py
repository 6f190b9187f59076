"""Settings: the axes of a matrix, and the export of a Subject under one of their combinations."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import torch

from gradport.eager.inputs import with_example
from gradport.errors import SpecError
from gradport.exporting.export import export
from gradport.subject.leaves import map_leaves
from gradport.subject.spec import DTYPES, short_dtype
from gradport.subject.subject import Subject

__all__ = ["Setting", "settings"]


@dataclasses.dataclass(frozen=True)
class Setting:
    """One cell of a sweep; None keeps the value of the Subject."""

    opset: int | None = None
    dtype: torch.dtype | None = None
    dynamic: bool | None = None
    functions: str | None = None
    runtime: str | None = None

    def __str__(self) -> str:
        parts = [
            f"opset{self.opset}" if self.opset is not None else "",
            short_dtype(self.dtype) if self.dtype is not None else "",
            {True: "dynamic", False: "static", None: ""}[self.dynamic],
            self.functions or "",
            self.runtime or "",
        ]
        return "-".join(filter(None, parts)) or "default"

    def apply(self, subject: Subject) -> Subject:
        """The Subject in this setting's dtype, and without dynamic dimensions if the setting is static.

        Raises:
            SpecError: the setting is dynamic and the Subject has no dynamic dimension.
        """
        subject = with_example(subject)
        if self.dtype is not None:
            subject = _cast_subject(subject, self.dtype)
        if self.dynamic is False:
            return subject.replace(dynamic_shapes=None)
        if self.dynamic and not subject.dynamic_shapes:
            raise SpecError(f"{subject.name} has no dynamic dimension; set dynamic_shapes, or omit dynamic.")
        return subject

    def export_program(self, subject: Subject, **options: Any) -> Any:
        """Exports a Subject returned by `apply` and returns its Program."""
        if self.opset is not None:
            options["opset_version"] = self.opset
        if self.functions is not None:
            options["functions"] = self.functions
        return export(subject, **options)


def settings(
    opsets: Sequence[int] = (),
    dtypes: Sequence[torch.dtype | str] = (),
    dynamic: Sequence[bool] = (),
    functions: Sequence[str] = (),
    runtimes: Sequence[str] = (),
) -> list[Setting]:
    """All combinations; an empty axis keeps the value of the Subject. A dtype may be a short name (`f16`).

    Raises:
        SpecError: a dtype is unknown.
    """
    known = [_dtype(dtype) for dtype in dtypes]
    axes: list[list[Any]] = [list(axis) or [None] for axis in (opsets, known, dynamic, functions, runtimes)]
    return [Setting(*cell) for cell in itertools.product(*axes)]


def _dtype(dtype: torch.dtype | str) -> torch.dtype:
    known = getattr(torch, DTYPES.get(dtype, dtype), None) if isinstance(dtype, str) else dtype
    if not isinstance(known, torch.dtype):
        raise SpecError(f"{dtype!r} is not a dtype; known dtypes are {', '.join(DTYPES)}.")
    return known


def _cast_subject(subject: Subject, dtype: torch.dtype) -> Subject:
    """Casts every floating-point tensor of the arguments, the targets and a copy of the module to a dtype."""

    def cast(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor) or not leaf.is_floating_point():
            return leaf
        return leaf.detach().to(dtype).requires_grad_(leaf.requires_grad)

    target = subject.target
    if isinstance(target, torch.nn.Module):
        target = copy.deepcopy(target).to(dtype)
    return subject.replace(
        target=target,
        name=subject.name,
        args=map_leaves(cast, subject.args),
        kwargs=map_leaves(cast, subject.kwargs),
        targets=map_leaves(cast, subject.targets),
    )
