"""Activations: what a module inside a Subject returns, by name, with its gradient.

`layer4.output` is what the module `layer4` returns, `layer4.output.0` the first of a tuple, `layer4.output#1` that of
its second call.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from gradport.errors import SpecError
from gradport.subject.leaves import leaves, replace_leaves

__all__ = ["Activation", "keep_activations", "parse_activation", "require_met", "track_modules"]

_NAME = re.compile(r"(?P<module>.+?)\.output(?:#(?P<call>\d+))?(?:\.(?P<leaf>.+))?")


@dataclasses.dataclass(frozen=True)
class Activation:
    """One tensor that one call of a module returns.

    Attributes:
        name: as the user writes it.
        module: path of the module.
        call: which call of it, from 0.
        leaf: key path within what it returns, "" for the tensor itself.
    """

    name: str
    module: str
    call: int
    leaf: str


def parse_activation(name: str, modules: Mapping[str, torch.nn.Module]) -> Activation | None:
    """What a name says, or None where it names no activation of these modules."""
    said = _NAME.fullmatch(name)
    if said is None or said["module"] not in modules:
        return None
    return Activation(name, said["module"], int(said["call"] or 0), said["leaf"] or "")


@contextlib.contextmanager
def keep_activations(
    wanted: Sequence[Activation], modules: Mapping[str, torch.nn.Module], gradients: bool
) -> Iterator[dict[str, torch.Tensor]]:
    """While open, fills a mapping of each wanted activation's name with its tensor.

    Args:
        wanted: what to keep.
        modules: by path.
        gradients: whether `.grad` of each is wanted after the backward; one that needs no gradient becomes a leaf.
    """
    found: dict[str, torch.Tensor] = {}
    with contextlib.ExitStack() as stack:
        for module in dict.fromkeys(activation.module for activation in wanted):
            own = [activation for activation in wanted if activation.module == module]
            handle = modules[module].register_forward_hook(_Hook(own, found, gradients))
            stack.callback(handle.remove)
        yield found


@contextlib.contextmanager
def track_modules(modules: Mapping[str, torch.nn.Module]) -> Iterator[Sequence[str]]:
    """While open, a sequence of the paths of the modules that are being called, the innermost last."""
    paths = {module: path for path, module in modules.items() if path}
    stack: list[str] = []

    def enter(module: torch.nn.Module, args: Any) -> None:
        if module in paths:
            stack.append(paths[module])

    def leave(module: torch.nn.Module, args: Any, result: Any) -> None:
        if module in paths:
            stack.pop()

    handles = [
        torch.nn.modules.module.register_module_forward_pre_hook(enter),
        torch.nn.modules.module.register_module_forward_hook(leave, always_call=True),
    ]
    try:
        yield stack
    finally:
        for handle in handles:
            handle.remove()


def require_met(wanted: Sequence[Activation], found: Mapping[str, torch.Tensor]) -> None:
    """Asked after the forward.

    Raises:
        SpecError: a wanted activation was not met.
    """
    for activation in wanted:
        if activation.name not in found:
            raise SpecError(
                f"{activation.name!r} is not met: {activation.module!r} is not called that often, "
                "or returns no floating-point tensor there."
            )


class _Hook:
    """Counts the calls of one module and keeps what is wanted of each."""

    def __init__(self, wanted: Sequence[Activation], found: dict[str, torch.Tensor], gradients: bool) -> None:
        self._wanted = wanted
        self._found = found
        self._gradients = gradients
        self._calls = 0

    def __call__(self, module: torch.nn.Module, args: Any, result: Any) -> Any:
        own = [activation for activation in self._wanted if activation.call == self._calls]
        self._calls += 1
        for activation in own:
            for path, leaf in list(leaves(result)):
                if ".".join(map(str, path)) == activation.leaf and isinstance(leaf, torch.Tensor):
                    result = replace_leaves(result, {path: self._keep(activation.name, leaf)})
        return result

    def _keep(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor that the call goes on with: a copy, so that what writes into it leaves the kept one alone."""
        if self._gradients and tensor.is_floating_point():
            if tensor.requires_grad:
                tensor.retain_grad()
            else:
                tensor = tensor.detach().requires_grad_()
        self._found[name] = tensor
        return tensor.clone()
