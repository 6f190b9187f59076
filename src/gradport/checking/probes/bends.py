"""Finds points where the slope of a scalar function changes abruptly: second differences on a grid, then halving."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["ROUND", "bends"]

ROUND = (0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0, 3.0, -3.0, 6.0)
"""Common thresholds."""

_REACH = 3.0
_GRID = 48
_MOST = 4
_HALVINGS = 40


def bends(height: Callable[[float], float]) -> list[float]:
    """The sharpest bends between -3 and 3, each rounded to 2, 4 and 6 digits, because thresholds are round numbers."""
    width = 2 * _REACH / _GRID
    grid = [-_REACH + width * (count + 0.37) for count in range(_GRID)]
    sharpness = _second_differences([height(value) for value in grid])
    usual = sorted(sharpness)[len(sharpness) // 2]
    steep = sorted((at for at, bend in enumerate(sharpness) if bend > 8 * usual + 1e-9), key=lambda at: -sharpness[at])
    return [bend for at in steep[:_MOST] for bend in _halve(height, grid[at], grid[at + 2])]


def _second_differences(heights: list[float]) -> list[float]:
    return [abs(a - 2 * b + c) for a, b, c in zip(heights, heights[1:], heights[2:], strict=False)]


def _halve(height: Callable[[float], float], low: float, high: float) -> list[float]:
    """The point in [low, high] where the slope changes most, at three roundings."""
    for _ in range(_HALVINGS):
        quarter = (high - low) / 4
        if quarter < 1e-7:
            break
        sharpness = _second_differences([height(low + quarter * step) for step in range(5)])
        at = sharpness.index(max(sharpness))
        low, high = low + quarter * at, low + quarter * (at + 2)
    middle = (low + high) / 2
    return list(dict.fromkeys(round(middle, digits) for digits in (2, 4, 6)))
