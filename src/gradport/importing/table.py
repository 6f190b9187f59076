"""The table of ONNX operators in torch: one row a function, since an opset, with a link."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from gradport.importing.sizes import Sizes

__all__ = ["MICROSOFT", "Row", "find_row", "on_sizes", "rows", "translation"]

MICROSOFT = "com.microsoft"

F = TypeVar("F", bound=Callable[..., Any])

_ROWS: dict[tuple[str, str], list[Row]] = {}
_ON_SIZES: dict[str, Callable[..., Any]] = {}


@dataclasses.dataclass(frozen=True)
class Row:
    """One ONNX operator in torch.

    Attributes:
        op_type: name of the operator.
        domain: empty for ai.onnx.
        since: the first opset of the row.
        function: takes the inputs by position, None where one is absent, and the attributes by keyword; returns a
            tensor, or a tuple of the outputs.
    """

    op_type: str
    domain: str
    since: int
    function: Callable[..., Any]

    @functools.cached_property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """The function's parameters: positional ones are inputs, keywords are attributes."""
        return inspect.signature(self.function).parameters

    @functools.cached_property
    def reads_sizes(self) -> tuple[bool, ...]:
        """For each input, whether the function takes its numbers (`Sizes`) in place of a tensor."""
        return tuple("Sizes" in str(one.annotation) for one in self.parameters.values() if _is_input(one))

    @property
    def is_variadic(self) -> bool:
        """Whether the function takes any number of inputs."""
        return any(one.kind is one.VAR_POSITIONAL for one in self.parameters.values())

    def takes(self, attribute: str) -> bool:
        """Whether the function knows an attribute."""
        return any(
            one.kind is one.VAR_KEYWORD or (one.kind is one.KEYWORD_ONLY and one.name == attribute)
            for one in self.parameters.values()
        )

    @property
    def link(self) -> str:
        """The operator's page."""
        if self.domain:
            return f"https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#{self.domain}.{self.op_type}"
        return f"https://onnx.ai/onnx/operators/onnx__{self.op_type}.html"


def _is_input(parameter: inspect.Parameter) -> bool:
    return parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)


def translation(*op_types: str, domain: str = "", since: int = 1) -> Callable[[F], F]:
    """Registers a function for ONNX operators.

    Args:
        op_types: their names.
        domain: empty for ai.onnx.
        since: the first opset of the row; a row of a later opset replaces it from there on.
    """

    def register(function: F) -> F:
        for op_type in op_types:
            own = _ROWS.setdefault((domain, op_type), [])
            own.append(Row(op_type, domain, since, function))
            own.sort(key=lambda row: row.since)
        return function

    return register


def on_sizes(*op_types: str) -> Callable[[F], F]:
    """Registers a function that computes operators on numbers known before the tensors: sizes and constants."""

    def register(function: F) -> F:
        _ON_SIZES.update(dict.fromkeys(op_types, function))
        return function

    return register


def find_row(domain: str, op_type: str, opset: int) -> Row | None:
    """The row of an operator at an opset."""
    domain = "" if domain == "ai.onnx" else domain
    own = [row for row in _ROWS.get((domain, op_type), ()) if domain or row.since <= opset]
    return own[-1] if own else None


def find_on_sizes(op_type: str) -> Callable[..., Sizes | tuple[Sizes, ...]] | None:
    """The function that computes an operator of ai.onnx on sizes."""
    return _ON_SIZES.get(op_type)


def rows() -> Iterator[Row]:
    """All rows."""
    for own in _ROWS.values():
        yield from own
