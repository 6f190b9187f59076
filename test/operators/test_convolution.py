"""Convolutions and transposed convolutions, their gradients by input, weight and bias."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import gradport
from gradport.operators import convolution, convolution_weights
from gradport.operators.convolution_forms import InputForm, WeightForm

from .proving import proved

pytestmark = pytest.mark.corpus

TILES = (WeightForm.TILES_2, WeightForm.TILES_4)

CHANNELWISE = (WeightForm.DEPTHWISE, WeightForm.DOTS, WeightForm.DIAGONALS)

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


def chosen(weight_form, input_form=InputForm.TRANSPOSED):
    """A `choose_forms` that gives these forms."""
    return lambda *values, **asked: (weight_form, input_form)


@settings(max_examples=12, deadline=None)
@given(convolutions(), st.sampled_from(list(WeightForm)), st.integers(1, 40))
def test_every_form_of_the_weight_gradient(settings, form, piece):
    rank, kernel, stride, padding, dilation, groups, (inside, outside), _ = settings
    if form in CHANNELWISE:
        groups, inside, outside = 3, 1, 1
    elif form not in (WeightForm.BATCH, WeightForm.PLACES, WeightForm.PATCHES):
        groups = 1
    assume(form not in (WeightForm.ROWS, WeightForm.SHIFTS, WeightForm.DIAGONALS, *TILES) or rank == 2)
    if form is WeightForm.FOLDED:
        kernel, stride, padding = [1] * rank, [1] * rank, [0] * rank
    if form in TILES:
        kernel, stride, dilation = [3, 3], [1, 1], [1, 1]
    if form is WeightForm.DIAGONALS:
        stride = dilation = [1, 1]
    if form is WeightForm.SHIFTS:
        stride = [1, 1]
        padding = [min(pad, step * (size - 1)) for pad, step, size in zip(padding, dilation, kernel, strict=True)]
    x = torch.randn(2, groups * inside, *SIZES[rank])
    weight = torch.randn(groups * outside, inside, *kernel)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convolution, "choose_forms", chosen(form))
        patch.setattr(convolution_weights, "_PIECE", piece)
        proved(
            lambda x, weight: getattr(F, f"conv{rank}d")(x, weight, None, stride, padding, dilation, groups),
            (x, weight),
            None if form in CHANNELWISE else {"x": {0: "batch"}},
        )


@settings(max_examples=12, deadline=None)
@given(convolutions(), st.integers(1, 70))
def test_rows_with_many_and_with_few_outputs(settings, outside):
    """The smaller of signal and gradient is transposed."""
    _, _, stride, padding, dilation, _, (inside, _), _ = settings
    assume(len(stride) == 2)
    x, weight = torch.randn(2, inside, 7, 6), torch.randn(outside, inside, 3, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convolution, "choose_forms", chosen(WeightForm.ROWS))
        proved(lambda x, weight: F.conv2d(x, weight, None, stride, padding, dilation), (x, weight))


@settings(max_examples=12, deadline=None)
@given(convolutions(), st.booleans())
def test_a_flipped_kernel(settings, depthwise):
    rank, kernel, _, padding, dilation, groups, (inside, outside), _ = settings
    padding = [min(pad, step * (size - 1)) for pad, step, size in zip(padding, dilation, kernel, strict=True)]
    groups = 3 if depthwise else groups
    inside, outside = (1, 1) if depthwise else (inside, outside)
    x, weight = torch.randn(2, groups * inside, *SIZES[rank]), torch.randn(groups * outside, inside, *kernel)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convolution, "choose_forms", chosen(WeightForm.BATCH, InputForm.FLIPPED))
        proved(
            lambda x, weight: getattr(F, f"conv{rank}d")(x, weight, None, 1, padding, dilation, groups),
            (x, weight),
            {"x": {0: "batch"}},
        )


sizes = st.integers(1, 70)


@settings(max_examples=12, deadline=None)
@given(st.sampled_from(TILES), sizes, sizes, st.integers(0, 3))
def test_tiles_cover_each_size_and_padding(form, height, width, padding):
    assume(min(height, width) + 2 * padding >= 3)
    x, weight = torch.randn(2, 3, height, width), torch.randn(4, 3, 3, 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convolution, "choose_forms", chosen(form))
        proved(lambda x, weight: F.conv2d(x, weight, padding=padding), (x, weight), {"x": {0: "batch"}})


@settings(max_examples=20, deadline=None)
@given(sizes, sizes, st.data())
def test_shifts_cover_each_size_padding_and_dilation(height, width, data):
    kernel = data.draw(st.lists(st.integers(1, 4), min_size=2, max_size=2))
    dilation = data.draw(st.lists(st.integers(1, 3), min_size=2, max_size=2))
    reach = [step * (size - 1) for step, size in zip(dilation, kernel, strict=True)]
    padding = [data.draw(st.integers(0, most)) for most in reach]
    assume(all(size + 2 * pad > far for size, pad, far in zip((height, width), padding, reach, strict=True)))
    x, weight = torch.randn(2, 3, height, width), torch.randn(4, 3, *kernel)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convolution, "choose_forms", chosen(WeightForm.SHIFTS))
        proved(
            lambda x, weight: F.conv2d(x, weight, padding=padding, dilation=dilation),
            (x, weight),
            {"x": {0: "batch"}},
        )


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 8), st.integers(1, 8), st.integers(0, 4))
def test_diagonals_cover_each_size_kernel_and_padding(height, width, rows, columns, padding):
    assume(height + 2 * padding >= rows and width + 2 * padding >= columns)
    x, weight = torch.randn(2, 3, height, width), torch.randn(3, 1, rows, columns)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convolution, "choose_forms", chosen(WeightForm.DIAGONALS))
        proved(lambda x, weight: F.conv2d(x, weight, padding=padding, groups=3), (x, weight), {"x": {0: "batch"}})


@pytest.mark.parametrize("form", [WeightForm.SHIFTS, WeightForm.DIAGONALS, *TILES])
@pytest.mark.parametrize("special", [math.inf, -math.inf, math.nan, 3e38])
def test_special_values_give_the_direct_sum(form, special, monkeypatch):
    """A value that is not finite, or overflows in a transform, changes only the places that read it."""
    groups, outputs = (2, 2) if form is WeightForm.DIAGONALS else (1, 3)
    x, weight = torch.randn(2, 2, 9, 9), torch.randn(outputs, 2 // groups, 3, 3)
    cotangent = torch.randn(2, outputs, 7, 7)
    x[0, 1, 0, 0] = special  # only the kernel's first place reads this corner
    if math.isfinite(special):
        cotangent[0, :, 0, 0] = 1e-38
    results = []
    for one in (WeightForm.PLACES, form):
        monkeypatch.setattr(convolution, "choose_forms", chosen(one))
        program = gradport.export(
            lambda x, weight: F.conv2d(x, weight, groups=groups), (x, weight), wrt=["weight"], verify=False
        )
        results.append(program.run(x, weight, cotangent)[-1])
    assert results[0].isfinite().sum() >= results[0].numel() - 3
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-4, equal_nan=True)


def test_a_weight_gradient_by_tiles_is_as_exact_as_the_direct_sum():
    x, cotangent = torch.randn(4, 32, 24, 24), torch.randn(4, 32, 24, 24)
    weight = torch.randn(32, 32, 3, 3)
    exact = torch.ops.aten.convolution_backward(
        cotangent.double(),
        x.double(),
        weight.double(),
        None,
        [1, 1],
        [1, 1],
        [1, 1],
        False,
        [0, 0],
        1,
        [False, True, False],
    )[1]
    for form in TILES:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(convolution, "choose_forms", chosen(form))
            program = gradport.export(
                lambda x, weight: F.conv2d(x, weight, padding=1), (x, weight), wrt=["weight"], verify=False
            )
        error = (program.run(x, weight, cotangent)[-1] - exact).abs().max() / exact.abs().max()
        assert error < {WeightForm.TILES_2: 2e-6, WeightForm.TILES_4: 1e-5}[form]


def test_an_input_gradient_is_exact_beside_a_large_cotangent():
    """A form by tiles would leave its error in the whole tile."""
    x, weight, cotangent = torch.randn(2, 64, 8, 8), torch.randn(64, 64, 3, 3), torch.randn(2, 64, 8, 8)
    cotangent[:, :, 4, 4] *= 1e6
    program = gradport.export(lambda x, weight: F.conv2d(x, weight, padding=1), (x, weight), wrt=["x"], verify=False)
    exact = F.conv_transpose2d(cotangent.double(), weight.double(), padding=1)
    errors = (program.run(x, weight, cotangent)[-1] - exact).abs() / exact.abs().amax(1, keepdim=True)
    assert errors.max() < 1e-5
