"""Custom Functions in a file that gradport wrote: `<name>.forward.<hash>` and `<name>.backward.<hash>`."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

__all__ = ["Call", "ours"]

_NAME = re.compile(r"(?P<name>.+)\.(?P<phase>forward|backward)\.[0-9a-f]{8}")


@dataclasses.dataclass(frozen=True)
class Call:
    """A call of a Function of gradport.

    Attributes:
        function: its name in the file.
        body: its nodes, a Subgraph.
    """

    function: str
    body: Any

    @property
    def label(self) -> str:
        """The Function's own name."""
        match = _NAME.fullmatch(self.function)
        assert match is not None
        return match["name"]

    @property
    def is_forward(self) -> bool:
        """Whether this is the forward."""
        match = _NAME.fullmatch(self.function)
        assert match is not None
        return match["phase"] == "forward"


def ours(name: str) -> bool:
    """Whether a function of a file is one phase of a custom Function that gradport wrote."""
    return _NAME.fullmatch(name) is not None
