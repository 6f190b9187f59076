"""Sizes are parsed, not run."""

import pytest
from gradport_runtime import BundleError
from gradport_runtime.shapes import shape_of, size_of
from hypothesis import given
from hypothesis import strategies as st

from gradport.subject.expressions import evaluate, parse


@st.composite
def expressions(draw, depth=3):
    if depth == 0 or draw(st.booleans()):
        return draw(st.sampled_from(["a", "b", "c", "0", "1", "7", "12"]))
    one, other = draw(expressions(depth - 1)), draw(expressions(depth - 1))
    form = draw(st.sampled_from(["({0} + {1})", "({0} - {1})", "({0} * {1})", "({0} // {1})", "({0} % {1})"]))
    return draw(st.sampled_from([form, "max({0}, {1})", "min({0}, {1})", "-{0} + {1}"])).format(one, other)


@given(expressions(), st.integers(1, 50), st.integers(1, 50), st.integers(1, 50))
def test_a_size_is_that_of_gradport(text, a, b, c):
    sizes = {"a": a, "b": b, "c": c}
    try:
        expected = evaluate(parse(text), sizes)
    except ZeroDivisionError:
        expected = -1
    if 0 <= expected <= 2**40:
        assert size_of(text, sizes) == expected
    else:
        with pytest.raises(BundleError):
            size_of(text, sizes)


@pytest.mark.parametrize(
    "text",
    [
        *("__import__('os')", "a.b", "a ** 9999999", "2 ** 99", "a if a else b", "[a]", "a, b", "'a'", "max(a)", "x"),
        *("(" * 500 + "a", "a" * 5000, "-1", "9" * 50, "1e3", "a @ b", "f(a, b)", "", "a b", "True", "max(a, key=b)"),
    ],
)
def test_anything_else_is_refused(text):
    with pytest.raises(BundleError) as refusal:
        shape_of([text], {"a": 3, "b": 4})
    assert refusal.value.code == "shape-invalid"
