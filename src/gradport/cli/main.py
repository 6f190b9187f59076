"""`gradport`: the commands, put together. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import typer

from gradport.cli.check import check
from gradport.cli.compare import compare
from gradport.cli.docs import docs
from gradport.cli.export import export
from gradport.cli.functions import functions
from gradport.cli.run import run
from gradport.cli.sweep import sweep
from gradport.cli.verify import verify
from gradport.cli.view import view

__all__ = ["app", "main"]

app = typer.Typer(
    name="gradport",
    help="Carry a PyTorch autograd function, forward and backward, into plain ONNX, with evidence.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for _command in (run, check, export, verify, sweep, functions, docs, compare, view):
    app.command()(_command)


def main() -> None:
    """Entry point. Exits with 0 ok, 1 not ok, 2 usage, 3 refused (cannot be exported), 70 a fault of gradport."""
    app()
