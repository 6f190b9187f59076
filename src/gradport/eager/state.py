"""Finds the parameters and buffers that a target uses, and runs it with other tensors in their place.

A target uses a module if it is one, is a method of one, or takes one as an argument, or through a closure, a default, a
partial or a module-level name that its code reads. The same holds for a parameter without a module.
"""

from __future__ import annotations

import contextlib
import dis
import functools
import inspect
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from gradport.errors import SpecError
from gradport.subject.leaves import children

__all__ = ["State", "find_state"]

_LIBRARIES = ("torch", "numpy", "builtins", "gradport")


class State:
    """The parameters and buffers that a target uses, each under its first name.

    Attributes:
        parameters: parameters by name; a tied weight occurs once, under its first name.
        buffers: buffers by name.
    """

    def __init__(self, modules: dict[str, torch.nn.Module], loose: dict[str, _Loose]) -> None:
        self._harness = _Harness(modules.values())
        self._prefixes = prefixes = dict(zip(self._harness.names(), _unique_prefixes(modules), strict=True))
        self._keys: dict[str, str] = {}
        self.parameters: dict[str, torch.Tensor] = {}
        self.buffers: dict[str, torch.Tensor] = {}
        for table, named in (
            (self.parameters, self._harness.named_parameters()),
            (self.buffers, self._harness.named_buffers()),
        ):
            for key, tensor in named:
                child, _, rest = key.partition(".")
                name = _join(prefixes[child], rest)
                if torch.nn.parameter.is_lazy(tensor):
                    advice = "call the module once with the example"
                    raise SpecError(f"The parameter {name!r} of a lazy module has no shape yet; {advice}.")
                table[name] = tensor
                self._keys[name] = key
        self._loose = {_unused_names(name, self._keys): place for name, place in loose.items()}
        self.parameters |= {name: place.tensor for name, place in self._loose.items()}
        self._held = _tensors_with_holders(self._harness)

    def call(self, tensors: dict[str, torch.Tensor], thunk: Callable[[], Any]) -> Any:
        """Runs `thunk` with `tensors` in place of the parameters and buffers of these names. If the call binds a buffer
        to another tensor, `tensors` has that tensor afterwards."""
        swapped = {self._keys[name]: tensor for name, tensor in tensors.items() if name in self._keys}
        try:
            with contextlib.ExitStack() as stack:
                for name, place in self._loose.items():
                    if name in tensors:
                        stack.enter_context(place.hold(tensors[name]))
                result = torch.func.functional_call(self._harness, swapped, (thunk,))
        except BaseException:
            self._restore()  # an interrupt or a time limit may stop the swap halfway
            raise
        tensors.update({name: swapped[key] for name, key in self._keys.items() if key in swapped})
        return result

    def _restore(self) -> None:
        """Restores every parameter and buffer of the user's modules; those already in place are not touched."""
        for module, name, tensor in self._held:
            if getattr(module, name) is not tensor:
                setattr(module, name, tensor)
        for place in self._loose.values():
            place.restore()

    def modules(self) -> dict[str, torch.nn.Module]:
        """All modules by their path from the target."""
        by_path: dict[str, torch.nn.Module] = {}
        for path, module in self._harness.named_modules():
            child, _, rest = path.partition(".")
            if child:
                by_path.setdefault(_join(self._prefixes[child], rest), module)
        return by_path


class _Harness(torch.nn.Module):
    """One module that contains all modules, so that torch's functional_call swaps them together."""

    def __init__(self, modules: Any) -> None:
        super().__init__()
        for index, module in enumerate(modules):
            self.add_module(f"m{index}", module)

    def names(self) -> list[str]:
        """The child names of the modules, in order."""
        return [name for name, _ in self.named_children()]

    def forward(self, thunk: Callable[[], Any]) -> Any:
        return thunk()


def _unique_prefixes(modules: Mapping[str, torch.nn.Module]) -> list[str]:
    """The prefix of each module, changed if a path of the module equals a path of an earlier module."""
    used: set[str] = set()
    prefixes = []
    for prefix, module in modules.items():
        paths = [path for path, _ in (*module.named_modules(), *module.named_parameters(), *module.named_buffers())]
        while any(path in used for path in (_join(prefix, path) for path in paths)):
            prefix += "_2"
        used |= {_join(prefix, path) for path in paths}
        prefixes.append(prefix)
    return prefixes


def _unused_names(name: str, used: Mapping[str, str]) -> str:
    while name in used:
        name += "_2"
    return name


class _Loose:
    """A parameter without a module: held by a closure cell or a module-level name."""

    def __init__(self, tensor: torch.Tensor, read: Callable[[], Any], write: Callable[[Any], None]) -> None:
        self.tensor = tensor
        self._read = read
        self._write = write

    @contextlib.contextmanager
    def hold(self, tensor: torch.Tensor) -> Iterator[None]:
        self._write(tensor)
        try:
            yield
        finally:
            self.restore()

    def restore(self) -> None:
        """Restores the parameter."""
        self._write(self.tensor)


def _tensors_with_holders(harness: torch.nn.Module) -> list[tuple[torch.nn.Module, str, torch.Tensor]]:
    """Each parameter and buffer with its module and its name there."""
    return [
        (module, name, tensor)
        for module in harness.modules()
        for named in (module.named_parameters(recurse=False), module.named_buffers(recurse=False))
        for name, tensor in named
    ]


def find_state(target: Any, arguments: Mapping[str, Any]) -> State:
    """Finds all parameters and buffers that a call of `target` with these named arguments can use."""
    search = _Search()
    search.visit(target, "")
    for name, value in arguments.items():
        search.visit(value, name)
    return State(search.modules, search.loose)


class _Search:
    """Walks from a callable to the objects it refers to, each object once."""

    def __init__(self) -> None:
        self.modules: dict[str, torch.nn.Module] = {}
        self.loose: dict[str, _Loose] = {}
        self._seen: set[int] = set()
        self._inside: set[int] = set()
        self._tensors: set[int] = set()

    def visit(self, value: Any, prefix: str) -> None:
        if id(value) in self._seen or isinstance(value, (torch.Tensor, types.ModuleType, str, bytes, int, float)):
            return
        self._seen.add(id(value))
        if isinstance(value, torch.nn.Module):
            self._module(value, prefix)
        elif isinstance(value, type):
            self._class(value, prefix)
        elif isinstance(value, functools.partial):
            for part in (value.func, *value.args):
                self.visit(part, prefix)
            for key, part in value.keywords.items():
                self.visit(part, _join(prefix, key))
        elif isinstance(value, types.MethodType):
            self.visit(value.__self__, prefix)
            self.visit(value.__func__, prefix)
        elif isinstance(value, types.FunctionType):
            self._function(value, prefix)
        elif (entries := children(value)) is not None:
            for at, item in entries:
                self.visit(item, _join(prefix, str(at)))
        elif callable(value) and not _is_library(type(value)) and hasattr(value, "__dict__"):
            for key, item in vars(value).items():
                self.visit(item, _join(prefix, key))
            self.visit(type(value).__call__, prefix)

    def _module(self, module: torch.nn.Module, prefix: str) -> None:
        if id(module) in self._inside:
            return
        self._inside |= {id(child) for child in module.modules()}
        while prefix in self.modules:
            prefix += "_2"
        self.modules[prefix] = module
        if not _is_library(type(module)):
            self.visit(type(module).forward, prefix)

    def _class(self, cls: type, prefix: str) -> None:
        if issubclass(cls, torch.autograd.Function) and not _is_library(cls):
            for part in (cls.forward, cls.backward, cls.setup_context):
                self.visit(part, prefix)

    def _function(self, function: types.FunctionType, prefix: str) -> None:
        if _is_library(function):
            return
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            with contextlib.suppress(ValueError):  # an empty cell
                self._named(cell.cell_contents, _join(prefix, name), *_cell_access(cell))
        for name in sorted(_names_read(function.__code__) & function.__globals__.keys()):
            value = function.__globals__[name]
            if isinstance(value, (torch.Tensor, torch.nn.Module)) or _package(value) == _package(function):
                self._named(value, _join(prefix, name), *_item_access(function.__globals__, name))
        for value in function.__defaults__ or ():
            self.visit(value, prefix)
        if (wrapped := inspect.unwrap(function)) is not function:
            self.visit(wrapped, prefix)

    def _named(self, value: Any, name: str, read: Callable[[], Any], write: Callable[[Any], None]) -> None:
        if isinstance(value, torch.Tensor):
            if value.requires_grad and value.is_leaf and id(value) not in self._tensors:
                self._tensors.add(id(value))
                self.loose[name] = _Loose(value, read, write)
            return
        self.visit(value, name)


def _cell_access(cell: types.CellType) -> tuple[Callable[[], Any], Callable[[Any], None]]:
    return lambda: cell.cell_contents, lambda value: setattr(cell, "cell_contents", value)


def _item_access(mapping: dict[str, Any], key: str) -> tuple[Callable[[], Any], Callable[[Any], None]]:
    return lambda: mapping[key], lambda value: mapping.__setitem__(key, value)


def _names_read(code: types.CodeType) -> set[str]:
    """The module-level names that code reads; `norm` in `self.norm` does not count."""
    inner = [const for const in code.co_consts if isinstance(const, types.CodeType)]
    own = {step.argval for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    return own.union(*map(_names_read, inner))


def _package(thing: Any) -> str:
    return (getattr(thing, "__module__", None) or "").split(".")[0]


def _is_library(thing: Any) -> bool:
    return _package(thing) in _LIBRARIES


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix and name else prefix or name
