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

ROOT = pathlib.Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")


def run(command, folder):
    result = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert result.returncode == 0, result.stderr + result.stdout


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.name)
def test_example_runs(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(path), run_name="__main__")


def test_python_snippets_of_the_readme_run_one_after_the_other(tmp_path, monkeypatch):
    snippets = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert snippets
    (tmp_path / "snippets.py").write_text("\n".join(snippets))
    monkeypatch.chdir(tmp_path)
    runpy.run_path("snippets.py", run_name="__main__")


@pytest.mark.parametrize(
    "path",
    [ROOT / "docs" / "index.md", *sorted((ROOT / "docs" / "tutorials").glob("*.md"))],
    ids=lambda path: path.stem,
)
def test_snippets_of_a_page_run_one_after_the_other(path, tmp_path, monkeypatch):
    snippets = re.findall(r"```python\n(.*?)```", path.read_text("utf-8"), re.DOTALL)
    assert snippets
    (tmp_path / "snippets.py").write_text("\n".join(snippets))
    monkeypatch.chdir(tmp_path)
    runpy.run_path("snippets.py", run_name="__main__")


def commands():
    blocks = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ gradport ")]


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


@pytest.mark.xdist_group("commands of the README")
@pytest.mark.parametrize("command", commands()[1:])
def test_command_of_the_readme_runs(command, folder, monkeypatch):
    monkeypatch.chdir(folder)
    result = CliRunner().invoke(app, arguments_of(command))
    assert result.exit_code == 0, result.stderr + result.stdout
