"""TARGET and INPUT of the command line: imports the target, and binds the inputs to its parameters."""

from __future__ import annotations

import ast
import functools
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from gradport.errors import Error, SpecError, TargetError
from gradport.subject.modules import import_place, load_attribute
from gradport.subject.spec import looks_like_spec, parse_spec

__all__ = ["load_subject", "load_subjects"]


def load_subject(
    target: str,
    inputs: Sequence[str],
    *,
    loss: Any = None,
    seed: int = 0,
    train: Sequence[str] | None = None,
    **changes: Any,
) -> Any:
    """The Subject of a TARGET and its INPUTs.

    Args:
        target: `module:attribute` or `path/file.py:attribute`; a Subject, a Function, a callable, a Module, or a Module
            class without required arguments. Or an ONNX file, which is imported.
        inputs: `NAME=VALUE`, named as in the graph; with a loss, names that are not arguments are targets.
        loss: a function, `module:attribute`, or the name of a scalar output.
        seed: of the weights of a Module that is created here or by importing its file.
        train: of an ONNX file: names or patterns of the initializers that train; None: all.
        changes: fields of the Subject to replace.

    Raises:
        TargetError: the target cannot be imported, or is a Module class that needs arguments.
        SpecError: an input does not parse, is missing or unknown.
    """
    import torch

    from gradport.subject.subject import Subject, as_function

    torch.manual_seed(seed)
    attribute = _imported(target, train) if target.endswith(".onnx") else load_attribute(target)
    fields = {key: value for key, value in changes.items() if value is not None}
    if loss is not None:
        fields["loss"] = load_attribute(loss) if isinstance(loss, str) and ":" in loss else loss
    values = _values(inputs)
    if isinstance(attribute, Subject):
        subject = attribute.replace(**fields)
        return subject if not values else _bind(subject.target, values, subject)
    torch.manual_seed(seed)  # a file that is already imported does not draw
    attribute = _instance(as_function(attribute), target)
    return _bind(attribute, values, Subject(attribute, **fields))


def _imported(path: str, train: Sequence[str] | None) -> Any:
    from gradport.importing import from_onnx

    return from_onnx(path, train=train)


def load_subjects(path: str) -> list[Any]:
    """The Subjects at module level of a Python file, also those in lists and mappings.

    Raises:
        TargetError: the file cannot be imported, or has no Subject.
    """
    from gradport.subject.subject import subjects_of

    module = import_place(path)
    subjects = [subject for name, value in vars(module).items() for _, subject in subjects_of(name, value)]
    if not subjects:
        raise TargetError(f"{path} has no gradport.Subject, and no list or mapping of Subjects, at module level.")
    return list({id(subject): subject for subject in subjects}.values())


def _instance(value: Any, target: str) -> Any:
    """Instantiates a Module class without required arguments; other values stay."""
    import torch

    if not (isinstance(value, type) and issubclass(value, torch.nn.Module)):
        return value
    try:
        return value()
    except TypeError as error:
        raise TargetError(
            f"{target} is a Module class that needs arguments ({error}); give an instance or a Subject."
        ) from error


def _values(inputs: Sequence[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for text in inputs:
        name, value = _parse_argument(text)
        if name in values:
            raise SpecError(f"The input {name!r} is given twice; give it once.")
        values[name] = value
    return values


def _parse_argument(text: str) -> tuple[str, Any]:
    """Parses `NAME=VALUE`."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise SpecError(f"The input {text!r} does not parse; write NAME=VALUE, for example x=f32[4,16].")
    if value.startswith("@"):
        return name, _array(name, value[1:])
    if looks_like_spec(value):
        return name, parse_spec(value)
    if value.startswith("torch."):
        return name, _torch_name(value)
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def _array(name: str, path: str) -> Any:
    import numpy
    import torch

    try:
        return torch.from_numpy(numpy.load(path, allow_pickle=False))
    except (OSError, ValueError, TypeError) as error:
        raise SpecError(f"The input {name!r} cannot be read from {path}: {error}.") from error


def _torch_name(text: str) -> Any:
    import torch

    try:
        return functools.reduce(getattr, text.split(".")[1:], torch)
    except AttributeError:
        raise SpecError(f"{text!r} does not exist in torch.") from None


def _bind(target: Any, values: Mapping[str, Any], subject: Any) -> Any:
    """The Subject with `values` as its arguments and targets."""
    from gradport.subject.signature import signature_of

    tree = _nest(values)
    parameters = _parameters(signature_of(target))
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for parameter in parameters:
        arguments = _take_values(parameter, tree)
        if parameter.kind is parameter.VAR_POSITIONAL:
            args += arguments
        elif parameter.kind is parameter.VAR_KEYWORD:
            kwargs |= {} if subject.loss is not None else dict(tree)
            tree = tree if subject.loss is not None else {}
        elif arguments:
            if parameter.kind is parameter.KEYWORD_ONLY or (kwargs and not isinstance(target, type)):
                kwargs[parameter.name] = arguments[0]
            else:
                args.append(arguments[0])
        elif parameter.default is parameter.empty:
            raise _missing(parameter, parameters, subject)
        elif isinstance(target, type):  # `Fn.apply` takes no keywords, so defaults are passed by position
            args.append(parameter.default)
        else:
            kwargs.setdefault(parameter.name, parameter.default)
    if tree and subject.loss is None:
        raise SpecError(
            f"{subject.name} has no input {next(iter(tree))!r}; its inputs are {', '.join(p.name for p in parameters)}."
        )
    return subject.replace(args=tuple(args), kwargs=kwargs, targets=_targets(tree) or subject.targets)


def _parameters(signature: inspect.Signature | None) -> list[inspect.Parameter]:
    if signature is None:
        return [inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL)]
    return list(signature.parameters.values())


def _take_values(parameter: inspect.Parameter, tree: dict[str, Any]) -> list[Any]:
    """Removes the values of one parameter from the tree, and returns them."""
    if parameter.kind is parameter.VAR_POSITIONAL:
        values: list[Any] = []
        while f"{parameter.name}_{len(values)}" in tree:
            values.append(tree.pop(f"{parameter.name}_{len(values)}"))
        return values
    return [tree.pop(parameter.name)] if parameter.name in tree else []


def _nest(values: Mapping[str, Any]) -> dict[str, Any]:
    """Turns `x.0` and `x.1` into a tuple `x`, and `x.key` into a dict."""
    tree: dict[str, Any] = {}
    for name, value in values.items():
        *path, last = name.split(".")
        place = functools.reduce(lambda level, key: level.setdefault(key, {}), path, tree)
        place[last] = value
    nested = {name.split(".")[0] for name in values if "." in name}
    return {name: _collect(value) if name in nested else value for name, value in tree.items()}


def _collect(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    items = {key: _collect(item) for key, item in value.items()}
    if all(key.isdigit() for key in items):
        return tuple(items[key] for key in sorted(items, key=int))
    return items


def _targets(tree: Mapping[str, Any]) -> Any:
    if set(tree) == {"target"}:
        return (tree["target"],)
    if tree and all(name == f"target_{index}" for index, name in enumerate(tree)):
        return tuple(tree.values())
    return dict(tree)


def _missing(parameter: inspect.Parameter, parameters: list[inspect.Parameter], subject: Any) -> Error:
    return SpecError(
        f"{subject.name} needs the input {parameter.name!r}; give for example {parameter.name}=f32[4,16] "
        f"(its inputs are {', '.join(p.name for p in parameters)})."
    )
