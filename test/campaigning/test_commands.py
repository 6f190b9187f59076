"""`gradport campaign` as a person and as a script meet it."""

import json
import pathlib
import shutil

import pytest
from typer.testing import CliRunner

from gradport.cli.main import app

SUBJECTS = str(pathlib.Path(__file__).parent / "subjects.py")


def run(*arguments):
    result = CliRunner().invoke(app, ["campaign", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def store(tmp_path):
    """The store of a campaign with one failure."""
    shutil.copy(SUBJECTS, tmp_path / "operators.py")
    place = tmp_path / "c.db"
    done = run(
        str(tmp_path / "operators.py"), "--workers", "0", "--no-export", "--profile", "quick", "--store", str(place)
    )
    assert done.exit_code == 1 and "2 cases: 1 ok, 1 failed" in done.stdout
    return place


def test_a_campaign_is_shown_compared_copied_and_repeated(store, tmp_path):
    shown = run("show", str(store), "--html", str(tmp_path / "c.html"), "--csv", str(tmp_path / "c.csv"), "--json")
    printed = json.loads(shown.stdout.splitlines()[-1])
    assert shown.exit_code == 1 and printed["counts"] == {"ok": 1, "failed": 1}
    assert [pathlib.Path(file).name for file in printed["files"]] == ["c.html", "c.csv"]
    (wrong,) = printed["not_ok"]
    assert wrong["subject"] == "Wrong"

    copy = tmp_path / "copy.db"
    assert "with 2 cases" in run("copy", str(store), str(copy)).stdout
    assert run("copy", str(store), str(copy)).exit_code == 2
    same = run("compare", str(copy), str(store))
    assert same.exit_code == 0 and "Nothing changed." in same.stdout

    repeated = run("repeat", str(copy), wrong["id"][:8], "--here")
    assert repeated.exit_code == 1 and "gradient of x is wrong" in repeated.stdout
    assert run("repeat", str(copy), "zz").exit_code == 2


def test_what_is_no_command(tmp_path):
    place = str(tmp_path / "c.db")
    for arguments, words in (
        ((SUBJECTS, "--opsets", "x"), "--opsets 'x' does not parse"),
        ((SUBJECTS, "--time-limit", "x", "--store", place), "is not a time"),
        (("nothing.py", "--workers", "0", "--store", place), "file not found"),
        (("show", place), "file not found"),
    ):
        result = run(*arguments)
        assert result.exit_code == 2 and words in result.stderr + result.stdout, arguments


def test_help_names_what_there_is():
    text = run("--help").stdout
    for command in ("run", "show", "compare", "copy", "repeat"):
        assert f"  {command} " in text
