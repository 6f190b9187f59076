"""A Program runs, saves, loads and says what it is."""

import onnx
import onnx_ir as ir
import pytest
import torch

import gradport
from gradport.model.program import TensorSpec
from gradport.subject.ports import Role

from ..exporting import functions as fn

X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def program():
    return gradport.export(fn.Clamp, X, wrt="inputs", dynamic_shapes=({0: "batch"},))


def test_specs_say_name_dtype_shape_and_role(program):
    assert program.inputs[0] == TensorSpec("x", torch.float32, ("batch", 3), Role.ARGUMENT, None)
    assert program.outputs[1].of == "x"
    assert program.opset == program.model.graph.opset_imports[""]


def test_functions_say_where_the_code_stands_and_how_often_it_is_used(program):
    forward, backward = sorted(program.functions, key=lambda info: info.phase, reverse=True)
    assert (forward.phase, backward.phase) == ("forward", "backward")
    assert forward.file.endswith("functions.py")
    assert forward.line != backward.line
    assert forward.uses == backward.uses == 1


def test_run_takes_tensors_in_order_and_run_named_by_name(program):
    cotangent = torch.ones(2, 3)
    output, gradient = program.run(X[:2], cotangent)
    named = program.run_named({"cotangent_output": cotangent, "x": X[:2]})
    assert torch.equal(output, X[:2].clamp(min=0))
    assert torch.equal(named["grad_x"], gradient)


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        ((X,), "takes 2 tensors"),
        ((X.double(), X), r"'x' takes float32\[batch, 3\], not float64\[4, 3\]"),
        ((X, X[:2]), r"'cotangent_output' takes float32\[batch, 3\], not float32\[2, 3\]"),
        ((X[:, :2], X), r"not float32\[4, 2\]"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(program, tensors, reason):
    with pytest.raises(gradport.ProgramError, match=reason):
        program.run(*tensors)


def test_names_that_are_missing_or_unknown_are_said(program):
    with pytest.raises(gradport.ProgramError, match="cotangent_output missing and y unknown"):
        program.run_named({"x": X, "y": X})


@pytest.mark.parametrize("external", [False, True])
def test_save_and_load_give_the_same_program(program, tmp_path, external):
    path = tmp_path / "clamp.onnx"
    linear = gradport.export(torch.nn.Linear(300, 300), torch.randn(2, 300), wrt="all")
    for saved in (program, linear):
        saved.save(path, external_data=external)
        loaded = gradport.load(path)
        assert loaded.inputs == saved.inputs
        assert loaded.outputs == saved.outputs
        assert loaded.functions == saved.functions
        assert loaded.provenance == saved.provenance
        feeds = [torch.randn([4 if isinstance(d, str) else d for d in spec.shape]) for spec in saved.inputs]
        assert all(torch.equal(a, b) for a, b in zip(loaded.run(*feeds), saved.run(*feeds), strict=True))
    assert (tmp_path / "clamp.onnx.data").exists() is external
    onnx.checker.check_model(str(path), full_check=True)


def test_a_folder_that_cannot_be_written_leaves_nothing(program, tmp_path):
    with pytest.raises(gradport.OutputError, match="cannot be written"):
        program.save(tmp_path / "missing" / "clamp.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_failure_half_way_leaves_the_file_that_stood_there(program, tmp_path, monkeypatch):
    path = tmp_path / "clamp.onnx"
    program.save(path)
    before = path.read_bytes()

    def broken(model, file, **options):
        with open(file, "wb") as half:
            half.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(ir, "save", broken)
    with pytest.raises(gradport.OutputError, match="disk full"):
        program.save(path)
    assert [p.name for p in tmp_path.iterdir()] == ["clamp.onnx"]
    assert path.read_bytes() == before


def test_what_is_no_model_is_refused(tmp_path):
    with pytest.raises(gradport.ProgramError, match="file not found"):
        gradport.load(tmp_path / "nope.onnx")
    (tmp_path / "text.onnx").write_text("not a model")
    with pytest.raises(gradport.ProgramError, match="is not an ONNX model"):
        gradport.load(tmp_path / "text.onnx")


def test_provenance_says_where_the_model_came_from(program):
    assert program.provenance["subject"] == "Clamp"
    assert program.provenance["torch"] == torch.__version__
    assert "functions.py:" in program.provenance["source"]
    assert program.provenance["wrt"] == ["x"]


def test_buffer_updates_are_left_out_and_listed():
    class Counting(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("seen", torch.zeros(()))

        def forward(self, x):
            self.seen.add_(1)
            return x * 2

    model = Counting()
    program = gradport.export(model, X)
    assert program.dropped_updates == ("seen",)
    assert model.seen == 0


def test_export_changes_nothing_of_the_users():
    model = torch.nn.Linear(3, 2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x = X.clone().requires_grad_()
    gradport.export(model, x, wrt="all")
    assert x.grad is None
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
