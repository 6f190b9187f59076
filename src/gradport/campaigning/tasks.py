"""Tasks: cases of a user's own kind beside Subjects."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from gradport.errors import SpecError

if TYPE_CHECKING:
    from gradport.evidence.evidence import Evidence

__all__ = ["Task", "tasks_of"]


@dataclasses.dataclass(frozen=True)
class Task:
    """A function that a campaign runs as one case.

    Attributes:
        name: the row of the matrix.
        function: without arguments. It returns Evidence, or None for ok; an AssertionError is a failure, a
            gradport.Error a refusal, any other exception an error.
        column: the column of the matrix.

    Raises:
        SpecError: `function` is not callable.
    """

    name: str
    function: Callable[[], Evidence | None]
    column: str = ""

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise SpecError(f"The function of the Task {self.name!r} is {self.function!r}, which cannot be called.")


def tasks_of(value: object) -> Iterator[Task]:
    """The Tasks of a module-level name: the value itself, or the entries of a list or mapping."""
    entries = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else (value,)
    yield from (entry for entry in entries if isinstance(entry, Task))
