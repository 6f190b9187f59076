"""`gradport`: all commands. Heavy imports happen only when a command runs."""

from __future__ import annotations

import importlib.metadata
from typing import Annotated

import typer

from gradport.cli.campaign import campaigns
from gradport.cli.check import check
from gradport.cli.compare import compare
from gradport.cli.docs import docs
from gradport.cli.export import export
from gradport.cli.export_step import export_step
from gradport.cli.export_training import export_training
from gradport.cli.functions import functions
from gradport.cli.run import run
from gradport.cli.sweep import sweep
from gradport.cli.verify import verify
from gradport.cli.view import view

__all__ = ["app"]


def _show_versions(requested: bool) -> None:
    if not requested:
        return
    packages = ("gradport", "torch", "onnx", "onnxscript", "onnxruntime")
    print(", ".join(f"{package} {importlib.metadata.version(package)}" for package in packages))
    raise typer.Exit


app = typer.Typer(
    name="gradport",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # it would read the brackets of f32[batch,16] as markup
)


@app.callback()
def gradport(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_versions, is_eager=True, help="Print the versions and exit.")
    ] = False,
) -> None:
    """Export a PyTorch autograd function, forward and backward, to plain ONNX, with evidence.

    Exit codes: 0 ok, 1 not ok, 2 usage, 3 refused (cannot be exported), 70 a fault of gradport, 130 interrupted.
    """


for _command in (run, check, export, export_step, export_training, verify, sweep, functions, docs, compare, view):
    app.command()(_command)
app.add_typer(campaigns)
