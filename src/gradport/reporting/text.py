"""Makes untrusted text safe for a page: control characters and characters that change the reading direction become
U+FFFD, and absolute paths become relative to their project."""

from __future__ import annotations

import re
from typing import Any

from gradport.subject.paths import without_machine

__all__ = ["plain"]

_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069\ufeff\ud800-\udfff]"
)


def plain(text: Any) -> str:
    """The text in a form safe for a page: line ends are `\\n`, and no path is absolute."""
    return without_machine(_CONTROL.sub("\ufffd", str(text).replace("\r\n", "\n")))
