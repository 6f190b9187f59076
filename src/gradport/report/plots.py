"""Plots as SVG, with a text that says what they show."""

from __future__ import annotations

import html
import io
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["curve_plot"]


def curve_plot(title: str, curves: Mapping[str, Sequence[float]]) -> str:
    """Forward, derivative and authored backward over a line, kinks marked; empty where there are no curves."""
    if not curves:
        return ""
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "gradport", "svg.fonttype": "none"}):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6.4, 3.2), layout="constrained")
        axes = figure.subplots()
        axes.plot(curves["t"], curves["forward"], label="forward")
        axes.plot(curves["t"], curves["derivative"], label="its derivative", linestyle="--")
        axes.plot(curves["t"], curves["backward"], label="authored backward", linestyle=":", linewidth=2.5)
        for kink in curves["kinks"]:
            axes.axvline(kink, color="0.7", linewidth=0.8, zorder=0)
        axes.set_xlabel("every input")
        axes.legend()
        return _svg(figure, f"{title}: forward, derivative and authored backward over a line through the inputs.")


def _svg(figure: Any, description: str) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Description": description})
    text = buffer.getvalue()
    return text[text.index("<svg") :].replace("<svg", f'<svg role="img" aria-label="{html.escape(description)}"', 1)
