"""Upsampling, folding, padding and shifting of images."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from .proving import proved

pytestmark = pytest.mark.corpus

MODES = {
    1: ("nearest", "nearest-exact", "linear"),
    2: ("nearest", "nearest-exact", "bilinear", "bicubic"),
    3: ("nearest", "nearest-exact", "trilinear"),
}


@settings(max_examples=15, deadline=None)
@given(st.sampled_from([1, 2, 3]), st.data(), st.booleans())
def test_interpolation(rank, data, aligned):
    mode = data.draw(st.sampled_from(MODES[rank]))
    shape = (2, 2, *data.draw(st.lists(st.integers(1, 5), min_size=rank, max_size=rank)))
    options = {} if mode.startswith("nearest") else {"align_corners": aligned}
    if data.draw(st.booleans()):
        options["scale_factor"] = data.draw(st.sampled_from([1.0, 1.5, 2.0, 3.0]))
    else:
        options["size"] = data.draw(st.lists(st.integers(1, 7), min_size=rank, max_size=rank))
    proved(lambda x: F.interpolate(x, mode=mode, **options), torch.randn(shape), ({0: "batch"},))


@settings(max_examples=6, deadline=None)
@given(st.integers(1, 3), st.integers(1, 2), st.integers(0, 1), st.integers(1, 2))
def test_unfold_and_fold(kernel, stride, padding, dilation):
    proved(lambda x: F.unfold(x, kernel, dilation, padding, stride), torch.randn(2, 3, 6, 7), ({0: "batch"},))
    columns = F.unfold(torch.randn(2, 3, 6, 7), kernel, dilation, padding, stride)
    proved(lambda x: F.fold(x, (6, 7), kernel, dilation, padding, stride), columns, ({0: "batch"},))


@settings(max_examples=12, deadline=None)
@given(
    st.sampled_from(["constant", "reflect", "replicate", "circular"]),
    st.sampled_from([1, 2, 3]),
    st.lists(st.integers(0, 2), min_size=6, max_size=6),
)
def test_padding(mode, rank, pads):
    options = {"value": 1.5} if mode == "constant" else {}
    shape = (2, 2, *(3, 4, 5)[:rank])
    proved(lambda x: F.pad(x, pads[: 2 * rank], mode=mode, **options), torch.randn(shape), ({0: "batch"},))


def test_constant_padding_cuts_where_it_is_negative():
    proved(lambda x: F.pad(x, (-1, 2, 1, -2)), torch.randn(2, 3, 5, 6), ({0: "batch"},))


@pytest.mark.parametrize("change", [F.pixel_shuffle, F.pixel_unshuffle, lambda x, n: torch.roll(x, n, -1)])
def test_places_that_move(change):
    proved(lambda x: change(x, 2), torch.randn(2, 4, 6, 4), ({0: "batch"},))
