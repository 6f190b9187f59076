"""Input specs: a short text that describes a tensor, `i64[atoms:5]@0..118`.

Grammar: DTYPE `[` DIM, ... `]` with an optional `@LOW..HIGH`. A DIM is a size (`16`) or a name (`batch`, with an
example size after a colon: `batch:4`), which makes it dynamic. LOW is included; HIGH is excluded for integers
(as in `torch.randint`) and the open end for floats.
"""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING

from gradport.errors import SpecError

if TYPE_CHECKING:
    import torch

__all__ = ["DTYPES", "Dim", "InputSpec", "looks_like_spec", "parse_spec", "short_dtype", "tensor"]

DTYPES = {
    "f32": "float32",
    "f16": "float16",
    "bf16": "bfloat16",
    "f64": "float64",
    "i8": "int8",
    "i16": "int16",
    "i32": "int32",
    "i64": "int64",
    "u8": "uint8",
    "bool": "bool",
    "c64": "complex64",
    "c128": "complex128",
}
"""Short dtype names of the command line, and their torch dtypes."""

_SHAPE = re.compile(r"^(?P<dtype>[A-Za-z0-9]+)\[(?P<dims>[^\]]*)\](?:@(?P<range>.*))?$")
_DIM = re.compile(r"^(?:(?P<size>\d+)|(?P<name>[A-Za-z_]\w*)(?::(?P<example>\d+))?)$")
_NUMBER = r"[+-]?(?:\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)"
_RANGE = re.compile(rf"^(?P<low>{_NUMBER})\.\.(?P<high>{_NUMBER})$")


@dataclasses.dataclass(frozen=True)
class Dim:
    """One dimension of a spec: a size, a name (dynamic), or both (a name with its example size)."""

    size: int | None
    name: str | None = None


@dataclasses.dataclass(frozen=True)
class InputSpec:
    """A parsed input spec; made by `gradport.tensor(text)`, and valid in place of any example tensor."""

    text: str
    dtype_name: str
    dims: tuple[Dim, ...]
    range: tuple[float, float] | None = None

    @property
    def dtype(self) -> torch.dtype:
        """The torch dtype."""
        import torch

        dtype = getattr(torch, self.dtype_name)
        assert isinstance(dtype, torch.dtype)
        return dtype


def tensor(text: str) -> InputSpec:
    """An input spec in place of an example tensor, e.g. `gradport.tensor("i64[atoms:5]@0..118")`.

    Raises:
        SpecError: `text` does not parse; the message shows the grammar.
    """
    return parse_spec(text)


def looks_like_spec(text: str) -> bool:
    """Whether a command-line value is intended as a spec: it starts with a word directly before a bracket, or with a
    dtype's short name."""
    word = re.match(r"[A-Za-z]\w*", text)
    return word is not None and (text[word.end() :].startswith("[") or word.group().lower() in DTYPES)


def parse_spec(text: str) -> InputSpec:
    """Parses `DTYPE[DIM,...]@LOW..HIGH`.

    Raises:
        SpecError: the text does not parse; the message names the part.
    """
    match = _SHAPE.match(text.strip())
    if match is None:
        raise _refusal(text, "it is not of the form DTYPE[DIM,...]")
    if match["dtype"] not in DTYPES:
        raise _refusal(text, f"{match['dtype']!r} is not a dtype (one of {', '.join(DTYPES)})")
    dims = tuple(_parse_dim(text, part) for part in match["dims"].split(",")) if match["dims"].strip() else ()
    return InputSpec(text.strip(), DTYPES[match["dtype"]], dims, _parse_range(text, match["dtype"], match["range"]))


def short_dtype(dtype: torch.dtype) -> str:
    """`torch.float32` gives `f32`; a dtype without a short name gives its own name."""
    name = str(dtype).removeprefix("torch.")
    return next((short for short, long in DTYPES.items() if long == name), name)


def _parse_dim(text: str, part: str) -> Dim:
    match = _DIM.match(part.strip())
    if match is None:
        raise _refusal(text, f"{part.strip()!r} is not a dimension")
    if match["size"] is not None:
        return Dim(int(match["size"]))
    return Dim(int(match["example"]) if match["example"] else None, match["name"])


def _parse_range(text: str, dtype: str, part: str | None) -> tuple[float, float] | None:
    if part is None:
        return None
    match = _RANGE.match(part.strip())
    if match is None:
        raise _refusal(text, f"{part!r} is not a range LOW..HIGH")
    low, high = float(match["low"]), float(match["high"])
    if not low < high:
        raise _refusal(text, f"the range {part} is empty")
    if dtype == "bool":
        raise _refusal(text, "a bool has no range")
    return low, high


def _refusal(text: str, reason: str) -> SpecError:
    return SpecError(
        f"The input spec {text!r} does not parse: {reason}; "
        "write for example f32[4,16], f32[batch:4,16]@-1..1 or i64[8]@0..118."
    )
