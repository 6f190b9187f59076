"""The names in a file: which tensor goes by which, in one order, so that the same subject always gives the same names.

Where a name is taken, the later one gets its role in front (`target.x`, `output.x`, `param.x`), then `_2`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from gradport.errors import SpecError

__all__ = ["Entry", "Taken", "allot", "renamed", "unique"]

_PREFIX = {"parameter": "param", "buffer": "buffer", "activation": "output"}


@dataclasses.dataclass(frozen=True)
class Entry:
    """One graph input or output before it is named.

    Attributes:
        role: argument, target, cotangent, random, state, lr, loss, output, activation, gradient or new_state.
        kind: what `source` is: the slot's kind for state, a gradient and a new state, else the role again.
        source: the plain name it has (a cotangent's is its output's, a gradient's its slot's).
    """

    role: str
    kind: str
    source: str


class Taken:
    """Names that are in use."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names = set(names)

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def claim(self, name: str, role: str) -> str:
        """`name`, or where it is taken `role.name`, or that with `_2`, `_3`, ..."""
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
    """`name`, or where it is taken that with `_2`, `_3`, ...; it is taken from then on."""
    candidate, count = name, 1
    while candidate in taken:
        count += 1
        candidate = f"{name}_{count}"
    taken.add(candidate)
    return candidate


def allot(
    inputs: Sequence[Entry], outputs: Sequence[Entry], renames: Mapping[tuple[str, str], str]
) -> tuple[list[str], list[str], Taken]:
    """Names for graph inputs and outputs, in order.

    Args:
        inputs, outputs: in graph order.
        renames: `(role, default name)` to the name that the user wants; what is derived from a name follows.
    """
    taken = Taken()
    named: dict[tuple[str, str], str] = {}
    in_names = []
    for entry in inputs:
        default = _default(entry, {}, outputs)
        wanted = renames.get((entry.role, default), _default(entry, named, outputs, renames))
        name = taken.claim(wanted, entry.kind if entry.role == "state" else entry.role)
        named[entry.kind, entry.source] = name
        in_names.append(name)
    out_names = []
    for entry in outputs:
        default = _default(entry, {}, outputs)
        out_names.append(taken.claim(renames.get((entry.role, default), _default(entry, named, outputs)), entry.role))
    return in_names, out_names, taken


def renamed(
    entries: Sequence[Entry], wanted: Sequence[str] | Mapping[str, str] | None, what: str
) -> dict[tuple[str, str], str]:
    """`input_names` or `output_names` as renames.

    Raises:
        SpecError: too many names, or a mapping that names none of the defaults.
    """
    defaults = [(entry.role, _default(entry, {}, entries)) for entry in entries]
    if wanted is None:
        return {}
    if isinstance(wanted, Mapping):
        known = {name: (role, name) for role, name in reversed(defaults)}
        for name in wanted:
            if name not in known:
                raise SpecError(f"{what} renames {name!r}, which is none of {', '.join(known) or 'no names'}.")
        return {known[name]: new for name, new in wanted.items()}
    if isinstance(wanted, str) or not all(isinstance(name, str) for name in wanted):
        raise SpecError(f"{what}={wanted!r} is neither a list of names nor a mapping of names to names.")
    names = list(wanted)
    if len(names) > len(defaults):
        raise SpecError(f"{what} gives {len(names)} names for {len(defaults)}: {', '.join(n for _, n in defaults)}.")
    if len(set(names)) != len(names):
        raise SpecError(f"{what} gives one name twice.")
    return dict(zip(defaults, names, strict=False))


def _default(
    entry: Entry,
    named: Mapping[tuple[str, str], str],
    outputs: Sequence[Entry],
    renames: Mapping[tuple[str, str], str] | None = None,
) -> str:
    if entry.role == "cotangent":
        return f"cotangent_{(renames or {}).get(('output', entry.source), entry.source)}"
    if entry.role == "new_state":
        return f"new.{named.get((entry.kind, entry.source), entry.source)}"
    if entry.role == "gradient":
        fallback = entry.source
        if entry.kind not in ("argument", "target") and any(entry.source == source for _, source in named):
            fallback = f"param.{entry.source}"
        return f"grad_{named.get((entry.kind, entry.source), fallback)}"
    return entry.source
