"""compare tells what got better, worse, larger, smaller, new and gone, worst first."""

import dataclasses
import json

import pytest
from typer.testing import CliRunner

import gradport
from gradport.cli.main import app

FINDING = gradport.Finding("a", "rule", "ok", figure=1.0, unit="ULP", message="It holds.")


def evidence(*findings):
    return gradport.Evidence("subject", tuple(findings))


def changed(**changes):
    return dataclasses.replace(FINDING, **changes)


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        (FINDING, changed(outcome="failed"), "worse"),
        (changed(outcome="undecided"), FINDING, "better"),
        (FINDING, changed(figure=5.0), "larger"),
        (FINDING, changed(figure=0.1), "smaller"),
    ],
)
def test_a_finding_that_changed(before, after, kind):
    (change,) = gradport.compare(evidence(before), evidence(after))
    assert (change.key, change.kind) == ("a", kind)
    assert (change.before, change.after) == (before, after)
    assert "a" in change.message


def test_what_is_new_and_what_is_gone():
    other = changed(key="b")
    assert [c.kind for c in gradport.compare(evidence(FINDING), evidence(other))] == ["gone", "new"]


def test_what_is_the_same_is_left_out():
    assert gradport.compare(evidence(FINDING), evidence(changed(figure=1.5, message="Other words."))) == ()


def test_the_worst_comes_first():
    before = evidence(FINDING, changed(key="b", outcome="failed"))
    after = evidence(changed(outcome="error"), changed(key="b"))
    assert [change.kind for change in gradport.compare(before, after)] == ["worse", "better"]


def files(folder, *evidences):
    paths = [folder / f"{index}.json" for index in range(len(evidences))]
    for path, one in zip(paths, evidences, strict=True):
        path.write_text(one.to_json())
    return [str(path) for path in paths]


def test_the_command_exits_with_one_where_something_got_worse(tmp_path):
    paths = files(tmp_path, evidence(FINDING), evidence(changed(outcome="failed")))
    result = CliRunner().invoke(app, ["compare", *paths, "--json"])
    assert result.exit_code == 1
    assert json.loads(result.stdout)["changes"][0]["kind"] == "worse"
    assert CliRunner().invoke(app, ["compare", *reversed(paths)]).exit_code == 0


def test_what_is_no_evidence_is_told(tmp_path):
    (tmp_path / "a.json").write_text("[1]")
    result = CliRunner().invoke(app, ["compare", str(tmp_path / "a.json"), str(tmp_path / "a.json")])
    assert result.exit_code == 2
    assert "is not Evidence" in result.stderr
