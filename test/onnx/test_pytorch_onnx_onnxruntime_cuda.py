"""ONNX Runtime's CUDA provider: where it is, models run in it and agree with eager; where it is not, that is said with
its reason and counts as nothing. A session falls back to the CPU without a word, so a run that took place elsewhere
must not pass as one of CUDA's."""

import pathlib

import onnxruntime
import pytest
import torch
from onnx_test_common import finding, subject_of
from pytorch_test_common import Swish

import gradport
from gradport.runtimes import ort
from gradport.testing import assert_exports, needs_runtime

CUDA = "onnxruntime-cuda"
X = torch.linspace(-2, 2, 12).reshape(4, 3)
NO_PROVIDER, NO_DEVICE = "has no CUDA provider", "has no CUDA device"


@pytest.fixture(scope="module")
def program():
    return gradport.export(Swish, (X, 1.5), wrt="inputs", dynamic_shapes=({0: "batch"}, None))


@pytest.fixture
def without_provider(monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])


@pytest.fixture
def without_device(monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def on_the_cpu(monkeypatch):
    """Sessions that were asked for CUDA and run on the CPU."""
    real = ort.new_session
    monkeypatch.setattr(ort, "new_session", lambda model, options, providers: real(model, options))


def verified(program, **options):
    return gradport.verify(program, Swish, (X, 1.5), budget=0.1, **options)


def reason_to_skip(runtime):
    """Why a test that needs a runtime is skipped, or None where it runs."""
    (condition,), said = needs_runtime(runtime).args, needs_runtime(runtime).kwargs["reason"]
    return said if condition else None


@needs_runtime(CUDA)
@pytest.mark.parametrize("name", ["MLP", "CNN", "transformer layer", "custom Functions"])
def test_a_model_agrees_on_cuda_with_every_gradient(name):
    assert_exports(subject_of(name, wrt="all"), runtimes=[CUDA], budget=1.0)


@needs_runtime(CUDA)
def test_verify_takes_cuda_by_itself(program):
    assert finding(verified(program), f"agrees-with-eager/{CUDA}/grad_x").outcome == "ok"


def test_without_the_provider_it_is_listed_as_skipped_with_the_reason(program, without_provider):
    found = finding(verified(program), f"runs/{CUDA}")
    assert (found.rule, found.outcome, found.kind) == ("runs", "skipped", "absent")
    assert NO_PROVIDER in found.message


def test_without_a_device_it_is_listed_as_skipped_with_the_reason(program, without_device):
    found = finding(verified(program), f"runs/{CUDA}")
    assert (found.outcome, found.kind) == ("skipped", "absent")
    assert NO_DEVICE in found.message


def test_a_runtime_that_is_absent_fails_nothing(program, without_provider):
    assert verified(program).ok


def test_a_runtime_that_is_absent_is_no_agreement(program, without_provider):
    evidence = verified(program, runtimes=["onnxruntime", CUDA])
    assert not [f for f in evidence.findings if f.key.startswith(f"agrees-with-eager/{CUDA}")]


def test_where_nothing_ran_nothing_holds(program, without_provider):
    assert not verified(program, runtimes=[CUDA]).ok


@pytest.mark.parametrize(("absence", "said"), [("without_provider", NO_PROVIDER), ("without_device", NO_DEVICE)])
def test_a_test_that_needs_cuda_is_skipped_with_the_reason(request, absence, said):
    request.getfixturevalue(absence)
    assert said in reason_to_skip(CUDA)


def test_a_test_that_needs_the_cpu_runs():
    assert reason_to_skip("onnxruntime") is None


def test_a_run_that_fell_back_to_the_cpu_is_no_run_of_cuda(program, on_the_cpu):
    run = ort.cuda(program)
    with pytest.raises(gradport.Error, match=r"The CUDA provider ran none of the nodes .*CPUExecutionProvider"):
        run({"x": X, "cotangent_output": torch.ones(4, 3)})


def test_a_profile_counts_the_nodes_that_each_provider_ran(tmp_path):
    """Without optimization, four operators in the file are four nodes in the profile."""
    program = gradport.export(lambda x: x.sin().cos().exp().abs(), X, functions="inline")
    options = onnxruntime.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "profile")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.new_session(program.model, options)
    session.run(None, {"x": X.numpy()})
    assert ort.nodes_by_provider(pathlib.Path(session.end_profiling())) == {"CPUExecutionProvider": 4}


def test_a_profile_tells_providers_apart_and_counts_nodes_alone(tmp_path):
    profile = tmp_path / "profile.json"
    profile.write_text(
        '[{"cat": "Session", "args": {"provider": "CPUExecutionProvider"}},'
        ' {"cat": "Node", "name": "fence", "args": {}},'
        ' {"cat": "Node", "args": {"provider": "CUDAExecutionProvider"}},'
        ' {"cat": "Node", "args": {"provider": "CUDAExecutionProvider"}},'
        ' {"cat": "Node", "args": {"provider": "CPUExecutionProvider"}}]'
    )
    assert ort.nodes_by_provider(profile) == {"CUDAExecutionProvider": 2, "CPUExecutionProvider": 1}
