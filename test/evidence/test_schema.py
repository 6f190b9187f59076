"""Evidence as JSON: its schema is published and holds, old files open, and what is none is refused in one sentence."""

import json
import math
import pathlib

import jsonschema
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import gradport
from gradport.evidence import Outcome, schema
from gradport.evidence.evidence import SCHEMA_VERSION

OLD = pathlib.Path(__file__).with_name("version_1.json")

TEXT = st.text(max_size=20)
FIGURES = st.none() | st.floats()
FINDINGS = st.builds(
    gradport.Finding,
    key=TEXT,
    rule=TEXT,
    outcome=st.sampled_from(["ok", "failed", "skipped", "undecided", "error"]),
    kind=TEXT,
    severity=st.sampled_from(["info", "warning", "error"]),
    figure=FIGURES,
    unit=TEXT,
    input=st.none() | TEXT,
    where=st.none() | TEXT,
    message=TEXT,
)


def valid(evidence):
    jsonschema.Draft202012Validator(schema()).validate(json.loads(evidence.to_json()))


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(schema())
    assert schema()["properties"]["schema_version"] == {"const": SCHEMA_VERSION}


@given(st.lists(FINDINGS, max_size=4).map(tuple), TEXT)
def test_what_is_written_has_the_form_and_is_read_again(findings, name):
    evidence = gradport.Evidence(name, findings)
    valid(evidence)
    again = gradport.Evidence.from_json(evidence.to_json())
    assert [f.key for f in again.findings] == [f.key for f in findings]
    for one, other in zip(again.findings, findings, strict=True):
        assert one.figure == other.figure or math.isnan(one.figure)


def test_what_check_and_verify_give_has_the_form():
    subject = gradport.Subject(torch.nn.Tanh(), torch.ones(2, 3), wrt="inputs")
    valid(gradport.check(subject, only=("differences",)))
    valid(gradport.verify(gradport.export(subject), subject, budget=1.0))


def test_a_dict_of_it_holds_plain_texts_that_other_processes_take():
    finding = gradport.Evidence("s", (gradport.Finding("k", "r", Outcome.OK),)).to_dict()["findings"][0]
    assert type(finding["outcome"]) is str and type(finding["severity"]) is str


def test_an_old_file_opens():
    assert json.loads(OLD.read_text())["schema_version"] == 1
    evidence = gradport.Evidence.from_json(OLD.read_text())
    assert evidence.schema_version == SCHEMA_VERSION
    assert evidence.subject == "CustomFunction" and evidence.ok and len(evidence.findings) > 20
    assert "timings" in evidence.series["left_out"]
    valid(evidence)


def test_a_file_of_version_2_opens_and_what_held_is_ok():
    text = pathlib.Path(__file__).with_name("version_2.json").read_text()
    assert json.loads(text)["schema_version"] == 2
    evidence = gradport.Evidence.from_json(text)
    assert evidence.ok and {finding.outcome for finding in evidence.findings} == {Outcome.OK, Outcome.SKIPPED}
    assert [row["outcome"] for row in evidence.series["forms"]] == ["ok", "refused"]
    assert {cell["outcome"] for cell in evidence.series["sweep"]} == {"ok"}
    valid(evidence)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nothing", "it is not JSON"),
        ("[1]", "it has no schema_version"),
        ('{"schema_version": 99}', "update gradport"),
        ('{"schema_version": 2}', "'subject' is a required property"),
    ],
)
def test_what_is_no_evidence_is_refused(text, said):
    with pytest.raises(gradport.SpecError, match=said):
        gradport.Evidence.from_json(text)


def test_a_finding_with_an_unknown_outcome_is_refused_at_its_place():
    data = json.loads(gradport.Evidence("s", (gradport.Finding("k", "r", "ok"),)).to_json())
    data["findings"][0]["outcome"] = "fine"
    with pytest.raises(gradport.SpecError, match=r"at findings\[0\]\.outcome, 'fine' is not one of"):
        gradport.Evidence.from_json(json.dumps(data))
