"""Every example and every snippet of the README runs."""

import pathlib
import re
import shlex
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")


def run(command, folder):
    result = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert result.returncode == 0, result.stderr + result.stdout


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.name)
def test_example_runs(path, tmp_path):
    run([sys.executable, str(path)], tmp_path)


def test_python_snippets_of_the_readme_run_one_after_the_other(tmp_path):
    snippets = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert snippets
    (tmp_path / "snippets.py").write_text("\n".join(snippets))
    run([sys.executable, "snippets.py"], tmp_path)


def commands():
    blocks = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ gradport ")]


@pytest.mark.parametrize("command", commands())
def test_command_of_the_readme_runs(command, tmp_path):
    arguments = [part.replace("examples/", f"{ROOT}/examples/") for part in shlex.split(command)[1:]]
    model = tmp_path / "gradport-out"
    if arguments[0] in ("verify", "functions"):
        run(
            [
                sys.executable,
                "-m",
                "gradport",
                "export",
                f"{ROOT}/examples/straight_through.py:Quantize",
                "x=f32[batch,8]",
                "step=0.25",
            ],
            tmp_path,
        )
        assert model.is_dir()
    run([sys.executable, "-m", "gradport", *arguments], tmp_path)
