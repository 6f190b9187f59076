"""Activations: the results of modules inside a Subject, by name, with their gradients.

`layer4.output` is the result of the module `layer4`, `layer4.output.0` the first element of a tuple, `layer4.output#1`
the result of its second call.
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

__all__ = ["Activation", "keep_activations", "parse_activation", "require_activations", "track_modules"]

_NAME = re.compile(r"(?P<module>.+?)\.output(?:#(?P<call>\d+))?(?:\.(?P<leaf>.+))?")


@dataclasses.dataclass(frozen=True)
class Activation:
    """One tensor that one call of a module returns.

    Attributes:
        name: the name in user code.
        module: path of the module.
        call: index of the call, from 0.
        leaf: key path within the result; "" for the result itself.
    """

    name: str
    module: str
    call: int
    leaf: str


def parse_activation(name: str, modules: Mapping[str, torch.nn.Module]) -> Activation | None:
    """Parses the name of an activation; None if it is not an activation of these modules."""
    match = _NAME.fullmatch(name)
    if match is None or match["module"] not in modules:
        return None
    return Activation(name, match["module"], int(match["call"] or 0), match["leaf"] or "")


@contextlib.contextmanager
def keep_activations(
    wanted: Sequence[Activation], modules: Mapping[str, torch.nn.Module], gradients: bool
) -> Iterator[dict[str, torch.Tensor]]:
    """While open, fills a mapping from the names of the wanted activations to their tensors.

    Args:
        wanted: the activations to keep.
        modules: by path.
        gradients: keep `.grad` of each activation; an activation that requires no gradient becomes a leaf.
    """
    tensors: dict[str, torch.Tensor] = {}
    with contextlib.ExitStack() as stack:
        for module in dict.fromkeys(activation.module for activation in wanted):
            own = [activation for activation in wanted if activation.module == module]
            handle = modules[module].register_forward_hook(_Hook(own, tensors, gradients))
            stack.callback(handle.remove)
        yield tensors


@contextlib.contextmanager
def track_modules(modules: Mapping[str, torch.nn.Module]) -> Iterator[Sequence[str]]:
    """Yields the paths of the modules that are running, innermost last; updated while open."""
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


def require_activations(wanted: Sequence[Activation], tensors: Mapping[str, torch.Tensor]) -> None:
    """Checks after the forward that every wanted activation has a tensor.

    Raises:
        SpecError: an activation has none.
    """
    for activation in wanted:
        if activation.name not in tensors:
            raise SpecError(
                f"The activation {activation.name!r} does not exist: the module {activation.module!r} is called "
                f"at most {activation.call} times, or its result has no such tensor."
            )


class _Hook:
    """Counts the calls of one module and keeps its wanted activations."""

    def __init__(self, wanted: Sequence[Activation], tensors: dict[str, torch.Tensor], gradients: bool) -> None:
        self._wanted = wanted
        self._tensors = tensors
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
        """Keeps a tensor; returns a copy for the rest of the call: in-place writes must not change the kept one."""
        if self._gradients and tensor.is_floating_point():
            if tensor.requires_grad:
                tensor.retain_grad()
            else:
                tensor = tensor.detach().requires_grad_()
        self._tensors[name] = tensor
        return tensor.clone()
