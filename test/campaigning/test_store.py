"""The store: written and read again; an old one, one beside a writer, on a full disk, and a copy."""

import pathlib
import sqlite3
import subprocess
import sys
import threading

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import gradport
from gradport import OutputError, SpecError
from gradport.campaigning.cases import Action, Case, CaseOutcome, Options, Result
from gradport.campaigning.planning import Planned
from gradport.campaigning.store import Store, copy_store

HERE = pathlib.Path(__file__).parent


def planned(number=0):
    case = Case("ops", f"Function{number}", Action.VERIFY, 20, dynamic=True)
    return Planned(case, case.setting, "digest", {"torch": "2.13.0"})


results = st.builds(
    Result,
    outcome=st.sampled_from(CaseOutcome),
    kind=st.text(),
    figure=st.none() | st.floats(allow_nan=False),
    message=st.text(st.characters(codec=None, exclude_characters="\0")),
    where=st.text(),
    evidence=st.text(),
    seconds=st.floats(0, 1e6),
    peak=st.integers(0, 2**50),
    output=st.text(),
)


@given(st.lists(results, max_size=4))
@example([Result(CaseOutcome.FAILED, message="\ud800", output="\ud83d")])
def test_what_is_written_is_read(results):
    with Store(None) as store:
        for number, result in enumerate(results):
            store.add(planned(number), result, Options(seed=number))
        rows = store.rows()
        for number, (row, result) in enumerate(zip(rows, results, strict=True)):
            assert (row.outcome, row.kind, row.figure) == (result.outcome, result.kind, result.figure)
            assert row.message.encode("utf-8", "backslashreplace") == result.message.encode("utf-8", "backslashreplace")
            assert (row.opset, row.dynamic, row.options.seed) == (20, True, number)
            if result.evidence:
                assert store.evidence(row.evidence) == result.evidence
            else:
                assert row.evidence == ""


def test_equal_evidence_is_stored_once(tmp_path):
    with Store(tmp_path / "c.db", writes=True) as store:
        for number in range(5):
            store.add(planned(number), Result(CaseOutcome.OK, evidence="same"), Options())
    assert sqlite3.connect(tmp_path / "c.db").execute("SELECT count(*) FROM evidence").fetchone() == (1,)


def test_an_old_store_opens():
    """store-1.sql was written by the first version; it must open in every later one."""
    campaign = gradport.Campaign(HERE / "store-1.db")
    assert campaign.counts() == {"ok": 2, "failed": 1}
    (wrong,) = [row for row in campaign.rows() if row.outcome == "failed"]
    assert (wrong.subject, wrong.column) == ("Wrong", "check")
    assert campaign.evidence(wrong).findings


def test_a_later_store_and_other_files_are_refused(tmp_path):
    with Store(tmp_path / "c.db", writes=True):
        pass
    later = sqlite3.connect(tmp_path / "c.db")
    later.execute("PRAGMA user_version = 99")
    later.close()
    with pytest.raises(SpecError, match="version 99, and this gradport reads 1; update gradport"):
        Store(tmp_path / "c.db")
    (tmp_path / "text.db").write_text("no database " * 100)
    with pytest.raises(SpecError, match="cannot be opened as the store"):
        Store(tmp_path / "text.db")
    sqlite3.connect(tmp_path / "other.db").execute("CREATE TABLE other (x)")
    with pytest.raises(SpecError, match="is not the store of a campaign"):
        Store(tmp_path / "other.db")
    with pytest.raises(SpecError, match="file not found"):
        gradport.Campaign(tmp_path / "none.db").rows()


def test_two_campaigns_cannot_write_one_store(tmp_path):
    with Store(tmp_path / "c.db", writes=True), pytest.raises(OutputError, match="another campaign writes"):
        Store(tmp_path / "c.db", writes=True)
    with Store(tmp_path / "c.db", writes=True):
        assert gradport.Campaign(tmp_path / "c.db").rows() == []


def test_a_store_is_copied_while_it_is_written(tmp_path):
    copied = []

    def copy():
        for number in range(5):
            copied.append(copy_store(tmp_path / "c.db", tmp_path / f"copy{number}.db"))

    with Store(tmp_path / "c.db", writes=True) as store:
        store.add(planned(0), Result(CaseOutcome.OK), Options())
        thread = threading.Thread(target=copy)
        thread.start()
        for number in range(1, 400):
            store.add(planned(number), Result(CaseOutcome.OK, evidence=str(number) * 100), Options())
        thread.join()
    assert copied == sorted(copied) and len(copied) == 5
    for number, count in enumerate(copied):
        assert len(gradport.Campaign(tmp_path / f"copy{number}.db").rows()) == count
    with pytest.raises(OutputError, match="exists"):
        copy_store(tmp_path / "c.db", tmp_path / "copy0.db")


FULL = """
import resource, sys, gradport
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
tasks = [gradport.Task(f"{n}", lambda n=n: gradport.Evidence(str(n), (), {"x": [n * k for k in range(3000)]}))
         for n in range(100)]
try:
    gradport.campaign(tasks, store=sys.argv[1], workers=0)
except gradport.OutputError as error:
    print(error)
"""


def test_a_full_disk_keeps_what_was_written_and_says_so(tmp_path):
    place = tmp_path / "c.db"
    said = subprocess.run([sys.executable, "-c", FULL, str(place)], capture_output=True, text=True, check=True).stdout
    assert "cannot be written" in said and "goes on from there" in said
    assert 0 < len(gradport.Campaign(place).rows()) < 100
