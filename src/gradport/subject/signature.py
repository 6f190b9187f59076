"""The names of arguments, targets and outputs: the forward's own parameter names and key paths."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any

import torch

from gradport.errors import SpecError, TargetError
from gradport.subject.leaves import Path, join_path, leaves
from gradport.subject.subject import Subject

__all__ = [
    "Argument",
    "Bound",
    "bind",
    "forward_parameters",
    "output_leaves",
    "place_of_gradient",
    "signature_of",
    "source_of",
    "source_of_backward",
]


@dataclasses.dataclass(frozen=True)
class Argument:
    """One leaf of the arguments or targets: its graph name, its parameter, its path, its example."""

    name: str
    of: str
    path: Path
    value: Any


@dataclasses.dataclass(frozen=True)
class Bound:
    """A Subject's arguments by the forward's parameter names."""

    arguments: tuple[Argument, ...]
    statics: tuple[Argument, ...]
    targets: tuple[Argument, ...]


def bind(subject: Subject) -> Bound:
    """Names every leaf of the arguments and targets.

    Raises:
        TargetError: the arguments do not match the forward's parameters.
    """
    tensors: list[Argument] = []
    statics: list[Argument] = []
    for root, path, value in _bind_arguments(subject):
        for leaf_path, leaf in leaves(value):
            argument = Argument(join_path(root, leaf_path), root, (*path, *leaf_path), leaf)
            (tensors if _is_tensor(leaf) else statics).append(argument)
    return Bound(tuple(tensors), tuple(statics), tuple(_targets(subject)))


def output_leaves(result: Any) -> list[tuple[str, Any]]:
    """Every tensor of a result with its output name, in order (see API.md, Names in a file).

    A single tensor without a key is `output`; positions include None and constants; keys of dicts and fields of
    dataclasses at the root are the names of their leaves.
    """
    tensors = [(path, leaf) for path, leaf in leaves(result) if isinstance(leaf, torch.Tensor)]
    if len(tensors) == 1 and not any(isinstance(key, str) for key in tensors[0][0]):
        return [("output", tensors[0][1])]
    return [(_output_name(path), leaf) for path, leaf in tensors]


def source_of(target: Any) -> tuple[str | None, int | None]:
    """File and line of the code of a target; (None, None) without a source."""
    code = target
    if isinstance(target, type) and issubclass(target, torch.autograd.Function):
        code = target.forward
    elif isinstance(target, torch.jit.ScriptModule):
        return None, None
    elif isinstance(target, torch.nn.Module):
        code = type(target).forward
    return _place_of_code(code)


def source_of_backward(function: Any) -> tuple[str | None, int | None]:
    """File and line of a Function's backward; (None, None) without a backward or a source."""
    return _place_of_code(getattr(function, "backward", None))


def place_of_gradient(target: Any) -> str | None:
    """`file:line` of the code that determines a target's gradient: a Function's backward, else the target's code."""
    file, line = source_of_backward(target) if isinstance(target, type) else source_of(target)
    return f"{file}:{line}" if file else None


def _place_of_code(code: Any) -> tuple[str | None, int | None]:
    if code is None:
        return None, None
    code = inspect.unwrap(getattr(code, "func", code))
    code = getattr(code, "__func__", code)
    code = getattr(code, "__code__", None)
    return (code.co_filename, code.co_firstlineno) if code is not None else (None, None)


def _output_name(path: Path) -> str:
    if not path:
        return "output"
    if isinstance(path[0], int):
        return join_path(f"output_{path[0]}", path[1:])
    return join_path(path[0], path[1:])


def _is_tensor(leaf: Any) -> bool:
    from gradport.subject.spec import InputSpec

    return isinstance(leaf, (torch.Tensor, InputSpec))


def _targets(subject: Subject) -> list[Argument]:
    if isinstance(subject.targets, Mapping):
        roots = [(str(key), (key,), value) for key, value in subject.targets.items()]
    elif len(subject.targets) == 1:
        roots = [("target", (0,), subject.targets[0])]
    else:
        roots = [(f"target_{index}", (index,), value) for index, value in enumerate(subject.targets)]
    arguments = []
    for root, path, value in roots:
        for leaf_path, leaf in leaves(value):
            if not _is_tensor(leaf):
                raise SpecError(
                    f"The target {join_path(root, leaf_path)!r} is {type(leaf).__name__}; targets are tensors."
                )
            arguments.append(Argument(join_path(root, leaf_path), root, (*path, *leaf_path), leaf))
    return arguments


def _bind_arguments(subject: Subject) -> list[tuple[str, Path, Any]]:
    """(parameter name, path in `(args, kwargs)`, value) in the order of the forward's parameters."""
    signature = signature_of(subject.target)
    if signature is None:
        return [(f"args_{index}", ("args", index), value) for index, value in enumerate(subject.args)] + [
            (key, ("kwargs", key), value) for key, value in subject.kwargs.items()
        ]
    try:
        signature.bind(*subject.args, **subject.kwargs)
    except TypeError as error:
        file, line = source_of(subject.target)
        raise TargetError(
            f"{subject.name} ({file}:{line}) takes {signature}, which does not match the given "
            f"{len(subject.args)} arguments and keywords {sorted(subject.kwargs)}: {error}."
        ) from None
    return _order_by_parameters(signature, subject)


def _order_by_parameters(signature: inspect.Signature, subject: Subject) -> list[tuple[str, Path, Any]]:
    positional = list(enumerate(subject.args))
    keywords = dict(subject.kwargs)
    ordered: list[tuple[str, Path, Any]] = []
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_POSITIONAL:
            ordered += [(f"{name}_{count}", ("args", index), value) for count, (index, value) in enumerate(positional)]
            positional = []
        elif parameter.kind is parameter.VAR_KEYWORD:
            ordered += [(key, ("kwargs", key), value) for key, value in keywords.items()]
            keywords = {}
        elif positional and parameter.kind is not parameter.KEYWORD_ONLY:
            index, value = positional.pop(0)
            ordered.append((name, ("args", index), value))
        elif name in keywords:
            ordered.append((name, ("kwargs", name), keywords.pop(name)))
        elif parameter.default is not parameter.empty:
            ordered.append((name, ("defaults", name), parameter.default))
    return ordered


def signature_of(target: Any) -> inspect.Signature | None:
    """The call signature of `target`, without a Function's ctx; None if Python has no signature."""
    if isinstance(target, type) and issubclass(target, torch.autograd.Function):
        return _function_signature(target)
    if isinstance(target, torch.nn.Module):
        target = target.forward
    try:
        return inspect.signature(target)
    except (TypeError, ValueError):
        return None


def forward_parameters(function: type) -> list[inspect.Parameter]:
    """The forward's parameters without ctx, the first parameter in the older form; empty if Python has no signature.

    Source: https://docs.pytorch.org/docs/stable/notes/extending.html#combined-or-separate-forward-and-setup-context
    """
    try:
        parameters = list(inspect.signature(function.forward).parameters.values())  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        return []
    older_form = function.setup_context is torch.autograd.Function.setup_context  # type: ignore[attr-defined]
    if older_form and parameters and parameters[0].kind is not inspect.Parameter.VAR_POSITIONAL:
        return parameters[1:]
    return parameters


def _function_signature(function: type[torch.autograd.Function]) -> inspect.Signature | None:
    try:
        return inspect.signature(function.forward).replace(parameters=forward_parameters(function))
    except (TypeError, ValueError):
        return None
