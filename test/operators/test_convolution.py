"""Convolutions and transposed convolutions, their gradients by input, weight and bias."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gradport.operators import convolution, convolution_weights
from gradport.operators.convolution_weights import Form

from .proving import proved

pytestmark = pytest.mark.corpus

SIZES = {1: (7,), 2: (6, 5), 3: (4, 5, 4)}


@st.composite
def convolutions(draw):
    """Rank, kernel, stride, padding, dilation, groups, channels in and out of a group, and whether there is a bias."""
    rank = draw(st.sampled_from([1, 2, 2, 3]))
    each = st.lists(st.integers(1, 3 if rank < 3 else 2), min_size=rank, max_size=rank)
    padding = draw(st.lists(st.integers(0, 2), min_size=rank, max_size=rank))
    dilation = draw(each)
    kernel = [min(size, 1 + (SIZES[rank][at] - 1) // dilation[at]) for at, size in enumerate(draw(each))]
    groups = draw(st.integers(1, 2))
    channels = draw(st.sampled_from([(1, 2), (2, 1), (17, 2)]))
    return rank, kernel, draw(each), padding, dilation, groups, channels, draw(st.booleans())


@settings(max_examples=15, deadline=None)
@given(convolutions(), st.booleans())
def test_convolution(settings, batched):
    rank, kernel, stride, padding, dilation, groups, (inside, outside), biased = settings
    convolve = getattr(F, f"conv{rank}d")
    x = torch.randn(*([3] if batched else []), groups * inside, *SIZES[rank])
    weight = torch.randn(groups * outside, inside, *kernel)
    bias = torch.randn(groups * outside) if biased else None
    proved(
        lambda x, weight, bias: convolve(x, weight, bias, stride, padding, dilation, groups),
        (x, weight, bias),
        {"x": {0: "batch"}} if batched else None,
    )


@settings(max_examples=12, deadline=None)
@given(convolutions(), st.data())
def test_transposed_convolution(settings, data):
    rank, kernel, stride, padding, dilation, groups, (inside, outside), biased = settings
    convolve = getattr(F, f"conv_transpose{rank}d")
    padding = [min(p, d * (k - 1)) for p, d, k in zip(padding, dilation, kernel, strict=True)]
    more = [data.draw(st.integers(0, s - 1)) for s in stride]
    x = torch.randn(2, groups * inside, *SIZES[rank])
    weight = torch.randn(groups * inside, outside, *kernel)
    bias = torch.randn(groups * outside) if biased else None
    proved(
        lambda x, weight, bias: convolve(x, weight, bias, stride, padding, more, groups, dilation),
        (x, weight, bias),
        {"x": {0: "batch"}},
    )


@settings(max_examples=6, deadline=None)
@given(st.sampled_from(["same", "valid"]), st.integers(1, 4), st.integers(1, 2))
def test_named_padding(padding, kernel, dilation):
    weight = torch.randn(2, 3, kernel, kernel)
    proved(lambda x, weight: F.conv2d(x, weight, padding=padding, dilation=dilation), (torch.randn(2, 3, 9, 8), weight))


def test_a_dynamic_image():
    proved(
        lambda x, weight: F.conv2d(x, weight, stride=2, padding=1),
        (torch.randn(2, 3, 9, 8), torch.randn(4, 3, 3, 3)),
        {"x": {0: "batch", 2: "height", 3: "width"}},
    )


def test_a_kernel_of_many_places():
    proved(lambda x, weight: F.conv2d(x, weight, padding=3), (torch.randn(2, 3, 9, 8), torch.randn(2, 3, 7, 7)))


@settings(max_examples=12, deadline=None)
@given(convolutions(), st.sampled_from(list(Form)), st.integers(1, 40))
def test_every_form_of_the_weight_gradient(settings, form, piece):
    rank, kernel, stride, padding, dilation, groups, (inside, outside), _ = settings
    if form is Form.DEPTHWISE:
        groups, inside, outside = 3, 1, 1
    elif form is not Form.BATCH:
        groups = 1
    assume(form is not Form.ROWS or rank == 2)
    if form is Form.FOLDED:
        kernel, stride, padding = [1] * rank, [1] * rank, [0] * rank
    x = torch.randn(2, groups * inside, *SIZES[rank])
    weight = torch.randn(groups * outside, inside, *kernel)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convolution, "choose_form", lambda *values: form)
        patch.setattr(convolution_weights, "_PIECE", piece)
        proved(
            lambda x, weight: getattr(F, f"conv{rank}d")(x, weight, None, stride, padding, dilation, groups),
            (x, weight),
            None if form is Form.DEPTHWISE else {"x": {0: "batch"}},
        )
