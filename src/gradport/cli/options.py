"""Arguments and options that several commands share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from gradport.errors import SpecError
from gradport.isolation.effort import as_effort
from gradport.subject.spec import DTYPES

__all__ = [
    "Atol",
    "Budget",
    "Columns",
    "Dtypes",
    "Expect",
    "Forms",
    "Functions",
    "Html",
    "Inputs",
    "Json",
    "Loss",
    "NoFallback",
    "Opset",
    "Opsets",
    "Out",
    "Outputs",
    "Profile",
    "Random",
    "Rtol",
    "Rules",
    "Runtimes",
    "Seed",
    "Shapes",
    "Sizes",
    "Target",
    "TimeLimit",
    "Wrt",
    "factor",
    "names",
    "parse_axes",
    "parse_expectations",
    "sizes_of",
    "split_list",
]

Target = Annotated[
    str, typer.Argument(help="module:attribute, path/file.py:attribute, or an ONNX file", show_default=False)
]
Inputs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="INPUT",
        help="x=f32[4,16]: a tensor with these sizes. x=f32[batch,16]: the first size is dynamic. x=f32[batch:3,16]: "
        "and is 3 in the example. x=f32[4]@-1..1: values from this range. i=i64[8]@0..118: integers below 118. "
        "x=f32[]: no dimensions. x=@file.npy: an array. k=0.25, mode='same', size=(2,3), dtype=torch.float16: other "
        f"values. options.k=1: an entry of a mapping. A dtype is one of {', '.join(DTYPES)}.",
        show_default=False,
    ),
]
Wrt = Annotated[
    str | None,
    typer.Option(
        help="Gradients to compute: inputs, parameters, all, none, or names separated by commas.",
        show_default="all available gradients",
    ),
]
Loss = Annotated[str | None, typer.Option(help="module:attribute of a loss, or the name of a scalar output.")]
Outputs = Annotated[str | None, typer.Option(help="all, or names separated by commas.")]
Functions = Annotated[str, typer.Option(help="keep, inline, opaque, symbolic, or opaque:DOMAIN::NAME.")]
NoFallback = Annotated[bool, typer.Option("--no-fallback", help="Leave out the bodies of opaque nodes.")]
Random = Annotated[str, typer.Option(help="input, runtime or off.")]
Opset = Annotated[int | None, typer.Option(help="Opset of ai.onnx, 18 to 25.", show_default="torch's default")]
Expect = Annotated[
    list[str] | None,
    typer.Option(help="The intended gradient: derivative, straight-through, ..., or ARGUMENT=KIND for one argument."),
]
Sizes = Annotated[list[str] | None, typer.Option(help="Sizes to try for a dynamic dimension: batch=1,2,7.")]
Runtimes = Annotated[
    str | None, typer.Option(help="Names of runtimes, separated by commas.", show_default="all installed runtimes")
]
Opsets = Annotated[str | None, typer.Option(help="18,20,25 or 18-25.", show_default="torch's default")]
Dtypes = Annotated[str | None, typer.Option(help="f32,f16,...", show_default="the example's")]
Forms = Annotated[str | None, typer.Option(help="keep,inline,opaque", show_default="keep")]
Shapes = Annotated[str | None, typer.Option(help="static,dynamic", show_default="as in the inputs")]
Columns = Annotated[str | None, typer.Option(help="One column per runtime.", show_default="all in one column")]
Seed = Annotated[int, typer.Option(help="Seed of inputs, cotangents and the weights of a module.")]
Rules = Annotated[list[str] | None, typer.Option(help="A rule's name; may be repeated.")]
Profile = Annotated[str, typer.Option(help="quick, default or thorough: selects rules and the number of inputs.")]
Budget = Annotated[str, typer.Option(metavar="FACTOR", help="Factor of the amount of work: 0.2, 1, 5.")]
TimeLimit = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Start no new test after 30s, 2m, ...; skipped tests make the result undecided."),
]
Rtol = Annotated[float | None, typer.Option(help="Relative tolerance; replaces gradport's criterion.")]
Atol = Annotated[float | None, typer.Option(help="Absolute tolerance; replaces gradport's criterion.")]
Out = Annotated[Path, typer.Option(help="Folder for results.")]
Html = Annotated[Path | None, typer.Option("--html", help="Write the result as an HTML page to this file.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


def names(text: str | None) -> str | list[str] | None:
    """Parses names: `inputs`, `parameters` and `all` stay; `x,y` is a list; `none` is None."""
    if text is None or text == "none":
        return None
    return text if text in ("inputs", "parameters", "all") else [part.strip() for part in text.split(",")]


def split_list(text: str | None) -> tuple[str, ...]:
    """Splits `a,b` into its parts; empty for None."""
    return tuple(part.strip() for part in text.split(",") if part.strip()) if text else ()


def sizes_of(texts: Sequence[str] | None) -> dict[str, tuple[int, ...]] | None:
    """Parses `batch=1,2,7` as `{"batch": (1, 2, 7)}`.

    Raises:
        SpecError: a text does not parse.
    """
    if not texts:
        return None
    sizes = {}
    for text in texts:
        match = re.fullmatch(r"(\w+)=(\d+(?:,\d+)*)", text)
        if match is None:
            raise SpecError(f"--sizes {text!r} does not parse; write for example --sizes batch=1,2,7.")
        sizes[match[1]] = tuple(int(part) for part in match[2].split(","))
    return sizes


def factor(text: str) -> float:
    """Parses `--budget`: a factor of the amount of work.

    Raises:
        SpecError: the text is not a positive factor.
    """
    try:
        return as_effort("default", float(text)).budget
    except ValueError:
        raise SpecError(
            f"--budget {text!r} is not a factor of the amount of work; give for example --budget 5, "
            "or --time-limit 30s for a time limit."
        ) from None


def parse_expectations(texts: Sequence[str] | None) -> Any:
    """Parses `straight-through` for all arguments, or `x=straight-through` for one argument each.

    Raises:
        SpecError: both forms are given, or two texts are for all arguments.
    """
    if not texts:
        return None
    pairs = [text.split("=", 1) for text in texts]
    if all(len(pair) == 2 for pair in pairs):
        return {name.strip(): kind.strip() for name, kind in pairs}
    if len(texts) > 1:
        raise SpecError("Give one --expect for all arguments, or one --expect ARGUMENT=KIND for each.")
    return texts[0]


def _opsets(text: str | None) -> tuple[int, ...]:
    """Parses `18,20` and `18-25`.

    Raises:
        SpecError: the text does not parse.
    """
    opsets: list[int] = []
    for part in split_list(text):
        low, dash, high = part.partition("-")
        if not low.isdigit() or (dash and (not high.isdigit() or int(high) < int(low))):
            raise SpecError(f"--opsets {text!r} does not parse; write for example --opsets 18,20 or --opsets 18-25.")
        opsets += range(int(low), int(high or low) + 1)
    return tuple(opsets)


def _dynamic(text: str | None) -> tuple[bool, ...]:
    """Parses `static,dynamic` as whether dimensions are dynamic.

    Raises:
        SpecError: the text does not parse.
    """
    known = {"static": False, "dynamic": True}
    for part in split_list(text):
        if part not in known:
            raise SpecError(f"--shapes {part!r} is unknown; it is static, dynamic or static,dynamic.")
    return tuple(known[part] for part in split_list(text))


def parse_axes(
    opsets: str | None, dtypes: str | None, functions: str | None, shapes: str | None, runtimes: str | None
) -> dict[str, Any]:
    """Parses the axes of a matrix, as arguments of `sweep` and `campaign`.

    Raises:
        SpecError: a text does not parse.
    """
    return {
        "opsets": _opsets(opsets),
        "dtypes": split_list(dtypes),
        "functions": split_list(functions),
        "dynamic": _dynamic(shapes),
        "runtimes": split_list(runtimes),
    }
