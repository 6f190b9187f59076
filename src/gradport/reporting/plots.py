"""Plots as small SVG drawings by matplotlib, in the colours of their page.

Colours are CSS variables with default values, so that one drawing fits light and dark pages, and a file of its own.
Every plot has a description in words.
"""

from __future__ import annotations

import contextlib
import html
import io
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from gradport.compat.extras import Extra, extra
from gradport.evidence.series import Curves, Errors, Jacobian, Node, Timings
from gradport.reporting.text import plain

__all__ = [
    "curve_plot",
    "describe_divergence",
    "divergence_plot",
    "error_plot",
    "figure_of",
    "jacobian_plot",
    "svg",
    "timing_plot",
]

_INK = "#010203"

_FAINT = "#808081"

_COLOURS = {"#0b5cad": "c1", "#b3510a": "c2", "#176f2c": "c3", "#7b3fb5": "c4", "#b3211d": "bad"}

_BLUE, _ORANGE, _GREEN, _PURPLE, _RED = _COLOURS

_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "path.simplify": True,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "legend.frameon": False,
}


def curve_plot(title: str, curves: Curves) -> str:
    """Forward, derivative and custom backward along a line, with marked kinks and jumps."""
    with figure_of(title, 6.4, 3.2) as figure:
        axes = figure.subplots()
        t, forward, derivative, backward = (
            [float(value) for value in values]
            for values in (curves["t"], curves["forward"], curves["derivative"], curves["backward"])
        )
        for places, style, name in ((curves["kinks"], ":", "kink"), (curves.get("jumps", ()), "-", "jump")):
            for index, place in enumerate(places):
                axes.axvline(float(place), color=_FAINT, linewidth=0.8, linestyle=style, label="" if index else name)
        axes.plot(t, forward, label="forward", color=_BLUE)
        axes.plot(t, derivative, label="its derivative", linestyle="--", color=_ORANGE)
        axes.plot(t, backward, ":", label="authored backward", linewidth=2.5, color=_GREEN)
        axes.set_xlabel(_brief(curves.get("along", "every input")))
        axes.legend()
        return svg(figure, title)


def error_plot(title: str, errors: Errors) -> str:
    """A histogram of the distances from float64 in ULPs, of eager and of ONNX Runtime."""
    with figure_of(title, 6.4, 2.8) as figure:
        axes = figure.subplots()
        edges = [float(edge) for edge in errors["edges"]]
        places = range(len(edges))
        bars = ((-0.2, errors["eager"], _BLUE, "eager"), (0.2, errors["onnxruntime"], _ORANGE, "onnxruntime"))
        for shift, counts, colour, name in bars:
            axes.bar([p + shift for p in places], counts, width=0.38, color=colour, label=name)
        axes.set_xticks(list(places), [f"≤ {edge:g}" if math.isfinite(edge) else "more" for edge in edges])
        axes.set_yscale("symlog", linthresh=10)
        axes.set_xlabel("ULPs of the largest value")
        axes.set_ylabel("elements")
        axes.legend()
        return svg(figure, title)


def jacobian_plot(title: str, jacobian: Jacobian) -> str:
    """The error of each entry of the custom backward's Jacobian."""
    with figure_of(title, 4.6, 3.6) as figure:
        from matplotlib.colors import LogNorm

        axes = figure.subplots()
        errors = [[max(abs(float(e)), 1e-12) for e in row] for row in jacobian["errors"]]
        norm = LogNorm(vmin=1e-12, vmax=max([1.0, *(e for row in errors for e in row if math.isfinite(e))]))
        rows, columns = len(errors), len(errors[0])
        shown = axes.pcolor(errors, norm=norm, cmap="viridis", edgecolors="none", rasterized=rows * columns > 400)
        axes.invert_yaxis()
        axes.set_xlabel(f"element of {_brief(jacobian['argument'])}")
        axes.set_ylabel(f"element of {_brief(jacobian['output'])}")
        figure.colorbar(shown, ax=axes, label="error")
        return svg(figure, title)


def timing_plot(title: str, timings: Timings) -> str:
    """Milliseconds of forward and backward by moved bytes, with a lower bound from the memory bandwidth."""
    with figure_of(title, 6.4, 3.4) as figure:
        axes = figure.subplots()
        colours = {"eager": _BLUE, "torch.compile": _PURPLE, "onnxruntime": _ORANGE}
        for way, colour in colours.items():
            for phase, style in (("forward", "--"), ("both", "-")):
                rows = [r for r in timings["rows"] if r["way"] == way and r["phase"] == phase]
                said = f"{way}, {'forward' if phase == 'forward' else 'and backward'}"
                if rows:
                    bytes_, times = [r["bytes"] for r in rows], [r["milliseconds"] for r in rows]
                    axes.plot(bytes_, times, style, marker="o", markersize=3, color=colour, label=said)
        moved = sorted({row["bytes"] for row in timings["rows"]})
        floor = [1e3 * size / timings["bandwidth"] for size in moved]
        axes.plot(moved, floor, ":", marker="_", color=_GREEN, label="memory, both")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("bytes of arguments, results, cotangents and gradients")
        axes.set_ylabel("ms")
        axes.legend(fontsize=7.5)
        return svg(figure, title)


def divergence_plot(title: str, series: Sequence[Node], href: str = "") -> str:
    """The error of every node along the graph, by forward and backward pass, with a mark at the first that differs.

    Args:
        title: its title.
        series: the series of the Evidence.
        href: the link of the mark.
    """
    with figure_of(title, 6.8, 2.8) as figure:
        axes = figure.subplots()
        for half, colour in (("forward", _BLUE), ("backward", _ORANGE)):
            places = [place for place, node in enumerate(series) if node.get("half", "forward") == half]
            values = [_clip_to_axis(series[place]["relative"]) for place in places]
            axes.plot(places, values, "o", markersize=3, color=colour, label=half)
        first = next((place for place, node in enumerate(series) if node.get("first")), None)
        if first is not None:
            spot = (first, _clip_to_axis(series[first]["relative"]))
            mark = axes.scatter(*spot, 64, marker="D", color=_RED, facecolor="none")
            mark.set_urls([href] if href else [])
            label = f"first difference: {_brief(series[first].get('op', ''))}"
            axes.annotate(label, spot, (6, -12), textcoords="offset points", color=_RED)
        axes.set_yscale("log")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_xlabel("node, in graph order")
        axes.set_ylabel("error over scale")
        axes.legend()
        return svg(figure, title)


def describe_divergence(series: Sequence[Node]) -> str:
    """The divergence plot in words."""
    halves = [node.get("half", "forward") for node in series]
    first = next((node for node in series if node.get("first")), None)
    mark = f"the first that differs is {first['node']} ({first.get('op', 'node')})" if first else "none differs"
    return (
        f"Error of {len(series)} nodes along the graph, {halves.count('forward')} in the forward pass and "
        f"{halves.count('backward')} in the backward pass; {mark}."
    )


def _brief(text: str) -> str:
    """A text shortened to fit below an axis."""
    short = text if len(text) <= 80 else f"{text[:77]}..."
    return plain(short).replace("$", r"\$")  # what stands between two dollars would be a formula


def _clip_to_axis(relative: Any) -> float:
    """An error on a logarithmic axis: zero and non-finite errors are at its ends."""
    value = float(relative)
    return 10.0 if not math.isfinite(value) else min(max(value, 1e-17), 10.0)


@contextlib.contextmanager
def figure_of(title: str, width: float, height: float) -> Iterator[Any]:
    """An empty figure of this size in inches, in the common style."""
    with extra(Extra.PAGES, "Pages with plots"):
        import matplotlib

    style: Any = {**_STYLE, "svg.hashsalt": title}
    with matplotlib.rc_context(style):
        from matplotlib.figure import Figure

        yield Figure(figsize=(width, height), layout="constrained")


def svg(figure: Any, description: str) -> str:
    """A figure as SVG text for a page, with the colours of the page."""
    buffer = io.StringIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a font lacks a letter: the page's own fonts have it
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = plain(buffer.getvalue())
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r"\b(\d+\.\d{2})\d+", r"\1", text)
    used = set(re.findall(r"#([\w.-]+)", text))
    text = re.sub(r' id="([\w.-]+)"', lambda match: match[0] if match[1] in used else "", text)
    text = re.sub(r">\s+<", "><", text)
    for colour, name in _COLOURS.items():
        text = text.replace(colour, f"var(--{name}, {colour})")
    text = text.replace(_INK, "currentColor")
    text = re.sub(r"<text style=\"", '<text fill="currentColor" style="', text)
    return text.replace("<svg", f'<svg role="img" aria-label="{html.escape(plain(description))}"', 1)
