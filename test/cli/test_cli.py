"""The command line, as a person and as a script meet it."""

import importlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import gradport
from gradport.cli.main import app
from gradport.cli.target import _parse_argument, load_subject
from gradport.subject.spec import DTYPES, InputSpec

TARGETS = str(pathlib.Path(__file__).parent / "targets.py")
X = "x=f32[batch,3]"
DOCS = pathlib.Path(__file__).parents[2] / "docs"


def gradport_cli(*arguments, out=None):
    result = CliRunner().invoke(app, [*arguments, *(["--out", str(out)] if out else [])])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def as_json(*arguments, out=None):
    result = gradport_cli(*arguments, "--json", out=out)
    return result, json.loads(result.stdout)


def test_run_checks_exports_verifies_and_writes(tmp_path):
    result, printed = as_json("run", f"{TARGETS}:Swish", X, out=tmp_path)
    assert result.exit_code == 0, result.stderr
    assert printed["ok"]
    assert {f["rule"] for f in printed["check"]["findings"]} >= {"differences", "operators", "layouts", "contract"}
    assert {f["outcome"] for f in printed["verify"]["findings"] if f["kind"] != "absent"} == {"ok"}
    assert [f["name"] for f in printed["export"]["inputs"]] == ["x", "cotangent_output"]
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "Swish.check.json",
        "Swish.html",
        "Swish.onnx",
        "Swish.verify.json",
    ]
    assert gradport.load(tmp_path / "Swish.onnx").outputs[1].name == "grad_x"
    assert gradport.Evidence.from_json((tmp_path / "Swish.check.json").read_text()).ok


def test_run_prints_tables_for_people(tmp_path):
    result = gradport_cli("run", f"{TARGETS}:Swish", X, out=tmp_path)
    assert result.exit_code == 0
    for words in ("check Swish", "derivative", "grad_x", "Swish.backward", "onnxruntime/grad_x", "wrote"):
        assert words in result.stdout
    assert "Traceback" not in result.output


def test_a_backward_that_is_not_accepted_is_not_ok_but_exported(tmp_path):
    result, printed = as_json("run", f"{TARGETS}:Reversed", X, out=tmp_path)
    assert result.exit_code == 1
    assert not printed["ok"]
    assert (tmp_path / "Reversed.onnx").exists()
    assert 'expect={"x": "scaled by -1"}' in result.stderr
    accepted, _ = as_json("run", f"{TARGETS}:Reversed", X, "--expect", "x=scaled by -1", out=tmp_path)
    assert accepted.exit_code == 0


def test_check_takes_expectations_rules_and_a_budget():
    assert gradport_cli("check", f"{TARGETS}:Reversed", X).exit_code == 1
    assert gradport_cli("check", f"{TARGETS}:Reversed", X, "--expect", "scaled by -1").exit_code == 0
    _, printed = as_json("check", f"{TARGETS}:Swish", X, "--only", "operators", "--budget", "0.5")
    assert [f["rule"] for f in printed["check"]["findings"]] == ["operators"]


def test_the_rules_are_listed():
    result, printed = as_json("check", "--list")
    assert result.exit_code == 0
    assert {"differences", "layouts", "second-order"} <= set(printed["rules"])
    assert "Do compile" in gradport_cli("check", "--list").stdout
    assert gradport_cli("check").exit_code == 2


def test_export_then_verify_then_functions(tmp_path):
    result, printed = as_json("export", f"{TARGETS}:Net", X, "--wrt", "all", out=tmp_path)
    assert result.exit_code == 0, result.stderr
    file = printed["files"][0]
    assert [o["name"] for o in printed["export"]["outputs"]] == [
        "output",
        "grad_x",
        "grad_linear.weight",
        "grad_linear.bias",
    ]
    result, printed = as_json("verify", file, "--against", f"{TARGETS}:Net", X, "--sizes", "batch=1,2,64")
    assert result.exit_code == 0, result.stderr
    assert "batch=64" in printed["verify"]["series"]["cases"]
    result, printed = as_json("functions", file)
    assert {f["phase"] for f in printed["functions"]} == {"forward", "backward"}
    assert "Swish.forward" in gradport_cli("functions", file).stdout


def test_verify_against_something_else_is_not_ok(tmp_path):
    gradport_cli("export", f"{TARGETS}:Swish", X, out=tmp_path)
    result = gradport_cli("verify", str(tmp_path / "Swish.onnx"), "--against", f"{TARGETS}:Reversed", X)
    assert result.exit_code == 1
    assert "differs from eager" in result.stdout


def test_options_of_export(tmp_path):
    arguments = ("export", f"{TARGETS}:Swish", "x=f32[4,3]", "beta=1.5", "--opset", "21", "--functions")
    result, printed = as_json(*arguments, "opaque:com.acme::Fast", "--no-fallback", out=tmp_path)
    assert result.exit_code == 0, result.stderr
    program = gradport.load(tmp_path / "Swish.onnx")
    assert program.opset == 21
    assert [node.op_type for node in program.model.graph if node.domain == "com.acme"] == [
        "Fast.forward",
        "Fast.backward",
    ]
    assert not program.model.functions
    _, printed = as_json("export", f"{TARGETS}:Swish", X, "--wrt", "none", out=tmp_path)
    assert [o["role"] for o in printed["export"]["outputs"]] == ["output"]


def test_a_loss_and_its_target(tmp_path):
    arguments = ("--loss", f"{TARGETS}:error", "--wrt", "parameters")
    result, printed = as_json("run", f"{TARGETS}:Net", X, "target=f32[batch,2]", *arguments, out=tmp_path)
    assert result.exit_code == 0, result.stderr
    assert [i["name"] for i in printed["export"]["inputs"]] == ["x", "target"]
    assert [o["name"] for o in printed["export"]["outputs"]] == ["loss", "grad_linear.weight", "grad_linear.bias"]


def test_inputs_of_every_kind(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((4, 3), np.float32))
    stored, _ = as_json("export", f"{TARGETS}:Swish", f"x=@{tmp_path / 'x.npy'}", "beta=2.0", out=tmp_path)
    assert stored.exit_code == 0, stored.stderr
    nested, printed = as_json("export", f"{TARGETS}:pair", "parts.0=f32[3]", "parts.1=f32[3]", "scale=3", out=tmp_path)
    assert nested.exit_code == 0, nested.stderr
    assert [i["name"] for i in printed["export"]["inputs"]] == ["parts.0", "parts.1", "cotangent_output"]


@pytest.mark.corpus
def test_targets_of_every_kind(tmp_path):
    for target, inputs in (
        (f"{TARGETS}:SUBJECT", []),
        (f"{TARGETS}:Outer.Inner", [X]),
        ("torch.nn:ReLU", ["input=f32[4]"]),
    ):
        result, _ = as_json("run", target, *inputs, out=tmp_path)
        assert result.exit_code == 0, result.stderr
    assert (tmp_path / "a_subject.onnx").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["run", f"{TARGETS}:Branch", X], 3, "decides on a tensor's value"),
        (["run", f"{TARGETS}:Cuda", X], 2, "needs CUDA"),
        (["export", f"{TARGETS}:WrongCount", X], 2, "incorrect number of gradients"),
        (["run", f"{TARGETS}:Net", "x=f32[4,5]"], 2, "rejects its inputs"),
        (["run", f"{TARGETS}:Swish", "x=f32[4,"], 2, "does not parse"),
        (["run", f"{TARGETS}:Swish", "x=f31[4]"], 2, "is not a dtype"),
        (["run", f"{TARGETS}:Swish", "x=f32(4)"], 2, "'f32(4)' does not parse"),
        (["run", f"{TARGETS}:Swish", X, "beta=f32"], 2, "'f32' does not parse"),
        (["run", f"{TARGETS}:Swish", X, X], 2, "'x' is given twice"),
        (["run", f"{TARGETS}:Swish", "x=f32[4]@3..1"], 2, "is empty"),
        (["run", f"{TARGETS}:Swish", "x"], 2, "write NAME=VALUE"),
        (["run", f"{TARGETS}:Swish", "x=@nowhere.npy"], 2, "cannot be read from nowhere.npy"),
        (["run", f"{TARGETS}:Swish"], 2, "needs the input 'x'"),
        (["run", f"{TARGETS}:Swish", X, "z=1"], 2, "has no input 'z'"),
        (["run", f"{TARGETS}:Swsh", X], 2, "did you mean Swish?"),
        (["run", "nowhere.py:Swish", X], 2, "nowhere.py: file not found"),
        (["run", "no_such_module:Swish", X], 2, "There is no module 'no_such_module'"),
        (["run", "torch", X], 2, "write module:attribute"),
        (["run", f"{TARGETS}:NeedsArguments", X], 2, "needs arguments"),
        (["run", f"{TARGETS}:Swish", X, "--opset", "12"], 2, "18 to 25"),
        (["run", f"{TARGETS}:Swish", X, "--functions", "kept"], 2, "is not a form"),
        (["run", f"{TARGETS}:Swish", X, "--sizes", "batch"], 2, "--sizes"),
        (["run", f"{TARGETS}:Swish", X, "--budget", "soon"], 2, "--budget"),
        (["run", f"{TARGETS}:Swish", X, "--expect", "sideways"], 2, "expect='sideways'"),
        (["run", f"{TARGETS}:Swish", X, "--wrt", "nope"], 2, "does not exist"),
        (["verify", "nowhere.onnx", "--against", f"{TARGETS}:Swish", X], 2, "file not found"),
        (["functions", "nowhere.onnx"], 2, "file not found"),
    ],
)
def test_bad_input_gets_one_clear_sentence_and_leaves_nothing(arguments, code, sentence, tmp_path):
    out = tmp_path if arguments[0] in ("run", "export") else None
    result, printed = as_json(*arguments, out=out)
    assert result.exit_code == code, result.stderr
    assert sentence in printed["error"]["message"]
    assert "\n" not in printed["error"]["message"]
    assert "Traceback" not in result.stderr
    kept = {"Branch.check.json", "Branch.html"} if arguments[0] == "run" and code == 3 else set()
    assert {path.name for path in tmp_path.iterdir()} == kept  # what was checked before the refusal


@pytest.mark.parametrize("command", ["run", "export"])
def test_an_output_folder_that_cannot_be_written(command, tmp_path):
    (tmp_path / "file").write_text("in the way")
    result, printed = as_json(command, f"{TARGETS}:Swish", X, out=tmp_path / "file")
    assert result.exit_code == 2
    assert "cannot be written" in printed["error"]["message"]
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_file_that_fails_on_import_is_named_with_its_line(tmp_path):
    (tmp_path / "broken.py").write_text("import torch\nraise RuntimeError('not today')\n")
    result, printed = as_json("check", f"{tmp_path / 'broken.py'}:Fn", X)
    assert result.exit_code == 2
    assert "broken.py:2: RuntimeError: not today" in printed["error"]["message"]


def test_a_fault_of_ours_is_said_to_be_one(monkeypatch, tmp_path):
    def broken(*args, **kwargs):
        raise KeyError("oops")

    monkeypatch.setattr(importlib.import_module("gradport.checking"), "check", broken)
    result, printed = as_json("check", f"{TARGETS}:Swish", X)
    assert result.exit_code == 70
    assert "fault of gradport" in printed["error"]["message"]


def test_the_versions_are_said():
    assert gradport_cli("--version").stdout.startswith("gradport ")


def test_the_help_shows_brackets_as_they_are_typed():
    shown = " ".join(gradport_cli("check", "--help").stdout.split())
    assert "x=f32[batch,16]" in shown
    assert all(dtype in shown for dtype in DTYPES)


def test_every_input_of_the_docs_parses_as_they_say():
    rows = re.findall(r"^\| (`.*) \|.*\|$", (DOCS / "inputs.md").read_text("utf-8"), re.MULTILINE)
    values = [value for row in rows for value in re.findall(r"`([^`]+)`", row) if not value.startswith("@")]
    assert len(values) > 12
    for value in values:
        parsed = _parse_argument(f"x={value}")[1]
        assert isinstance(parsed, InputSpec) == ("[" in value and value[0] != "["), value


def test_exit_codes_are_said_in_the_help_and_the_readme():
    readme = (DOCS.parent / "README.md").read_text("utf-8")
    assert all("130 interrupted" in " ".join(text.split()) for text in (gradport_cli("--help").stdout, readme))


def test_no_path_of_the_machine_is_in_what_is_written(tmp_path):
    package = tmp_path / "project" / "package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package.parent / "pyproject.toml").write_text("")
    shutil.copy(TARGETS, package / "own.py")
    out = tmp_path / "out"
    result = gradport_cli("run", f"{package / 'own.py'}:Swish", X, "--profile", "quick", out=out)
    assert result.exit_code == 0, result.stderr
    written = [path for path in out.rglob("*") if path.is_file()]
    assert {path.suffix for path in written} >= {".onnx", ".html"}
    for path in written:
        if path.suffix in (".onnx", ".html"):
            assert str(tmp_path).encode() not in path.read_bytes(), path
    provenance = json.loads(gradport.load(out / "Swish.onnx").model.metadata_props["gradport.provenance"])
    assert provenance["source"].startswith("package/own.py:")


@pytest.mark.corpus
def test_the_libraries_say_nothing_of_their_own(tmp_path):
    command = [sys.executable, "-m", "gradport", "run", f"{TARGETS}:Swish", X, "--out", str(tmp_path), "--json"]
    result = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "TERM": "dumb"})
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["ok"]
    for word in ("torchvision", "Warning", "WARNING", "[torch.onnx]", "onnxscript"):
        assert word not in result.stderr


def test_the_seed_is_that_of_the_weights_too(tmp_path):
    weights = []
    for seed in ("0", "0", "1"):
        subject = load_subject(f"{TARGETS}:Weighed", ["x=f32[2,3]"], seed=int(seed))
        weights.append(subject.target.linear.weight.detach().clone())
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
