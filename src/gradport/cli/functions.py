"""`gradport functions FILE.onnx`: the graph and the custom Functions of a file."""

from __future__ import annotations

from typing import Annotated

import typer

from gradport.cli.options import Json
from gradport.cli.session import session

__all__ = ["functions"]


def functions(
    file: Annotated[str, typer.Argument(metavar="FILE.onnx", help="The model.", show_default=False)],
    as_json: Json = False,
) -> None:
    """List the graph and the custom Functions of an ONNX file."""
    with session("functions", as_json) as current:
        with current.step("importing"):
            from gradport.model.loading import load
            from gradport.reporting.terminal import functions_table, interface_table
        program = load(file)
        current.show(interface_table(program))
        current.show(functions_table(program))
        current.result |= {"file": file, "opset": program.opset, "functions": [vars(i) for i in program.functions]}
