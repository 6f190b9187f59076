"""A training as texts: its Subject, `AdamW:lr=1e-3`, `LinearLR:total_iters=10`, `cross_entropy`, metrics."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from typing import Any

from gradport.cli.target import load_subject
from gradport.errors import SpecError, first_line
from gradport.subject.modules import load_attribute

__all__ = ["load_loss", "load_metrics", "load_trained_subject", "make_optimizer", "make_scheduler"]


def load_trained_subject(
    target: str, inputs: list[str] | None, targets: list[str] | None, loss: str | None, *, seed: int, **changes: Any
) -> Any:
    """The Subject of a training.

    Args:
        target, inputs, seed, changes: as for `load_subject`.
        targets: targets of the loss, as inputs.
        loss: as for `load_loss`.

    Raises:
        TargetError, SpecError: as `load_subject`; or there is no loss.
    """
    subject = load_subject(target, _with_targets(inputs, targets), seed=seed, loss=load_loss(loss), **changes)
    if subject.loss is None:
        raise SpecError(f"{subject.name} has no loss; give --loss cross_entropy, or module:attribute.")
    return subject


def make_optimizer(text: str, subject: Any) -> Any:
    """An optimizer of torch.optim on the parameters of a Subject's module.

    Raises:
        SpecError: the text does not parse, torch has no such optimizer or refuses the options, or the Subject is not a
            Module.
    """
    import torch

    if not isinstance(subject.target, torch.nn.Module):
        raise SpecError(f"{subject.name} is not a torch.nn.Module; only a Module has parameters to train.")
    parameters = [parameter for parameter in subject.target.parameters() if parameter.requires_grad]
    return _make(torch.optim, "optimizer", text, lambda cls, options: cls(parameters, **options))


def make_scheduler(text: str | None, optimizer: Any) -> Any:
    """A scheduler of torch.optim.lr_scheduler; None for None.

    Raises:
        SpecError: the text does not parse, torch has no such scheduler, or refuses the options.
    """
    import torch

    if text is None:
        return None
    return _make(torch.optim.lr_scheduler, "scheduler", text, lambda cls, options: cls(optimizer, **options))


def load_loss(text: str | None) -> Any:
    """A loss: `module:attribute`, the name of a function in torch.nn.functional, or the name of a scalar output.

    Raises:
        TargetError: the module cannot be imported, or has no such attribute.
    """
    import torch

    if text is None or ":" in text:
        return None if text is None else load_attribute(text)
    return getattr(torch.nn.functional, text, text)


def load_metrics(texts: Sequence[str] | None) -> dict[str, Callable[..., Any]]:
    """Metrics by name: `accuracy`, or `NAME=module:attribute`.

    Raises:
        SpecError: a text does not parse.
        TargetError: the module cannot be imported, or has no such attribute.
    """
    metrics: dict[str, Callable[..., Any]] = {}
    for text in texts or ():
        name, equals, place = text.partition("=")
        if text == "accuracy":
            metrics["accuracy"] = _accuracy
        elif equals and name and ":" in place:
            metrics[name] = load_attribute(place)
        else:
            raise SpecError(f"--metric {text!r} does not parse; write accuracy, or NAME=module:attribute.")
    return metrics


def _with_targets(inputs: list[str] | None, targets: list[str] | None) -> list[str]:
    """The inputs, and the targets as inputs; a target without a name is `target`, several are `target_0`, ..."""
    unnamed = [text for text in targets or () if "=" not in text.partition("[")[0]]
    names = ["target"] if len(unnamed) == 1 else [f"target_{index}" for index in range(len(unnamed))]
    named = [text for text in targets or () if text not in unnamed]
    return [*(inputs or ()), *named, *(f"{name}={text}" for name, text in zip(names, unnamed, strict=True))]


def _accuracy(result: Any, target: Any) -> Any:
    """The share of rows whose largest score is at the target's class."""
    return (result.argmax(-1) == target).float().mean()


def _make(module: Any, what: str, text: str, make: Callable[[Any, dict[str, Any]], Any]) -> Any:
    name, _, rest = text.partition(":")
    cls = getattr(module, name, None)
    if not isinstance(cls, type):
        raise SpecError(f"--{what} {text!r}: {module.__name__} has no {name!r}; write for example {_EXAMPLES[what]}.")
    try:
        return make(cls, _options(rest))
    except (TypeError, ValueError) as error:
        raise SpecError(f"--{what} {text!r}: {first_line(error)}") from error


_EXAMPLES = {"optimizer": "AdamW:lr=1e-3", "scheduler": "LinearLR:total_iters=10"}


def _options(text: str) -> dict[str, Any]:
    """`lr=1e-3,betas=(0.9,0.99)` as keyword arguments of literals."""
    try:
        call = ast.parse(f"f({text})", mode="eval").body
        if not isinstance(call, ast.Call) or call.args or any(word.arg is None for word in call.keywords):
            raise ValueError("options are NAME=VALUE, separated by commas")
        return {str(word.arg): _literal(word.value) for word in call.keywords}
    except SyntaxError as error:
        raise ValueError("options are NAME=VALUE, separated by commas") from error


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise ValueError(f"{ast.unparse(node)} is not a number or another literal") from None
