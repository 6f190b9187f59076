"""Sizes are parsed by a small grammar and never run as code."""

import builtins
import os
import re

import pytest
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gradport
from gradport.compat.torch.sizes import expression_of, size_text
from gradport.compat.torch.tracing import fake_mode, fake_tensor
from gradport.errors import SpecError
from gradport.subject.expressions import evaluate, is_name, names_in, parse

SIZES = {"a": 7, "batch": 12, "x_dim_0": 3}


def texts(depth=3):
    atoms = st.one_of(st.integers(0, 99).map(str), st.sampled_from(sorted(SIZES)))
    return st.recursive(
        atoms,
        lambda inner: st.one_of(
            st.tuples(inner, st.sampled_from(["+", "-", "*", "//", "%"]), inner).map(lambda t: f"({' '.join(t)})"),
            st.tuples(st.sampled_from(["max", "min"]), inner, inner).map(lambda t: f"{t[0]}({t[1]}, {t[2]})"),
            inner.map(lambda t: f"-({t})"),
        ),
        max_leaves=12,
    )


@settings(max_examples=200, deadline=None)
@given(text=texts())
def test_an_expression_is_what_python_makes_of_it(text):
    try:
        expected = eval(text, {"__builtins__": {}}, SIZES | {"max": max, "min": min})
    except ZeroDivisionError:
        with pytest.raises(ZeroDivisionError):
            evaluate(parse(text), SIZES)
        return
    assert evaluate(parse(text), SIZES) == expected
    assert set(names_in(parse(text))) == set(re.findall(r"[a-z_]\w*", text)) - {"max", "min"}


@pytest.mark.parametrize(
    ("text", "value"),
    [("2*batch + 1", 25), ("a//2", 3), ("-a//2", -4), ("-a % 4", 1), ("max(a, 2, batch)", 12), ("1 - -1", 2)],
)
def test_precedence_and_rounding_are_those_of_python(text, value):
    assert evaluate(parse(text), SIZES) == value


HOSTILE = [
    "__import__('os').system('touch owned')",
    "().__class__.__bases__[0].__subclasses__()",
    "a.b()",
    "open('x')",
    "batch if 1 else 2",
    "a**9**9**9",
    "9" * 30,
    "(" * 500 + "a" + ")" * 500,
    "-" * 500 + "a",
    "a" * 2000,
    "lambda: 0",
    "[1,2]",
    "'a'",
    "a;b",
    "a\nb",
    "1e9",
    "0x10",
    "max(a)",
    "max()",
    "a +",
    "",
    " ",
    "a b",
    "eval",
    "exec(a)",
    "\x00",
    "ａ",
    "a=1",
    "{a}",
    "~a",
    "a/2",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_whatever_else_is_refused_and_nothing_runs(text, monkeypatch, tmp_path):
    def forbidden(*args, **kwargs):
        raise AssertionError("code of a file was run")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sympy, "sympify", forbidden)
    monkeypatch.setattr(os, "system", forbidden)
    with monkeypatch.context() as patch:
        patch.setattr(builtins, "eval", forbidden)
        patch.setattr(builtins, "exec", forbidden)
        if text == "eval":
            assert names_in(parse(text)) == ["eval"]  # a name as any other
            return
        with pytest.raises(SpecError):
            parse(text)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_dimension_of_a_file_runs_nothing_when_it_draws(text, monkeypatch, tmp_path):
    if "\x00" in text or text in ("", " "):
        return  # not a dimension that a file can hold
    monkeypatch.chdir(tmp_path)
    program = gradport.export(torch.nn.Dropout(), torch.randn(3, 2), dynamic_shapes={"input": {0: "batch"}})
    program.save(tmp_path / "drop.onnx")
    import onnx

    model = onnx.load(tmp_path / "drop.onnx")
    (value,) = [value for value in model.graph.input if value.name.startswith("random")]
    value.type.tensor_type.shape.dim[0].dim_param = text
    onnx.save(model, tmp_path / "hostile.onnx")
    loaded = gradport.load(tmp_path / "hostile.onnx")
    with pytest.raises(gradport.ProgramError):
        loaded.draw(0, batch=3)
    assert not (tmp_path / "owned").exists()


def test_names_of_dimensions():
    assert is_name("batch") and is_name("x.0_dim_1") and is_name("_n")
    assert not any(map(is_name, ("max", "min", "2n", "a b", "a-b", "", "a+b")))
    with pytest.raises(gradport.SpecError, match="a name is made of letters"):
        gradport.export(torch.nn.ReLU(), torch.randn(2, 3), dynamic_shapes={"input": {0: "my batch"}})


def test_dimensions_called_like_functions_of_a_library_are_plain_names():
    for name in ("S", "N", "E", "I", "beta", "Symbol", "lambda_"):
        program = gradport.export(torch.nn.Dropout(), torch.randn(3, 2), dynamic_shapes={"input": {0: name}})
        assert program.draw(0, **{name: 5})[0].shape == (5, 2)


SIZE_MAKERS = {
    "n * 2 + 1": lambda n: n * 2 + 1,
    "n - 1": lambda n: n - 1,
    "n // 2": lambda n: n // 2,
    "(n + 1) // 2": lambda n: (n + 1) // 2,
    "n % 3 + 1": lambda n: n % 3 + 1,
    "n * n": lambda n: n * n,
    "max(n, 3)": lambda n: torch.sym_max(n, 3),
    "min(n, 3) * 2": lambda n: torch.sym_min(n, 3) * 2,
    "3 * (n - 1)": lambda n: 3 * (n - 1),
    "(n // 2 - 1) * 5": lambda n: (n // 2 - 1) * 5,
}


@pytest.mark.parametrize("name", SIZE_MAKERS)
def test_torchs_sizes_are_written_in_the_grammar(name):
    mode = fake_mode()
    size = SIZE_MAKERS[name](fake_tensor(mode, torch.zeros(6), (0,)).shape[0])
    (own,) = [str(symbol) for symbol in expression_of(size).free_symbols]
    text = size_text(expression_of(size), {own: "n"})
    for n in (2, 5, 6, 9):
        assert evaluate(parse(text), {"n": n}) == eval(name, {"max": max, "min": min}, {"n": n})


def test_what_the_grammar_has_no_word_for_is_unknown():
    n = sympy.Symbol("s0", integer=True)
    assert size_text(sympy.sqrt(n), {"s0": "n"}) is None
    assert size_text(n + 1, {}) is None
    assert size_text(sympy.Rational(1, 2) * n, {"s0": "n"}) is None
