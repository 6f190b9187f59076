"""A reproducer runs where only onnxruntime is, has the layout of ONNX's backend tests, and gives nothing away."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import onnx
import onnx.numpy_helper
import onnxruntime
import pytest
import torch

import gradport

from . import planting

X = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    net = planting.Deep(2)
    model = planting.copied(gradport.export(net, X, wrt="inputs"))
    gemm = [node for node in model.graph if node.op_type == "Gemm"][1]
    planting.plant(gemm, "attribute")
    where = tmp_path_factory.mktemp("out") / "deep.reproducer"
    evidence = gradport.verify(model, net, X, runtimes=["onnxruntime"], budget=1.0, reproducer=where)
    assert evidence.series["reproducer"] == str(where)
    return where


def tensor(file):
    proto = onnx.TensorProto()
    proto.ParseFromString(file.read_bytes())
    return proto.name, onnx.numpy_helper.to_array(proto)


def test_the_layout_is_that_of_the_backend_tests(folder):
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {"model.onnx", "repro.py", "versions.json"} <= names
    assert {"test_data_set_0/input_0.pb", "test_data_set_0/output_0.pb"} <= names


def test_it_is_the_one_node_and_it_differs(folder):
    model = onnx.load(folder / "model.onnx")
    assert [node.op_type for node in model.graph.node] == ["Gemm"]
    onnx.checker.check_model(model, full_check=True)
    data = folder / "test_data_set_0"
    feeds = dict(tensor(file) for file in sorted(data.glob("input_*.pb")))
    name, expected = tensor(data / "output_0.pb")
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    assert not np.allclose(session.run([name], feeds)[0], expected, rtol=1e-3)


def test_the_script_runs_without_gradport_torch_and_onnx(folder):
    blocked = "import sys; sys.modules.update(dict.fromkeys(('torch', 'onnx', 'gradport')))\n"
    script = blocked + f"import runpy; runpy.run_path({str(folder / 'repro.py')!r}, run_name='__main__')"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 1, result.stderr
    assert "DIFFERS" in result.stdout
    assert f"onnxruntime {onnxruntime.__version__}" in result.stdout


def test_nothing_of_the_subject_or_the_machine_is_in_it(folder):
    text = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    for secret in (b"layers", b"planting", b"Deep", str(pathlib.Path.home()).encode() + b"/", b"/test/"):
        assert secret not in text


def test_versions_are_in_it(folder):
    said = json.loads((folder / "versions.json").read_text())
    assert said["versions"]["onnxruntime"] == onnxruntime.__version__
    assert said["operator"] == "Gemm"
    assert said["who"] == "the exported graph"


def test_a_right_model_writes_none(tmp_path):
    program = gradport.export(lambda x: x * 2, X)
    gradport.verify(program, lambda x: x * 2, X, reproducer=tmp_path / "none")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_somebody_elses_is_left_alone(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    program = gradport.export(lambda x: x * 2, X)
    with pytest.raises(gradport.OutputError, match="not a reproducer"):
        gradport.verify(program, lambda x: x * 3, X, budget=0.1, reproducer=tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
