"""Evidence that is anybody's: what can be drawn is, a sentence stands for the rest, and nothing falls over."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gradport
from gradport.reporting.measured import gradient_blocks, onnx_blocks, performance_blocks, usage_blocks
from gradport.reporting.run import run_html

NAN = {key: [0.0, 1.0] for key in ("t", "forward", "derivative", "backward")} | {"kinks": [], "along": "x"}
SERIES = [
    {"jacobian": {"argument": "x", "output": "y", "errors": [["nan", "nan"]]}},
    {"jacobian": {"argument": 1, "output": "y", "errors": [[]]}},
    {"errors": {"edges": [], "eager": [], "onnxruntime": []}},
    {"errors": {"edges": [1.0], "eager": [0], "onnxruntime": [0]}},
    {"curves": {**NAN, "derivative": ["nan", "nan"]}},
    {"curves": {**NAN, "kinks": ["nan"], "t": [1]}},
    {"divergence": [{"node": "n", "relative": 10**400}]},
    {"timings": {"rows": [], "memory": {}, "bandwidth": 0, "threads": 1}},
    {"onnx": {"opset": 18, "nodes": 1, "inputs": [], "outputs": [], "functions": []}},
    {"forms": [{"opset": 18, "functions": [], "outcome": "ok", "message": ""}]},
    {"snippet": {"ok": True}},
    {"snippet": {}},
    {"sweep": 5},
]


def shown(series):
    evidence = gradport.Evidence("subject", (), series, {"excerpts": [{"file": "f", "first": 1, "text": "x"}]})
    for blocks_of in (gradient_blocks, onnx_blocks, performance_blocks, usage_blocks):
        list(blocks_of("path", evidence))
    return run_html("title", [("here", evidence)])


@pytest.mark.parametrize("series", SERIES, ids=lambda series: str(series)[:50])
def test_what_cannot_be_drawn_is_said(series):
    assert "<h1>" in shown(series)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=5), inside, max_size=3),
    max_leaves=8,
)
NAMES = ("curves", "jacobian", "errors", "divergence", "timings", "onnx", "forms", "sweep")


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES), JSON, max_size=3))
def test_a_series_of_any_form_makes_a_page(series):
    shown(series)


EMPTY = {"schema_version": 2, "subject": "s", "series": {}, "source": {}, "environment": {}, "findings": []}


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"schema_version": 2, "series": ' + '{"a":' * 900 + "1" + "}" * 901,
        '{"schema_version": 1, "series": [1]}',
        '{"schema_version": 1, "series": {"timings": 1, "left_out": "x"}}',
        json.dumps({**EMPTY, "source": {"card": 5}}),
        json.dumps({**EMPTY, "findings": [{"key": "k", "rule": "r", "outcome": "ok", "figure": 10**400}]}),
    ],
    ids=["brackets", "nested", "list", "left out", "card", "figure"],
)
def test_hostile_files_are_refused_in_one_sentence(text):
    with pytest.raises(gradport.SpecError, match="This is not Evidence"):
        gradport.Evidence.from_json(text)


def test_half_a_surrogate_pair_goes_through_a_file(tmp_path):
    evidence = gradport.Evidence("\ud800")
    (tmp_path / "a.json").write_text(evidence.to_json(), "utf-8")
    again = gradport.Evidence.from_json((tmp_path / "a.json").read_text("utf-8"))
    assert again == evidence
    run_html("title", [("here", again)]).encode()


@pytest.mark.parametrize("figure", [float("inf"), float("nan")])
def test_what_is_not_finite_twice_has_not_changed(figure):
    one = gradport.Evidence("s", (gradport.Finding("k", "r", "ok", figure=figure),))
    assert gradport.compare(one, one) == ()
