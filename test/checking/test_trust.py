"""Verdicts that people can trust: each test is a mistake that has been missed, or a right Function that has failed."""

import torch

import gradport
from gradport.model.sessions import run_session

X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


class Double(torch.autograd.Function):
    """Right; the others here differ from it in one place."""

    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, g):
        return g * 2


class FirstBlock(Double):
    """Right in the first 16 rows."""

    @staticmethod
    def backward(ctx, g):
        found = torch.zeros_like(g)
        found[:16] = g[:16] * 2
        return found


class WholeBlocks(Double):
    """Right in the rows that fill blocks of 4."""

    @staticmethod
    def backward(ctx, g):
        whole = g.shape[0] // 4 * 4
        found = torch.zeros_like(g)
        found[:whole] = g[:whole] * 2
        return found


def failed(evidence):
    return {finding.key for finding in evidence.findings if finding.outcome == "failed"}


def test_larger_sizes_of_a_dynamic_dimension_are_tried():
    assert failed(gradport.check(FirstBlock, gradport.tensor("f32[batch:16,3]"), only=["shapes"])) == {"shapes/sizes"}
    assert gradport.check(Double, gradport.tensor("f32[batch:16,3]"), only=["shapes"]).ok


def test_sizes_that_no_block_divides_are_tried_where_nothing_is_declared():
    assert failed(gradport.check(WholeBlocks, X, only=["shapes"])) == {"shapes/sizes"}


class Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w, b):
        ctx.save_for_backward(x, w)
        return x * w + b

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        return g * w, g * x, g


class TrainedTogether(Product):
    """Forgets the bias where nothing else is trained."""

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        alone = ctx.needs_input_grad == (False, False, True)
        return g * w, g * x, torch.zeros_like(g) if alone else g


def test_each_argument_alone_is_trained():
    args = (X, X.flip(0), X.flip(1))
    assert failed(gradport.check(TrainedTogether, args, only=["contract"])) == {"contract/b alone"}
    assert gradport.check(Product, args, only=["contract"]).ok


class Layer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight, self.bias = torch.nn.Parameter(X.clone()), torch.nn.Parameter(X.clone() + 1)

    def forward(self, x):
        return TrainedTogether.apply(x, self.weight, self.bias)


def test_the_bias_of_a_module_alone_is_trained():
    evidence = gradport.check(Layer(), X, only=["contract"])
    assert failed(evidence) == {"contract/bias alone"}


class Halved(Double):
    """Narrows the gradient of float32, and nothing else."""

    @staticmethod
    def backward(ctx, g):
        return (g * 2).half() if g.dtype == torch.float32 else g * 2


class Widened(Double):
    @staticmethod
    def backward(ctx, g):
        return g.double() * 2


def test_dtypes_of_gradients_are_looked_at_as_declared():
    assert "contract/dtype" in failed(gradport.check(Halved, X, only=["contract"]))
    (wide,) = [f for f in gradport.check(Widened, X, only=["contract"]).findings if f.key == "contract/dtype"]
    assert (wide.outcome, wide.severity) == ("ok", "warning")


class Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        norm = x.norm(dim=-1, keepdim=True)
        ctx.save_for_backward(x, norm)
        return norm

    @staticmethod
    def backward(ctx, g):
        x, norm = ctx.saved_tensors
        return g * x / norm


def test_a_row_of_zeros_is_always_tried():
    evidence = gradport.check(Norm, X + 3, only=["edge-values"], profile="quick", budget=0.1)
    assert "edge-values/x a row of zeros" in failed(evidence)


class Root(torch.autograd.Function):
    """Right above zero."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.where(x > 0, x.clamp(min=1e-30).sqrt(), 0.0)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g / (2 * x.sqrt())


def test_a_declared_range_is_kept_to():
    inside = gradport.tensor("f32[4,3]@0.5..2")
    assert gradport.check(Root, inside, only=["edge-values", "second-order", "differences"]).ok
    assert not gradport.check(Root, X.abs() + 0.5, only=["edge-values"]).ok


class Quantized(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w):
        return x.round() + w

    @staticmethod
    def backward(ctx, g):
        return g, 2 * g


def test_a_declaration_for_one_argument_does_not_change_the_others():
    args = (X * 3, X)
    undeclared = gradport.check(Quantized, args, only=["differences"])
    assert failed(undeclared) == {"differences/w"}
    assert gradport.check(Quantized, args, expect={"w": "scaled by 2"}, only=["differences"]).ok


class Wrong(Double):
    @staticmethod
    def backward(ctx, g):
        return g * g.sin() + 1


def test_a_bug_is_not_advised_to_be_declared():
    messages = [f.message for f in gradport.check(Wrong, X).findings if f.outcome == "failed" and f.kind == "wrong"]
    assert messages
    assert not any("declare" in message for message in messages)


def test_what_is_declared_a_surrogate_is_not_called_wrong():
    (found,) = gradport.check(Wrong, X, expect="surrogate", only=["differences"]).findings
    assert (found.outcome, found.kind) == ("ok", "surrogate")
    assert "wrong" not in found.message


class Clamped(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp(-1, 1).round()

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * (x.abs() <= 1)


class Unmasked(Clamped):
    @staticmethod
    def backward(ctx, g):
        return g


def test_masked_and_unmasked_straight_through_gradients_are_told_apart():
    x = torch.linspace(-2.3, 2.3, 12)
    messages = [gradport.check(fn, x, only=["differences"]).findings[0].message for fn in (Clamped, Unmasked)]
    assert "zero outside" in messages[0]
    assert "at all checked elements" in messages[1]


class Spikes(torch.nn.Module):
    """A membrane over time whose spikes may fall in another step in another dtype."""

    def forward(self, x):
        membrane, total = torch.zeros_like(x[0]), torch.zeros_like(x[0])
        for step in range(x.shape[0]):
            membrane = 0.9 * membrane + x[step]
            spike = Surrogate.apply(membrane - 1)
            membrane = membrane - spike
            total = total + spike * membrane
        return total


class Surrogate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g / (1 + (4 * x).square())


def test_spikes_that_flip_between_dtypes_are_no_alarm():
    for seed in range(4):
        x = torch.rand(12, 8, generator=torch.Generator().manual_seed(seed))
        evidence = gradport.check(Spikes(), x, only=["dtypes"], expect="surrogate", seed=seed)
        assert not failed(evidence)


def test_what_an_optimization_of_the_runtime_breaks_is_said_to_be_its_doing(monkeypatch):
    plain = run_session

    def optimized(session, feeds):
        return {name: value + 1 for name, value in plain(session, feeds).items()}

    monkeypatch.setattr("gradport.model.program.run_session", optimized)
    with_optimizations = "ONNX Runtime's graph optimizations change it, and without them it agrees"
    try:
        gradport.export(Double, X)
    except gradport.ExportError as refusal:
        assert with_optimizations in str(refusal)
    else:
        raise AssertionError("a wrong result was not refused")
