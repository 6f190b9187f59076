"""The user's declaration of a backward (`expect=`), and whether the measured gradient matches it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from gradport.checking.probes.kinds import Kind, is_straight_through
from gradport.checking.probes.samples import BackwardCall
from gradport.eager.joint import Joint
from gradport.errors import SpecError

__all__ = ["Expectation", "expectations", "is_accepted"]

_NAMES = ("derivative", "straight-through", "surrogate", "clipped")
_SCALED = re.compile(r"^scaled by (?P<k>[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?)$")


@dataclasses.dataclass(frozen=True)
class Expectation:
    """The declaration for one argument.

    Attributes:
        kind: derivative, straight-through, surrogate, clipped or scaled; None: undeclared.
        factor: of scaled.
        alone: whether it was declared only for this argument, not for all.
    """

    kind: str | None
    factor: float | None = None
    alone: bool = False

    def __str__(self) -> str:
        return f"scaled by {self.factor:g}" if self.factor is not None else str(self.kind)


def expectations(joint: Joint, expect: Any) -> dict[str, Expectation]:
    """The declaration of every wanted argument.

    Raises:
        SpecError: a declaration does not parse, or names something that is not a wanted argument.
    """
    names = [slot.name for slot in joint.wanted]
    if expect is None or callable(expect):
        return {name: Expectation(None) for name in names}
    if not isinstance(expect, Mapping):
        return {name: _parse(expect, alone=False) for name in names}
    for name in expect:
        if name not in names:
            raise SpecError(f"expect names {name!r}, which is not one of {', '.join(names)}.")
    return {name: _parse(expect[name], alone=True) if name in expect else Expectation(None) for name in names}


def is_accepted(expectation: Expectation, kind: Kind, calls: Sequence[BackwardCall], constant: bool) -> bool:
    """Whether the measured gradient matches the declaration.

    Without a declaration the derivative is accepted; straight-through and surrogate gradients are accepted only if the
    forward is piecewise constant.
    """
    if expectation.kind is None:
        return kind.name == "derivative" or (constant and kind.name in ("straight-through", "surrogate"))
    if expectation.kind == "straight-through":
        return is_straight_through([sample for call in calls for sample in call.samples])
    if expectation.kind == "surrogate":
        return kind.name != "derivative"
    if expectation.kind == "scaled":
        return _has_factor(kind, expectation.factor)
    return kind.name == expectation.kind


def _has_factor(kind: Kind, factor: float | None) -> bool:
    measured = 1.0 if kind.name == "derivative" else kind.factor
    return measured is not None and factor is not None and abs(measured - factor) <= 1e-5 * max(abs(factor), 1e-5)


def _parse(text: Any, *, alone: bool) -> Expectation:
    if isinstance(text, str) and text in _NAMES:
        return Expectation(text, alone=alone)
    match = _SCALED.match(text) if isinstance(text, str) else None
    if match is None:
        raise SpecError(
            f"expect={text!r} is not valid: use {', '.join(_NAMES)}, 'scaled by K', a callable, or a mapping of "
            "arguments."
        )
    return Expectation("scaled", float(match["k"]), alone)
