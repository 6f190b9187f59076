"""Every row of the table on its own samples: outputs and gradients, static and dynamic, at the lowest and the newest
opset; at every opset when slow tests run."""

import itertools

import pytest
import torch

import gradport
from gradport.operators import Kind, rows, used_rows
from gradport.operators.table import OPSETS

from .proving import proved

OURS = tuple(row for row in rows() if row.function.__module__.startswith("gradport."))
"""The rows of gradport itself: a test that ran before may have added one of its own."""

ROWS = {row.name: row for row in OURS if row.targets}

SIZES = {"n": 3, "m": 4}

WAYS = [(OPSETS[0], False, False), (OPSETS[-1], True, True)]
"""Opset, whether sizes are dynamic, whether `verify` looks for more inputs than the proof of `export` tries."""

SLOW_WAYS = [(*way, True) for way in itertools.product(OPSETS, (False, True)) if (*way, True) not in WAYS]

TORCH_2_11 = torch.__version__.startswith("2.11.")

REFUSED_BY_TORCH_2_11 = {
    *("numbers.sym_numel", "views.trace", "pairs.pdist", "pairs.pdist_forward", "pairs.pdist_backward"),
    *("order.sort", "order.kthvalue", "order.median_dim", "order.nanmedian_dim", "order.mode"),
    *("orthogonal.geqrf", "orthogonal.linalg_qr", "spectral.linalg_eigh"),
}
"""Rows whose dynamic samples torch 2.11 does not export: it compares the sizes of slices with 1. Listed in
docs/compatibility.md."""

CALLS = {
    1: lambda function: lambda a: function(a),
    2: lambda function: lambda a, b: function(a, b),
    3: lambda function: lambda a, b, c: function(a, b, c),
    4: lambda function: lambda a, b, c, d: function(a, b, c, d),
    5: lambda function: lambda a, b, c, d, e: function(a, b, c, d, e),
}
"""A function with named arguments: a function of torch need not have a signature."""


def test_every_row_has_a_sample():
    assert [row.name for row in OURS if not row.samples] == []


def test_every_lowering_names_its_source():
    unsourced = {row.name for row in OURS if row.kind is Kind.LOWERING and not row.links}
    assert {name for name in unsourced if not name.endswith("_of_size")} == {"markers.mark_node"}


def test_names_of_rows_differ():
    assert len(ROWS) == sum(bool(row.targets) for row in OURS)


@pytest.mark.parametrize("name", ROWS)
def test_a_row_on_its_samples(name):
    assert_right(ROWS[name], WAYS)


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_a_row_on_its_samples_at_every_opset(name):
    assert_right(ROWS[name], SLOW_WAYS)


def assert_right(row, ways):
    refused = TORCH_2_11 and row.name in REFUSED_BY_TORCH_2_11
    reached = False
    for sample in row.samples:
        for opset, dynamic, verified in ways:
            with used_rows() as used:
                prove(sample, opset, dynamic and not sample.static and not refused, verified)
            reached |= row in used
    assert reached or refused, f"no sample of {row.name} reaches it"


def prove(sample, opset, dynamic, verified):
    names = "abcde"[: len(sample.inputs)]
    generator = torch.Generator().manual_seed(0)
    inputs = dict(zip(names, sample.inputs, strict=True))
    args = tuple(values.example(SIZES, generator) for values in sample.inputs)
    floating = [name for name, values in inputs.items() if values.dtype.is_floating_point]
    shapes = {name: dynamic_sizes(values) for name, values in inputs.items() if dynamic_sizes(values)}
    intervals = {name: (values.low, values.high) for name, values in inputs.items() if values.dtype != torch.bool}
    function = CALLS[len(names)](sample.function)
    options = {"wrt": floating, "opset_version": opset}
    if verified:
        proved(function, args, shapes if dynamic else None, inputs=intervals, **options)
    else:
        subject = gradport.Subject(function, args, inputs=intervals)
        gradport.export(subject, dynamic_shapes=shapes if dynamic else None, functions="inline", **options)


def dynamic_sizes(values):
    return {axis: size for axis, size in enumerate(values.shape) if isinstance(size, str)}
