"""The names in a file: assigned in a fixed order, so that the same subject always gets the same names.

If a name is taken, the later tensor gets its role as a prefix (`target.x`, `output.x`, `param.x`), then `_2`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from gradport.errors import SpecError
from gradport.subject.ports import GraphSignature, Port, Role, Slot

__all__ = ["Taken", "allot", "rename", "unique"]

_PREFIX: dict[str, str] = {Role.PARAMETER: "param", Role.BUFFER: "buffer", Role.ACTIVATION: "output"}


class Taken:
    """The set of names in use."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names = set(names)

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def claim(self, name: str, role: str) -> str:
        """Reserves and returns `name`; if it is taken, `role.name`, or this with `_2`, `_3`, ..."""
        candidate = name
        if candidate in self._names:
            candidate = base = f"{_PREFIX.get(role, role)}.{name}"
            count = 1
            while candidate in self._names:
                count += 1
                candidate = f"{base}_{count}"
        self._names.add(candidate)
        return candidate


def unique(name: str, taken: set[str]) -> str:
    """Reserves and returns `name`; if it is taken, the name with `_2`, `_3`, ..."""
    candidate, count = name, 1
    while candidate in taken:
        count += 1
        candidate = f"{name}_{count}"
    taken.add(candidate)
    return candidate


def allot(signature: GraphSignature, renames: Mapping[tuple[Role, str], str]) -> tuple[list[str], list[str], Taken]:
    """Assigns names to graph inputs and outputs, in order.

    Args:
        signature: the inputs and outputs.
        renames: from `(role, default name)` to the user's name; derived names follow.
    """
    taken = Taken()
    named: dict[Slot, str] = {}
    in_names = []
    for port in signature.inputs:
        default = _default(port, {})
        wanted = renames.get((port.role, default), _default(port, named, renames))
        name = taken.claim(wanted, port.slot.role if port.role is Role.STATE else port.role)
        named[port.slot] = name
        in_names.append(name)
    out_names = []
    for port in signature.outputs:
        default = _default(port, {})
        out_names.append(taken.claim(renames.get((port.role, default), _default(port, named)), port.role))
    return in_names, out_names, taken


def rename(
    ports: Sequence[Port], wanted: Sequence[str] | Mapping[str, str] | None, what: str
) -> dict[tuple[Role, str], str]:
    """`input_names` or `output_names` as renames.

    Raises:
        SpecError: too many names, or a name that is not a default name.
    """
    defaults = [(port.role, _default(port, {})) for port in ports]
    if wanted is None:
        return {}
    if isinstance(wanted, Mapping):
        known = {name: (role, name) for role, name in reversed(defaults)}
        for name in wanted:
            if name not in known:
                raise SpecError(f"{what} renames {name!r}, which does not exist; the names are {', '.join(known)}.")
        return {known[name]: new for name, new in wanted.items()}
    if isinstance(wanted, str) or not all(isinstance(name, str) for name in wanted):
        raise SpecError(f"{what}={wanted!r} is not valid: give a list of names, or a mapping from names to names.")
    names = list(wanted)
    if len(names) > len(defaults):
        raise SpecError(f"{what} gives {len(names)} names for {len(defaults)}: {', '.join(n for _, n in defaults)}.")
    if len(set(names)) != len(names):
        raise SpecError(f"{what} contains a name twice.")
    return dict(zip(defaults, names, strict=False))


def _default(port: Port, named: Mapping[Slot, str], renames: Mapping[tuple[Role, str], str] | None = None) -> str:
    """The default name of a port; `named` has the names of the tensors to which it may belong."""
    slot = port.slot
    if port.role is Role.COTANGENT:
        return f"cotangent_{(renames or {}).get((Role.OUTPUT, slot.name), slot.name)}"
    if port.role is Role.NEW_STATE:
        return f"new.{named.get(slot, slot.name)}"
    if port.role is Role.GRADIENT:
        fallback = slot.name
        if slot.role not in (Role.ARGUMENT, Role.TARGET) and any(slot.name == other.name for other in named):
            fallback = f"param.{slot.name}"
        return f"grad_{named.get(slot, fallback)}"
    return slot.name
