"""The node tests of the onnx package, which `bench/node_tests.py` counts: none is wrong, and refusals are known."""

import importlib.util
import pathlib

import pytest
import torch

BENCH = pathlib.Path(__file__).parents[2] / "bench" / "node_tests.py"

KNOWN = {
    *("INT4", "UINT4", "INT2", "UINT2", "FLOAT4E2M1", "E8M0", "e8m0"),  # torch has no such dtype, or no kernel for it
    *("bernoulli", "training_dropout"),  # random numbers
    *("image_decoder", "tfidfvectorizer"),  # no tensors of numbers
    "scan_sum",  # Scan of opset 8
}


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("node_tests", BENCH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_operator_is_wrong(bench):
    results = {case.name: bench.outcome(case, bench.PEERS["gradport"]) for case in bench.cases()}
    assert {name: why for name, (outcome, why) in results.items() if outcome == "wrong"} == {}
    refused = {name: why for name, (outcome, why) in results.items() if outcome == "refused"}
    assert {name: why for name, why in refused.items() if not any(part in name for part in KNOWN)} == {}
    assert sum(outcome == "right" for outcome, _ in results.values()) > 1300


def test_a_wrong_row_is_seen(bench, monkeypatch):
    from gradport.importing.table import find_row

    row = find_row("", "Relu", 14)
    monkeypatch.setitem(row.__dict__, "function", lambda x, /: torch.relu(x) * 1.01)
    (case,) = [case for case in bench.cases("test_relu") if case.name == "test_relu"]
    assert bench.outcome(case, bench.PEERS["gradport"])[0] == "wrong"
