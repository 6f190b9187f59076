"""Where the slope of a function of one number changes at once: by second differences on a grid, then by halving."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["ROUND", "bends"]

ROUND = (0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0, 3.0, -3.0, 6.0)
"""Where people put thresholds."""

_REACH = 3.0
_GRID = 48
_MOST = 4
_HALVINGS = 40


def bends(height: Callable[[float], float]) -> list[float]:
    """The sharpest bends between -3 and 3, each rounded to two, four and six digits, since thresholds are round."""
    width = 2 * _REACH / _GRID
    grid = [-_REACH + width * (count + 0.37) for count in range(_GRID)]
    sharpness = _second_differences([height(value) for value in grid])
    usual = sorted(sharpness)[len(sharpness) // 2]
    steep = sorted((at for at, bend in enumerate(sharpness) if bend > 8 * usual + 1e-9), key=lambda at: -sharpness[at])
    return [found for at in steep[:_MOST] for found in _halve(height, grid[at], grid[at + 2])]


def _second_differences(heights: list[float]) -> list[float]:
    return [abs(a - 2 * b + c) for a, b, c in zip(heights, heights[1:], heights[2:], strict=False)]


def _halve(height: Callable[[float], float], low: float, high: float) -> list[float]:
    """The place in [low, high] where the slope changes most."""
    for _ in range(_HALVINGS):
        quarter = (high - low) / 4
        if quarter < 1e-7:
            break
        sharpness = _second_differences([height(low + quarter * step) for step in range(5)])
        at = sharpness.index(max(sharpness))
        low, high = low + quarter * at, low + quarter * (at + 2)
    middle = (low + high) / 2
    return list(dict.fromkeys(round(middle, digits) for digits in (2, 4, 6)))
