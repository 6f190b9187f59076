"""Adaptive pooling and grid_sample with their gradients."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import gradport

from .proving import proved

pytestmark = pytest.mark.corpus


@settings(max_examples=7, deadline=None)
@given(
    st.sampled_from([1, 2, 3]),
    st.lists(st.integers(1, 5), min_size=3, max_size=3),
    st.lists(st.integers(1, 7), min_size=3, max_size=3),
    st.sampled_from(["max", "avg"]),
    st.booleans(),
)
def test_adaptive_pooling(rank, output, sizes, kind, batched):
    pool = getattr(F, f"adaptive_{kind}_pool{rank}d")
    shape = (*([3] if batched else []), 2, *sizes[:rank])
    proved(lambda x: pool(x, tuple(output[:rank])), torch.randn(shape), ({0: "batch"},) if batched else None)


@settings(max_examples=7, deadline=None)
@given(
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(0, 1),
    st.booleans(),
    st.sampled_from([F.max_pool2d, F.max_pool3d]),
)
def test_max_pooling(kernel, stride, padding, ceil_mode, pool):
    padding = min(padding, kernel // 2)
    shape = (2, 2, 5, 6) if pool is F.max_pool2d else (2, 2, 5, 6, 4)
    proved(lambda x: pool(x, kernel, stride, padding, ceil_mode=ceil_mode), torch.randn(shape), ({0: "batch"},))


@settings(max_examples=9, deadline=None)
@given(
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(0, 1),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, 2, 5]),
    st.sampled_from([F.avg_pool2d, F.avg_pool3d]),
)
def test_average_pooling(kernel, stride, padding, ceil_mode, counted, divisor, pool):
    padding = min(padding, kernel // 2)
    shape = (2, 2, 5, 6) if pool is F.avg_pool2d else (2, 2, 5, 6, 4)
    proved(lambda x: pool(x, kernel, stride, padding, ceil_mode, counted, divisor), torch.randn(shape))


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("padded", [None, 1])
def test_embedding_bag(mode, padded):
    words, starts = torch.tensor([1, 4, 4, 2, 1, 0]), torch.tensor([0, 2, 5])
    shares = torch.rand(6) if mode == "sum" else None

    def bags(weight, shares):
        return F.embedding_bag(words, weight, starts, mode=mode, per_sample_weights=shares, padding_idx=padded)

    inside = {"weight": (-3.0, 3.0)} if mode == "max" else None  # eager's maximum depends on the place of a nan
    proved(bags, (torch.randn(5, 3), shares), inputs=inside)


def test_embedding_bag_of_rows():
    words = torch.randint(0, 5, (4, 3))
    proved(lambda weight, words: F.embedding_bag(words, weight), (torch.randn(5, 2), words), (None, {0: "batch"}))


SAMPLINGS = [
    (mode, rank, padding_mode, align_corners)
    for mode, rank in (("bilinear", 2), ("nearest", 2), ("bicubic", 2), ("bilinear", 3))
    for padding_mode in ("zeros", "border", "reflection")
    for align_corners in (True, False)
]
OFTEN = [("bilinear", 2, "zeros", False), ("bilinear", 2, "reflection", True), ("nearest", 2, "border", False)]


@pytest.mark.parametrize(
    ("mode", "rank", "padding_mode", "align_corners"),
    [pytest.param(*one, marks=() if one in OFTEN else pytest.mark.slow) for one in SAMPLINGS],
)
def test_grid_sample(mode, rank, padding_mode, align_corners):
    image = torch.randn(2, 3, *(5, 4, 6)[:rank])
    grid = torch.rand(2, *(3, 2, 4)[:rank], rank) * 3 - 1.5

    def sampled(image, grid):
        return F.grid_sample(image, grid, mode, padding_mode, align_corners)

    ranges = {"image": (-3, 3), "grid": (-1.5, 1.5)}  # at inf and nan eager's kernel clamps what a graph multiplies
    proved(sampled, (image, grid), ({0: "batch"}, {0: "batch"}), inputs=ranges)


def test_affine_grid_and_sample():
    def warped(image, theta):
        return F.grid_sample(image, F.affine_grid(theta, image.shape, align_corners=False), align_corners=False)

    proved(warped, (torch.randn(2, 3, 5, 6), torch.randn(2, 2, 3)))


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_gaussian_nll_loss(reduction):
    def loss(x, target, width):
        return F.gaussian_nll_loss(x, target, width.square(), reduction=reduction, full=True)

    proved(loss, (torch.randn(4, 3), torch.randn(4, 3), torch.rand(4, 3) + 0.5))


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("spatial", [(5, 6), (1, 4), (2, 1, 3)])
def test_affine_grids(spatial, align_corners):
    axes = len(spatial)

    def grid(theta, like):
        return F.affine_grid(theta, like.shape, align_corners=align_corners)

    args = (torch.randn(2, axes, axes + 1), torch.randn(2, 1, *spatial))
    proved(grid, args, ({0: "batch"}, {0: "batch"}), wrt=["theta"])
    program = gradport.export(grid, args, wrt=["theta"], functions="inline")
    assert "ReduceSum" not in {node.op_type for node in program.model.graph}
