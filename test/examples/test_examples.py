"""Every example and every snippet of the README and the docs runs."""

import pathlib
import re
import runpy
import shlex
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from gradport.cli.main import app

pytestmark = pytest.mark.corpus  # each starts processes or trains

ROOT = pathlib.Path(__file__).parents[2]
README = ROOT / "README.md"
HOW_TO = sorted((ROOT / "docs" / "how-to").glob("*.md"))


def run(command, folder):
    result = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert result.returncode == 0, result.stderr + result.stdout


@pytest.mark.parametrize(
    "path",
    [path for path in sorted((ROOT / "examples").glob("*.py")) if path.name != "data_parallel.py"],
    ids=lambda path: path.name,
)
def test_example_runs(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(path), run_name="__main__")


def python_of(path):
    return re.findall(r"```python\n(.*?)```", path.read_text("utf-8"), re.DOTALL)


PAGES = [README, ROOT / "docs" / "index.md", *sorted((ROOT / "docs" / "tutorials").glob("*.md"))]


@pytest.mark.parametrize("path", [*PAGES, *filter(python_of, HOW_TO)], ids=lambda path: path.stem)
def test_snippets_of_a_page_run_one_after_the_other(path, tmp_path, monkeypatch):
    snippets = python_of(path)
    assert snippets
    (tmp_path / "snippets.py").write_text("\n".join(snippets))
    monkeypatch.chdir(tmp_path)
    runpy.run_path("snippets.py", run_name="__main__")


def commands():
    texts = [path.read_text("utf-8") for path in (README, *HOW_TO, ROOT / "docs" / "tutorials" / "bundle.md")]
    blocks = [block for text in texts for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL)]
    lines = [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ gradport ")]
    return list(dict.fromkeys(lines))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the commands run, with the model that `gradport run` leaves for those that read it; a process of its own
    tries the first of them."""
    folder = tmp_path_factory.mktemp("commands")
    run([sys.executable, "-m", "gradport", *arguments_of(commands()[0])], folder)
    assert (folder / "gradport-out" / "Quantize.onnx").is_file()
    return folder


def arguments_of(command):
    return [part.replace("examples/", f"{ROOT}/examples/") for part in shlex.split(command)[1:]]


@pytest.mark.xdist_group("commands of the docs")
@pytest.mark.parametrize("command", commands()[1:])
def test_command_of_the_docs_runs(command, folder, monkeypatch):
    monkeypatch.chdir(folder)
    result = CliRunner().invoke(app, arguments_of(command))
    assert result.exit_code == 0, result.stderr + result.stdout
