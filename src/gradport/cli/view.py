"""`gradport view FILE`: opens a model in Netron, a page or Evidence in the browser."""

from __future__ import annotations

import importlib.util
import pathlib
import tempfile
import webbrowser
from typing import Annotated

import typer

from gradport.cli.evidence import read_evidence
from gradport.cli.options import Json
from gradport.cli.session import Session, session
from gradport.errors import SpecError, TargetError
from gradport.reporting.files import write_text

__all__ = ["view"]


def view(
    file: Annotated[pathlib.Path, typer.Argument(help="FILE.onnx, a page, or Evidence as JSON.", show_default=False)],
    *,
    as_json: Json = False,
) -> None:
    """Open a model in Netron, if installed, and a page or Evidence in the browser."""
    with session("view", as_json) as current:
        if not file.is_file():
            raise TargetError(f"{file}: file not found.")
        if file.suffix == ".onnx":
            _model(current, file)
        elif file.suffix == ".json":
            _browser(current, _draw_page(file))
        elif file.suffix in (".html", ".htm"):
            _browser(current, file)
        else:
            raise SpecError(f"{file} is not an .onnx, .html or .json file; gradport view opens those.")


def _model(current: Session, file: pathlib.Path) -> None:
    if importlib.util.find_spec("netron") is None:
        raise TargetError(f"Netron, which shows {file}, is not installed: pip install netron, or use another viewer.")
    import netron

    current.say(f"Netron shows {file}; stop it with Ctrl-C")
    netron.start(str(file))
    netron.wait()


def _draw_page(file: pathlib.Path) -> pathlib.Path:
    """Writes Evidence as a page in a temporary folder."""
    from gradport.reporting.run import run_html

    evidence = read_evidence(file)
    page = pathlib.Path(tempfile.mkdtemp(prefix="gradport-")) / f"{file.stem}.html"
    write_text(page, run_html(evidence.subject, [(str(file), evidence)]))
    return page


def _browser(current: Session, page: pathlib.Path) -> None:
    where = page.resolve().as_uri()
    current.result["page"] = where
    if not webbrowser.open(where):
        current.say(f"No browser found; open {where}")
