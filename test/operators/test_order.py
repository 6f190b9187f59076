"""Sorting and picking, with ties, along every dimension."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from .proving import proved

pytestmark = pytest.mark.corpus

PICKS = {
    "sort": lambda x, dim: torch.sort(x, dim=dim, stable=True).values,
    "sort, descending": lambda x, dim: torch.sort(x, dim=dim, descending=True).values,
    "topk": lambda x, dim: torch.topk(x, 2, dim=dim).values,
    "kthvalue": lambda x, dim: torch.kthvalue(x, 2, dim=dim).values,
    "median": lambda x, dim: torch.median(x, dim=dim).values,
    "nanmedian": lambda x, dim: torch.nanmedian(x, dim=dim).values,
    "max": lambda x, dim: torch.max(x, dim=dim).values,
    "min": lambda x, dim: torch.min(x, dim=dim).values,
    "amax": lambda x, dim: torch.amax(x, dim=dim),
    "cummax": lambda x, dim: torch.cummax(x, dim=dim).values,
    "cummin": lambda x, dim: torch.cummin(x, dim=dim).values,
    "cumsum": lambda x, dim: torch.cumsum(x, dim=dim),
    "quantile": lambda x, dim: torch.quantile(x, 0.3, dim=dim),
    "logsumexp": lambda x, dim: torch.logsumexp(x, dim=dim),
    "softmax": lambda x, dim: torch.softmax(x, dim=dim),
}


UNTIED = {key: {"x": (-3.0, 3.0)} for key in ["topk", "kthvalue"]}
"""Which of two equal elements these take, torch leaves open."""


@pytest.mark.parametrize("name", PICKS)
@settings(max_examples=4, deadline=None)
@given(st.integers(-2, 1), st.sampled_from([(3, 4), (2, 5)]))
def test_picks(name, dim, shape):
    shapes = ({0: "n"},) if dim in (1, -1) else None
    proved(lambda x: PICKS[name](x, dim), torch.randn(shape), shapes, inputs=UNTIED.get(name))


@pytest.mark.parametrize("name", ["max", "min", "amax", "cummax", "median", "topk"])
def test_ties(name):
    x = torch.tensor([[1.0, 1.0, 0.0, 1.0], [2.0, 2.0, 2.0, 2.0]])
    proved(lambda x: PICKS[name](x + 0 * x.round(), 1), x, inputs=UNTIED.get(name))


@settings(max_examples=5, deadline=None)
@given(st.integers(1, 5), st.sampled_from([None, 0]), st.booleans())
def test_embedding(count, padding, scaled):
    words = torch.randint(0, 6, (3, count))
    table = torch.randn(6, 4)
    proved(
        lambda table, words: torch.nn.functional.embedding(words, table, padding, scale_grad_by_freq=scaled),
        (table, words),
        {"words": {0: "batch"}},
        wrt="table",
    )
