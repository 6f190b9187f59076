"""Types of the arguments of the public functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias, Union

if TYPE_CHECKING:
    import torch

    from gradport.subject.spec import InputSpec
    from gradport.subject.subject import Subject

__all__ = ["Arguments", "Expectation", "Forms", "Inputs", "Keywords", "Loss", "Shapes", "Target", "Targets", "Wrt"]

Target: TypeAlias = Union["Subject", Callable[..., object], type]
"""A Subject, an `autograd.Function` class (or its `.apply`), an `nn.Module`, or any callable of tensors."""

Arguments: TypeAlias = Union["torch.Tensor", "InputSpec", Sequence[object], None]
"""Example arguments: a tuple or list of any values, or one tensor or input spec."""

Keywords: TypeAlias = Mapping[str, object] | None
"""Example keyword arguments."""

Loss: TypeAlias = Callable[..., "torch.Tensor"] | str | None
"""`loss(result, *targets)` that gives a scalar, or the name of a scalar output."""

Targets: TypeAlias = Union["torch.Tensor", "InputSpec", Sequence[object], Mapping[str, object], None]
"""Example targets of the loss; a mapping passes them by keyword."""

Wrt: TypeAlias = str | Sequence[str] | None
"""Which gradients: "inputs", "parameters", "all", a name or names."""

Shapes: TypeAlias = Mapping[str, object] | Sequence[object] | None
"""Dynamic dimensions: torch.export's form, or flat by input name."""

Forms: TypeAlias = str | Mapping[object, str]
"""The forms of Functions in the file: one form for all, or a form for each Function."""

Inputs: TypeAlias = Mapping[str, object] | Callable[..., object] | None
"""How to draw random inputs: an interval or values by name, or a callable `(generator, sizes)`."""

Expectation: TypeAlias = str | Mapping[str, object] | Callable[..., object] | None
"""The declared gradient: a kind for all arguments or for each argument, or a callable that returns the gradients."""
