"""Writes complex tensors as pairs of real tensors, so that every rule covers them.

The gradient of a complex argument is the gradient of its real and imaginary part, as in torch. Source:
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

__all__ = ["split_complex"]


def split_complex(subject: Subject) -> Subject:
    """The Subject with an extra last dimension of two for each complex argument and output; unchanged without one.

    A module is unchanged, so that its parameters keep their names.
    """
    given = {"args": subject.args, "kwargs": subject.kwargs}
    complex_leaves = {path: leaf for path, leaf in leaves(given) if _is_complex(leaf)}
    if not complex_leaves or isinstance(subject.target, torch.nn.Module):
        return subject
    pairs = {path: _as_pair(leaf) for path, leaf in complex_leaves.items()}
    real = replace_leaves(given, pairs)
    return subject.replace(
        target=_wrap_target(subject.target, frozenset(complex_leaves)),
        args=real["args"],
        kwargs=real["kwargs"],
        name=subject.name,
    )


def _wrap_target(target: Any, paths: frozenset[Any]) -> Callable[..., Any]:
    is_function = isinstance(target, type) and issubclass(target, torch.autograd.Function)
    called = target.apply if is_function else target

    def on_pairs(*args: Any, **kwargs: Any) -> Any:
        given = {"args": args, "kwargs": kwargs}
        whole = {path: torch.complex(leaf[..., 0], leaf[..., 1]) for path, leaf in leaves(given) if path in paths}
        arguments = replace_leaves(given, whole)
        result = called(*arguments["args"], **arguments["kwargs"])
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
