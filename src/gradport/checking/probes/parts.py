"""Complex tensors as pairs of real ones, so that every rule holds for them too.

The gradient of a complex argument is that of its real and imaginary part, as torch gives it. Source:
https://docs.pytorch.org/docs/stable/notes/autograd.html#autograd-for-complex-numbers.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch

from gradport.subject.leaves import leaves, replace_leaves
from gradport.subject.signature import signature_of
from gradport.subject.subject import Subject

__all__ = ["in_real_parts"]


def in_real_parts(subject: Subject) -> Subject:
    """The Subject with a last dimension of two for each complex argument and output; itself where there is none.

    A module is left as it is: its parameters keep their names.
    """
    given = {"args": subject.args, "kwargs": subject.kwargs}
    complex_ones = {path: leaf for path, leaf in leaves(given) if _is_complex(leaf)}
    if not complex_ones or isinstance(subject.target, torch.nn.Module):
        return subject
    pairs = {path: _as_pair(leaf) for path, leaf in complex_ones.items()}
    real = replace_leaves(given, pairs)
    return subject.replace(
        target=_on_pairs(subject.target, frozenset(complex_ones)),
        args=real["args"],
        kwargs=real["kwargs"],
        name=subject.name,
    )


def _on_pairs(target: Any, paths: frozenset[Any]) -> Callable[..., Any]:
    is_function = isinstance(target, type) and issubclass(target, torch.autograd.Function)
    called = target.apply if is_function else target

    def on_pairs(*args: Any, **kwargs: Any) -> Any:
        given = {"args": args, "kwargs": kwargs}
        whole = {path: torch.complex(leaf[..., 0], leaf[..., 1]) for path, leaf in leaves(given) if path in paths}
        placed = replace_leaves(given, whole)
        result = called(*placed["args"], **placed["kwargs"])
        parts = {path: torch.stack((leaf.real, leaf.imag), -1) for path, leaf in leaves(result) if _is_complex(leaf)}
        return replace_leaves(result, parts)

    forward = target.forward if is_function else target
    on_pairs.__wrapped__ = target.backward if is_function else target  # type: ignore[attr-defined]
    on_pairs.__signature__ = signature_of(target) or inspect.signature(forward)  # type: ignore[attr-defined]
    return on_pairs


def _as_pair(tensor: torch.Tensor) -> torch.Tensor:
    return torch.view_as_real(tensor.detach().resolve_conj()).clone()


def _is_complex(leaf: Any) -> bool:
    return isinstance(leaf, torch.Tensor) and leaf.is_complex()
