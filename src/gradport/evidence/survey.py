"""The survey of one Python file: its syntax tree's contents, and its links to other files."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["FileSurvey"]

Entry = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class FileSurvey:
    """The contents of a Python file, read without importing it.

    Attributes:
        file: the path.
        module: the import name.
        bytes, lines, text: the file itself.
        docstring: of the module, or "".
        classes, functions, imports: one entry each.
        subjects: whether Subjects stand at module level.
        applies: the places of each `.apply`.
        autograd: one entry for each autograd Function.
        security: the risky patterns in the file.
        security_patterns: the names of all patterns.
        imported_by: paths of the files that import it.
        called_by, related, tested_by: links of each Function, by its name.
    """

    file: str
    module: str
    bytes: int
    lines: int
    text: str
    docstring: str
    classes: Sequence[Entry]
    functions: Sequence[Entry]
    imports: Sequence[Entry]
    subjects: bool
    applies: Sequence[Entry]
    autograd: Sequence[Entry]
    security: Sequence[Entry]
    security_patterns: Sequence[str]
    imported_by: Sequence[str] = ()
    called_by: Mapping[str, Sequence[Entry]] = dataclasses.field(default_factory=dict)
    related: Mapping[str, Mapping[str, Sequence[str]]] = dataclasses.field(default_factory=dict)
    tested_by: Mapping[str, Sequence[Entry]] = dataclasses.field(default_factory=dict)
