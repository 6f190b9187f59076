"""Shifts, bits and comparisons of integers and booleans, against torch on every value that Hypothesis draws."""

import operator

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gradport

DTYPES = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool]
OPERATIONS = {
    "and": operator.and_,
    "or": operator.or_,
    "xor": operator.xor,
    "add": operator.add,
    "mul": operator.mul,
    "gt": operator.gt,
    "le": operator.le,
    "eq": operator.eq,
    "max": torch.maximum,
    "min": torch.minimum,
}


def drawn(dtype, data):
    limits = (0, 1) if dtype == torch.bool else (torch.iinfo(dtype).min, torch.iinfo(dtype).max)
    values = data.draw(st.lists(st.integers(*limits), min_size=6, max_size=6))
    return torch.tensor(values, dtype=torch.int64).to(dtype)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(DTYPES), st.sampled_from(sorted(OPERATIONS)), st.data())
def test_two_tensors(dtype, name, data):
    a, b = drawn(dtype, data), drawn(dtype, data)
    program = gradport.export(OPERATIONS[name], (a, b), functions="inline")
    (found,) = program.run(a, b)
    assert torch.equal(found, OPERATIONS[name](a, b))


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(DTYPES[:-1]), st.integers(0, 7), st.booleans(), st.data())
def test_shifts(dtype, count, left, data):
    x = drawn(dtype, data)

    def shifted(x):
        return x << count if left else x >> count

    (found,) = gradport.export(shifted, x, functions="inline").run(x)
    assert torch.equal(found, shifted(x))
