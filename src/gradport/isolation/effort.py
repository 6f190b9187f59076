"""The amount of work: a profile, and a budget that multiplies its counts, so that verdicts do not depend on the load of
the machine. A time limit stops early; tests that it skips are undecided.
"""

from __future__ import annotations

import dataclasses
import enum
import math
import re
import time
from typing import Any

from gradport.errors import SpecError

__all__ = ["Deadline", "Effort", "Profile", "as_effort", "as_seconds"]

_TIME = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>ms|s|m|min|h)")
_UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


class Profile(enum.StrEnum):
    """The selection of rules, and the number of their inputs."""

    QUICK = "quick"
    DEFAULT = "default"
    THOROUGH = "thorough"


@dataclasses.dataclass(frozen=True)
class Effort:
    """The amount of work.

    Attributes:
        profile: the rules, and the number of inputs of each.
        budget: factor of the profile's counts of inputs, elements and searches.
    """

    profile: Profile = Profile.DEFAULT
    budget: float = 1.0

    def count(self, quick: int, default: int, thorough: int) -> int:
        """A count of this profile times the budget, at least 1."""
        plain = {Profile.QUICK: quick, Profile.DEFAULT: default, Profile.THOROUGH: thorough}[self.profile]
        return max(round(plain * self.budget), 1)


class Deadline:
    """A time limit; the current work still finishes."""

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self._end = None if seconds is None else time.monotonic() + seconds

    @property
    def is_over(self) -> bool:
        """Whether the time limit has passed."""
        return self._end is not None and time.monotonic() >= self._end


def as_effort(profile: Any, budget: Any) -> Effort:
    """Parses the options `profile` and `budget`.

    Raises:
        SpecError: an unknown profile, or a budget that is not a positive factor.
    """
    if profile not in list(Profile):
        raise SpecError(f"profile={profile!r} is unknown; it is one of {', '.join(Profile)}.")
    number = isinstance(budget, (int, float)) and not isinstance(budget, bool)
    if not number or not math.isfinite(budget) or budget <= 0:
        raise SpecError(
            f"budget={budget!r} is not a factor of the amount of work; give for example 0.2, 1 or 5. "
            "For a limit in time use time_limit='30s'."
        )
    return Effort(Profile(profile), float(budget))


def as_seconds(limit: Any) -> float | None:
    """Parses the option `time_limit`: seconds, or a text such as "30s", "500ms", "2m" or "1h".

    Raises:
        SpecError: the option is neither.
    """
    if limit is None:
        return None
    if isinstance(limit, (int, float)) and not isinstance(limit, bool) and math.isfinite(limit) and limit >= 0:
        return float(limit)
    match = _TIME.fullmatch(limit.strip()) if isinstance(limit, str) else None
    if match is None:
        raise SpecError(f"time_limit={limit!r} is not a time; write for example '30s', '500ms', '2m' or '1h'.")
    return float(match["number"]) * _UNITS[match["unit"]]
