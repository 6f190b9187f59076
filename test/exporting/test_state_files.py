"""The state of a step is a plain input; it is saved beside the model, and files of the first format are read."""

import importlib.util
import json
import pathlib
import shutil

import onnx
import onnxruntime
import pytest
import safetensors.torch
import torch

import gradport

FORMAT_1 = pathlib.Path(__file__).parents[1] / "model" / "format_1"

spec = importlib.util.spec_from_file_location("format_1_source", FORMAT_1 / "source.py")
source = importlib.util.module_from_spec(spec)
spec.loader.exec_module(source)


@pytest.fixture(scope="module")
def step():
    return source.step(gradport)


def run(program, count=3):
    state, losses = {}, []
    for _ in range(count):
        found = program.run_named({"x": source.X, "target": source.Y, "lr": torch.tensor(0.1), **state})
        losses.append(float(found["loss"]))
        state = {name.removeprefix("new."): value for name, value in found.items() if name.startswith("new.")}
    return losses


def test_the_model_has_no_initializer_for_its_state(step):
    held = set(step.model.graph.initializers)
    assert not held & {spec.name for spec in step.inputs}
    assert step.model.metadata_props["gradport.format"] == "2"


def test_a_stock_session_of_a_step_says_nothing(step, tmp_path, capfd):
    step.save(tmp_path / "step.onnx")
    onnxruntime.InferenceSession(tmp_path / "step.onnx", providers=["CPUExecutionProvider"])
    assert capfd.readouterr() == ("", "")


def test_run_takes_batch_and_rate_or_everything(step):
    given = (source.X, source.Y, torch.tensor(0.1))
    short = step.run(*given)
    whole = step.run(source.X, source.Y, *step.state().values(), torch.tensor(0.1))
    assert all(torch.equal(a, b) for a, b in zip(short, whole, strict=True))
    with pytest.raises(gradport.ProgramError, match="takes 3 tensors"):
        step.run(source.X)


def test_state_is_a_copy(step):
    step.state()["linear.weight"].zero_()
    assert step.state()["linear.weight"].any()


def test_training_the_module_afterwards_does_not_change_the_program():
    net = source.net()
    program = gradport.export(net, (source.X,), wrt="parameters", loss=source.squared, targets=source.Y)
    before = program.run_named({"x": source.X, "target": source.Y})["loss"]
    held = program.model.graph.initializers["linear.weight"].const_value.numpy().copy()
    with torch.no_grad():
        net.linear.weight.add_(1)
    assert (program.model.graph.initializers["linear.weight"].const_value.numpy() == held).all()
    assert torch.equal(program.run_named({"x": source.X, "target": source.Y})["loss"], before)


def test_saved_beside_the_model_and_read_back(step, tmp_path):
    step.save(tmp_path / "step.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step.onnx", "step.safetensors"]
    again = gradport.load(tmp_path / "step.onnx")
    assert {n: t.dtype for n, t in again.state().items()} == {n: t.dtype for n, t in step.state().items()}
    assert run(again) == run(step)
    again.save(tmp_path / "step.onnx")  # its own state file may be replaced


def test_without_the_state_file_it_loads_and_names_the_file(step, tmp_path):
    step.save(tmp_path / "step.onnx")
    (tmp_path / "step.safetensors").unlink()
    again = gradport.load(tmp_path / "step.onnx")
    with pytest.raises(gradport.ProgramError, match=r"step\.safetensors: file not found"):
        again.state()
    with pytest.raises(gradport.ProgramError, match=r"step\.safetensors: file not found"):
        again.run_named({"x": source.X, "target": source.Y, "lr": torch.tensor(0.1)})
    found = again.run_named({"x": source.X, "target": source.Y, "lr": torch.tensor(0.1), **step.state()})
    assert float(found["loss"]) == run(step, 1)[0]


def test_somebody_elses_safetensors_file_is_not_replaced(step, tmp_path):
    safetensors.torch.save_file({"weight": torch.ones(2)}, tmp_path / "step.safetensors")
    with pytest.raises(gradport.OutputError, match=r"step\.safetensors exists and is not a state file of gradport"):
        step.save(tmp_path / "step.onnx")
    assert list(safetensors.torch.load_file(tmp_path / "step.safetensors")) == ["weight"]
    assert not (tmp_path / "step.onnx").exists()


def test_a_state_file_of_another_model_or_a_damaged_one_is_refused(step, tmp_path):
    step.save(tmp_path / "step.onnx")
    file = tmp_path / "step.safetensors"
    whole = file.read_bytes()
    mark = {"gradport": "state"}
    safetensors.torch.save_file({"other": torch.ones(2)}, file, mark)
    with pytest.raises(gradport.ProgramError, match=r"does not belong to .*it has no 'linear\.weight'"):
        gradport.load(tmp_path / "step.onnx")
    state = step.state()
    safetensors.torch.save_file(state | {"linear.weight": torch.ones(5)}, file, mark)
    with pytest.raises(gradport.ProgramError, match=r"'linear\.weight' takes float32\[2, 3\]"):
        gradport.load(tmp_path / "step.onnx")
    for damaged in (whole[:-7], b"", b"\xff" * 64, whole[:8] + b"\0" * len(whole[8:])):
        file.write_bytes(damaged)
        with pytest.raises(gradport.ProgramError, match=r"step\.safetensors"):
            gradport.load(tmp_path / "step.onnx")


SIGN_OF_NOISE = {("step", "new.linear.bias"), ("step_external", "new.linear.bias")}
"""Adam moves a bias by the sign of its gradient, which is zero by theory before batch normalization: rounding decides.
The moments of this bias, which hold the gradient, are compared."""


@pytest.mark.parametrize("kind", source.KINDS)
def test_files_of_the_first_format_load_and_give_what_a_new_export_gives(kind, tmp_path):
    for path in FORMAT_1.glob(f"{kind}.onnx*"):
        shutil.copy(path, tmp_path)
    old = gradport.load(tmp_path / f"{kind}.onnx")
    assert "gradport.format" not in {p.key for p in onnx.load(tmp_path / f"{kind}.onnx").metadata_props}
    new = source.KINDS[kind][0](gradport)
    assert [(s.name, s.dtype, s.shape, s.role, s.of) for s in old.inputs] == [
        (s.name, s.dtype, s.shape, s.role, s.of) for s in new.inputs
    ]
    assert [s.name for s in old.outputs] == [s.name for s in new.outputs]
    assert old.state().keys() == new.state().keys()
    assert all(torch.equal(old.state()[name], value) for name, value in new.state().items())
    generator = torch.Generator().manual_seed(0)
    feeds = {
        spec.name: torch.randn([4 if isinstance(d, str) else d for d in spec.shape], generator=generator)
        for spec in old.inputs
        if spec.role != "state"
    }
    found = new.run_named(feeds)
    for name, value in old.run_named(feeds).items():
        if (kind, name) in SIGN_OF_NOISE:
            continue
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6)


def test_a_step_of_the_first_format_is_written_in_the_second(tmp_path):
    shutil.copy(FORMAT_1 / "step.onnx", tmp_path)
    old = gradport.load(tmp_path / "step.onnx")
    old.save(tmp_path / "again.onnx")
    again = gradport.load(tmp_path / "again.onnx")
    assert again.model.metadata_props["gradport.format"] == "2"
    assert not set(again.model.graph.initializers) & {spec.name for spec in again.inputs}
    assert run(again) == run(old)


def test_a_file_of_a_later_format_is_refused(step, tmp_path):
    step.model.metadata_props["gradport.format"] = "3"
    try:
        step.save(tmp_path / "step.onnx")
    finally:
        step.model.metadata_props["gradport.format"] = "2"
    with pytest.raises(gradport.ProgramError, match=r"format 3, and this gradport reads 2.*update gradport"):
        gradport.load(tmp_path / "step.onnx")


def test_reading_the_inputs_does_not_depend_on_their_number(step, monkeypatch):
    calls = []
    specs = gradport.Program._specs
    monkeypatch.setattr(gradport.Program, "_specs", lambda self, *args: calls.append(1) or specs(self, *args))
    step.run(source.X, source.Y, torch.tensor(0.1))
    assert len(calls) <= 4


def test_names_of_the_file_are_plain_json(step):
    roles = {entry["role"] for entry in json.loads(step.model.metadata_props["gradport.names"])}
    assert {"state", "lr", "new_state", "loss"} <= roles
