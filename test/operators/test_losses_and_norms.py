"""Operators whose lowering was written for inference are right in every result that a backward reads."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import gradport

pytestmark = pytest.mark.corpus

BATCH = {"x": {0: "batch"}, "target": {0: "batch"}}


def proved(target, args, shapes, inputs=None, **options):
    program = gradport.export(target, args, wrt=options.pop("wrt", ["x"]), dynamic_shapes=shapes, **options)
    evidence = gradport.verify(
        program, target, args, sizes={"batch": (1, 2, 7)}, runtimes=["onnxruntime"], inputs=inputs
    )
    assert evidence.ok, [finding.message for finding in evidence.findings]


@settings(max_examples=9, deadline=None)
@given(
    st.sampled_from(["mean", "sum", "none"]),
    st.booleans(),
    st.sampled_from([-100, 0, 2]),
    st.sampled_from([0.0, 0.1]),
    st.sampled_from([(4, 5), (2, 5, 3)]),
)
def test_cross_entropy(reduction, weighted, ignored, smoothing, shape):
    weight = torch.linspace(0.5, 2, 5) if weighted else None

    def loss(x, target):
        return F.cross_entropy(x, target, weight, reduction=reduction, ignore_index=ignored, label_smoothing=smoothing)

    # classes 1, 3 and 4 alone: a batch in which everything is ignored is 0/0 in eager too
    target = torch.tensor([1, 3, 4])[torch.randint(0, 3, (shape[0], *shape[2:]))]
    subject = gradport.Subject(loss, (torch.randn(shape), target), inputs={"target": [1, 3, 4]}, wrt=["x"])
    program = gradport.export(subject, dynamic_shapes=BATCH)
    assert gradport.verify(program, subject, sizes={"batch": (1, 2, 7)}, runtimes=["onnxruntime"]).ok


@pytest.mark.parametrize("loss", [F.mse_loss, F.l1_loss, F.smooth_l1_loss, F.huber_loss, F.soft_margin_loss])
def test_a_mean_over_a_dynamic_batch(loss):
    # eager's soft margin is inf / inf where its exponential overflows
    ranges = {"x": (-3.0, 3.0), "target": (-3.0, 3.0)} if loss is F.soft_margin_loss else None
    proved(lambda x, target: loss(x, target), (torch.randn(4, 3), torch.randn(4, 3)), BATCH, inputs=ranges)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize(
    "module",
    [
        torch.nn.BatchNorm1d(3),
        torch.nn.BatchNorm1d(3, affine=False, track_running_stats=False),
        torch.nn.LayerNorm(3),
        torch.nn.GroupNorm(3, 3),
    ],
    ids=lambda module: str(module).partition("(")[0],
)
def test_norms_in_training_and_evaluation(module, train):
    module = module.train(train)
    x = torch.randn(4, 3, 5) if not isinstance(module, torch.nn.LayerNorm) else torch.randn(4, 5, 3)
    program = gradport.export(module, x, wrt="all" if list(module.parameters()) else "inputs")
    assert gradport.verify(program, module, x).ok
    assert bool(program.dropped_updates) is (train and bool(list(module.buffers())))


@settings(max_examples=9, deadline=None)
@given(st.sampled_from([0, 1, -1, None]), st.sampled_from([torch.prod, torch.std, torch.var]))
def test_reductions_whose_count_is_dynamic(dim, reduce):
    def reduced(x):
        return reduce(x) if dim is None else reduce(x, dim)

    x = torch.rand(4, 3) + 0.5
    program = gradport.export(reduced, x, wrt="inputs", dynamic_shapes=({0: "batch"},))
    sizes = {"batch": (2, 7)}  # the deviation of one element is not defined
    assert gradport.verify(program, reduced, x, sizes=sizes, runtimes=["onnxruntime"]).ok


@settings(max_examples=9, deadline=None)
@given(st.sampled_from([0, 1, -1]), st.sampled_from([torch.cumprod, torch.logcumsumexp]), st.booleans())
def test_scans(dim, scan, dynamic):
    assume(not (dynamic and dim == 0 and scan is torch.cumprod))  # its backward loops over the size, and is refused

    def scanned(x):
        return scan(x, dim)

    x = torch.rand(5, 4, 3) + 0.5
    program = gradport.export(scanned, x, wrt="inputs", dynamic_shapes=({0: "batch"},) if dynamic else None)
    assert gradport.verify(program, scanned, x, runtimes=["onnxruntime"]).ok


@settings(max_examples=9, deadline=None)
@given(st.sampled_from([(4, 3), (4,), (4, 2, 3)]), st.booleans())
def test_masked_select_and_masked_scatter(shape, dynamic):
    def move(x):
        chosen = torch.masked_select(x, x > 0)
        return torch.zeros_like(x).masked_scatter(x > 0, chosen * 2) * x

    x = torch.randn(shape)
    program = gradport.export(move, x, wrt="inputs", dynamic_shapes=({0: "batch"},) if dynamic else None)
    assert gradport.verify(program, move, x, runtimes=["onnxruntime"]).ok
