"""A constant example moves: what is right at the example's values only must not look right."""

import dataclasses

import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gradport
from gradport.eager.inputs import draw_inputs, draw_inputs_within, move_state
from gradport.eager.joint import Joint, Slot

CONSTANTS = {
    "ones": torch.ones(4, 4),
    "zeros": torch.zeros(4, 4),
    "full": torch.full((3, 5), -2.5),
    "eye": torch.eye(4),
    "arange": torch.arange(12.0).reshape(3, 4),
    "one element": torch.tensor([2.0]),
    "no dimensions": torch.tensor(3.0),
    "a zero without dimensions": torch.tensor(0.0),
    "float64 ones": torch.ones(3, dtype=torch.float64),
    "float16 ones": torch.ones(3, dtype=torch.float16),
    "bfloat16 zeros": torch.zeros(3, dtype=torch.bfloat16),
    "ones with an infinity": torch.tensor([1.0, float("-inf"), 1.0]),
}

X = Slot("argument", "x")


def drawn(example, draw=draw_inputs, seed=0):
    joint = Joint(gradport.Subject(lambda x: x, example))
    return draw(joint, {}, {}, torch.Generator().manual_seed(seed))[X]


@pytest.mark.parametrize("name", CONSTANTS)
def test_every_element_of_a_constant_example_moves(name):
    example = CONSTANTS[name]
    found = drawn(example)
    assert found.dtype == example.dtype and found.shape == example.shape
    assert found.isfinite().all()
    known = set(example.flatten().tolist())
    assert not known & set(found.flatten().tolist())
    assert (found.double() - example.double().nan_to_num(neginf=1.0)).abs().max() <= 12  # near what the example shows


def test_a_symmetric_example_stays_symmetric_and_definite():
    found = drawn(torch.eye(4) * 2)
    assert torch.equal(found, found.mT)
    assert bool((torch.linalg.eigvalsh(found) > 0).all())
    assert bool((found.triu(1) != 0).any())


def test_integers_and_booleans_stay_within_the_example():
    assert set(drawn(torch.tensor([2, 5, 3])).tolist()) <= {2, 3, 4, 5}
    assert drawn(torch.tensor([2, 5, 3])).dtype == torch.int64
    assert drawn(torch.tensor([True, True])).all()


@pytest.mark.parametrize("name", CONSTANTS)
def test_within_gives_elements_of_the_example(name):
    example = CONSTANTS[name]
    found = drawn(example, draw_inputs_within)
    if name != "eye":
        assert set(found.flatten().tolist()) <= set(example.flatten().tolist())


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=9),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 100),
)
def test_fresh_values_stay_in_the_range_and_its_surroundings(values, dtype, seed):
    example = torch.tensor(values, dtype=dtype)
    found = drawn(example, seed=seed)
    low, high = float(example.min()), float(example.max())
    slack = 0.1 * max(abs(low), abs(high), 1.0) + 1e-6
    assert low - slack <= float(found.min()) and float(found.max()) <= high + slack


def test_the_subjects_ranges_are_kept():
    joint = Joint(gradport.Subject(lambda x: x, torch.ones(50), inputs={"x": (0.25, 0.5)}))
    found = draw_inputs(joint, {}, {}, torch.Generator().manual_seed(0))[X]
    assert bool((found >= 0.25).all()) and bool((found <= 0.5).all())


def test_the_weights_of_a_norm_move():
    joint = Joint(gradport.Subject(torch.nn.BatchNorm1d(3), torch.randn(4, 3)))
    moved = move_state(joint, torch.Generator().manual_seed(0))
    assert set(moved) == {
        Slot("parameter", "weight"),
        Slot("parameter", "bias"),
        Slot("buffer", "running_mean"),
        Slot("buffer", "running_var"),
    }
    assert all(bool((tensor != 0).all()) and bool((tensor != 1).all()) for tensor in moved.values())


class SquaredByMistake(torch.autograd.Function):
    """x * w whose gradient by x has w twice: right where w is one."""

    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return x * w

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        return g * w * w, g * x


class ScaledBy(torch.nn.Module):
    def __init__(self, start):
        super().__init__()
        self.w = torch.nn.Parameter(start.clone())

    def forward(self, x):
        return SquaredByMistake.apply(x, self.w)


@pytest.mark.parametrize("start", [torch.ones(4), torch.eye(4)[0] * 0 + 1, torch.ones(1)])
def test_check_sees_a_gradient_that_is_right_for_ones_only(start):
    found = gradport.check(SquaredByMistake, (torch.randn(3, 4), start), only=["differences"], budget=0.2)
    assert not found.ok
    found = gradport.check(ScaledBy(start), torch.randn(3, 4), only=["differences"], budget=0.2)
    assert not found.ok


def spoiled(program, tmp_path):
    """A file whose gradient of x has w twice."""
    program.save(tmp_path / "right.onnx")
    model = onnx.load(tmp_path / "right.onnx")
    (node,) = [node for node in model.graph.node if "grad_x" in node.output]
    node.output[:] = ["grad_x_before"]
    model.graph.node.append(onnx.helper.make_node("Mul", ["grad_x_before", "w"], ["grad_x"]))
    onnx.save(model, tmp_path / "wrong.onnx")
    return tmp_path / "wrong.onnx"


def product(x, w):
    return x * w


def test_verify_sees_a_file_that_is_right_for_ones_only(tmp_path):
    subject = gradport.Subject(product, (torch.ones(4, 4), torch.ones(4, 4)), wrt="inputs")
    wrong = spoiled(gradport.export(subject, functions="inline"), tmp_path)
    assert gradport.verify(tmp_path / "right.onnx", subject).ok
    found = gradport.verify(wrong, subject, runtimes=["onnxruntime"])
    assert {finding.key for finding in found.findings if finding.outcome == "failed"} >= {
        "agrees-with-eager/onnxruntime/grad_x"
    }


class Product(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.ones(4))

    def forward(self, x):
        return x * self.w


def test_verify_sees_a_file_that_is_right_for_its_own_weights_only(tmp_path):
    subject = gradport.Subject(Product(), torch.randn(3, 4), wrt="inputs")
    wrong = spoiled(gradport.export(subject, functions="inline"), tmp_path)
    assert gradport.verify(tmp_path / "right.onnx", subject).ok
    found = gradport.verify(wrong, subject, runtimes=["onnxruntime"])
    failed = [finding for finding in found.findings if finding.outcome == "failed"]
    assert any("other weights" in finding.message for finding in failed)


def test_export_refuses_a_graph_that_is_right_for_its_own_weights_only(monkeypatch):
    """A planted fault in the lowering: one factor of the gradient of a product is lost."""
    import importlib

    module = importlib.import_module("gradport.exporting.export")
    rewrite = module.rewrite

    def lossy(model, **options):
        weight = next(value for value in model.graph.inputs if value.shape is not None and list(value.shape) == [4])
        user = list(weight.uses())[-1].node
        other = next(value for value in user.inputs if value is not weight)
        user.outputs[0].replace_all_uses_with(other, replace_graph_outputs=True)
        rewrite(model, **options)

    monkeypatch.setattr(module, "rewrite", lossy)
    with pytest.raises(gradport.ExportError, match="moved inputs and weights"):
        gradport.export(Product(), torch.randn(3, 4), wrt="inputs")


def test_inputs_that_eager_rejects_are_followed_by_those_of_the_example():
    """A mask of zeros and ones: moved values are rejected, and the proof goes on with the example's."""

    def masked(x, mask):
        if not torch.compiler.is_compiling() and not bool(((mask == 0) | (mask == 1)).all()):
            raise ValueError("the mask holds zeros and ones")
        return x * mask

    program = gradport.export(masked, (torch.randn(4), torch.tensor([1.0, 0.0, 1.0, 1.0])), wrt=["x"])
    assert [spec.name for spec in program.outputs] == ["output", "grad_x"]


def test_case_is_frozen():
    from gradport.proving.answers import InputSet

    with pytest.raises(dataclasses.FrozenInstanceError):
        InputSet("x", {}).what = "y"
