"""Files that are not ours: ONNX's own node tests through our runtimes, and models that torch.onnx wrote."""

import dataclasses
import pathlib
import sys

import pytest
import torch

import gradport

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "bench"))
import backend_suite

pytestmark = pytest.mark.corpus

PATTERNS = "test_(add|mul|softmax_|gemm_|conv_|maxpool_2d|averagepool_2d|reduce_sum|where|layer_normalization)"


@pytest.mark.parametrize("runtime", ["onnxruntime", "reference"])
def test_node_tests_agree_with_their_own_outputs(runtime):
    verdicts = [backend_suite.judged(case, runtime) for case in backend_suite.cases(PATTERNS)]
    agrees = sum(verdict.outcome == "agrees" for verdict in verdicts)
    assert not [verdict.reason for verdict in verdicts if verdict.outcome == "differs"]
    assert agrees > 120


def test_a_wrong_output_differs():
    case = next(backend_suite.cases("^test_add$"))
    inputs, outputs = case.data_sets[0]
    wrong = dataclasses.replace(case, data_sets=[(inputs, [outputs[0] + 1])])
    assert backend_suite.judged(wrong, "onnxruntime").outcome == "differs"


NETS = {
    "mlp": (lambda: torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.GELU(), torch.nn.Linear(8, 3)), (4, 6)),
    "cnn": (lambda: torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten()), (2, 3, 6, 6)),
    "norm": (lambda: torch.nn.Sequential(torch.nn.LayerNorm(6), torch.nn.Softmax(-1)), (4, 6)),
}


@pytest.mark.parametrize("name", NETS)
def test_a_model_of_torch_onnx_is_verified(name, tmp_path):
    build, shape = NETS[name]
    net, x = build().eval(), torch.randn(shape)
    torch.onnx.export(net, (x,), tmp_path / "model.onnx", dynamo=True, verbose=False)
    evidence = gradport.verify(tmp_path / "model.onnx", net, x)
    assert evidence.ok, [f.message for f in evidence.findings if f.outcome not in ("ok", "skipped")]
    assert evidence.series["matched"] == "by position"
