"""Subject: the target to check or export, with example inputs and the wanted gradients."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gradport.errors import SpecError, TargetError

if TYPE_CHECKING:
    import torch

__all__ = ["ABOUT", "Subject", "as_function", "as_subject", "display_name", "subjects_of"]

_UNSET: Any = object()

ABOUT = ("wrt", "loss", "targets", "outputs", "dynamic_shapes")
"""The options of `export` that describe the Subject, not the file."""


@dataclasses.dataclass(frozen=True, eq=False, init=False)
class Subject:
    """An `autograd.Function`, `nn.Module` or callable, with its example arguments and the wanted gradients.

    Args:
        target: an `autograd.Function` class (or its `.apply`), an `nn.Module` or any callable of tensors.
        args: example arguments; a single tensor is a 1-tuple, a list is a tuple. Every tensor leaf is a graph input,
            every other leaf is static.
        kwargs: example keyword arguments.
        wrt: the wanted gradients: None, "inputs", "parameters", "all", a name or a list of names.
        loss: `loss(result, *targets)` giving a scalar, or the name of a scalar output.
        targets: example targets for `loss`; a dict names them and passes them by keyword.
        outputs: "all", a list of output names, or None: all without a loss, none with it.
        inputs: how to draw random inputs: `{name: (low, high) | [values]}` or a callable
            `(generator, sizes) -> (args, kwargs, targets)`.
        dynamic_shapes: torch.export's form, or flat by input name.
        expect: the declared gradient (see `gradport.check`).
        name: its name in reports; default: the target's own name.

    Raises:
        TargetError: `target` is not callable.
        SpecError: `kwargs`, `loss` or `outputs` has the wrong type.
    """

    target: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    wrt: Any
    loss: Any
    targets: Any
    outputs: Any
    inputs: Any
    dynamic_shapes: Any
    expect: Any
    name: str

    def __init__(
        self,
        target: Callable[..., Any] | type,
        args: torch.Tensor | Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        wrt: str | Sequence[str] | None = None,
        loss: Callable[..., Any] | str | None = None,
        targets: torch.Tensor | Sequence[Any] | Mapping[str, Any] = (),
        outputs: str | Sequence[str] | None = None,
        inputs: Mapping[str, Any] | Callable[..., Any] | None = None,
        dynamic_shapes: Any = None,
        expect: Any = None,
        name: str | None = None,
    ) -> None:
        if kwargs is not None and not isinstance(kwargs, Mapping):
            raise SpecError(f"kwargs must be a mapping of names to values, not {type(kwargs).__name__}.")
        if not (loss is None or isinstance(loss, str) or callable(loss)):
            raise SpecError(f"loss={loss!r} is neither a function nor the name of an output.")
        if not (outputs is None or isinstance(outputs, (str, list, tuple))):
            raise SpecError(f"outputs={outputs!r} is neither 'all' nor a list of names.")
        target = as_function(target)
        values: dict[str, Any] = dict(
            target=target,
            args=_as_tuple(args),
            kwargs=dict(kwargs or {}),
            wrt=list(wrt) if isinstance(wrt, (list, tuple)) else wrt,
            loss=loss,
            targets=dict(targets) if isinstance(targets, Mapping) else _as_tuple(targets),
            outputs=list(outputs) if isinstance(outputs, (list, tuple)) else outputs,
            inputs=inputs,
            dynamic_shapes=dynamic_shapes,
            expect=expect,
            name=name if name is not None else display_name(target),
        )
        for key, value in values.items():
            object.__setattr__(self, key, value)

    def replace(self, **changes: Any) -> Subject:
        """A copy with these fields changed."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        if "target" in changes and "name" not in changes:
            values["name"] = None
        return Subject(**{**values, **changes})

    def __repr__(self) -> str:
        return f"Subject({self.name})"


def as_subject(
    subject: Any,
    args: Any = (),
    kwargs: Any = None,
    **overrides: Any,
) -> Subject:
    """A Subject from a Subject or a target; explicit arguments override the Subject's fields, except None and ()."""
    given = {key: value for key, value in overrides.items() if value is not None and not _is_empty(value)}
    if not isinstance(subject, Subject):
        return Subject(subject, args, kwargs, **given)
    if not _is_empty(args):
        given["args"] = args
    if kwargs:
        given["kwargs"] = kwargs
    return subject.replace(**given) if given else subject


def subjects_of(name: str, value: object) -> Iterator[tuple[str, Subject]]:
    """The Subjects of a module-level name, with labels: the value itself, or the entries of a list or mapping."""
    if isinstance(value, Subject):
        yield name, value
    elif isinstance(value, Mapping):
        yield from ((f"{name}[{key}]", one) for key, one in value.items() if isinstance(one, Subject))
    elif isinstance(value, (list, tuple)):
        yield from ((f"{name}[{index}]", one) for index, one in enumerate(value) if isinstance(one, Subject))


def display_name(target: Any) -> str:
    """The target's qualified name for reports."""
    owner = getattr(target, "__self__", None)
    if owner is not None and not isinstance(owner, type) and hasattr(target, "__name__"):
        return f"{type(owner).__qualname__}.{target.__name__}"
    return getattr(target, "__qualname__", None) or type(target).__qualname__


def _is_empty(value: Any) -> bool:
    return isinstance(value, (tuple, list, dict)) and len(value) == 0


def as_function(target: Any) -> Any:
    """`Fn` for `Fn.apply`; any other target unchanged.

    Raises:
        TargetError: the target is not callable.
    """
    import torch

    owner = getattr(target, "__self__", None)
    if isinstance(owner, type) and issubclass(owner, torch.autograd.Function) and target.__name__ == "apply":
        return owner
    if not callable(target):
        raise TargetError(
            f"The target is {type(target).__name__}, which cannot be called; "
            "give an autograd.Function class, an nn.Module or a callable."
        )
    return target


def _as_tuple(args: Any) -> tuple[Any, ...]:
    import torch

    from gradport.subject.spec import InputSpec

    if isinstance(args, (torch.Tensor, InputSpec)):
        return (args,)
    if isinstance(args, (list, tuple)):
        return tuple(args)
    advice = "; torch.from_numpy gives a tensor" if type(args).__module__ == "numpy" else ""
    raise SpecError(f"Arguments must be a tensor, a tuple or a list, not {type(args).__name__}{advice}.")
