"""A case that fails in any way costs this case only."""

import pathlib
import subprocess
import sys
import time

import psutil
import pytest

import gradport

pytestmark = pytest.mark.corpus

HERE = pathlib.Path(__file__).parent

EXPECTED = {
    "good": "ok",
    "segfault": "crashed",
    "exit": "crashed",
    "end": "crashed",
    "loop": "time limit",
    "talk": "time limit",
    "eat": "memory limit",
    "leave a process": "ok",
    "leave a daemon": "ok",
    "two processes": "ok",
    "fail": "error",
    "deny": "failed",
    "close everything": "crashed",
    "kill itself": "crashed",
    "kill the worker": "crashed",
    "good again": "ok",
}


@pytest.fixture(scope="module")
def nasty(tmp_path_factory):
    place = tmp_path_factory.mktemp("nasty") / "c.db"
    return gradport.campaign(str(HERE / "nasty.py"), store=place, workers=2, time_limit="2s", memory_limit="500MiB")


def test_each_failure_costs_its_case_only(nasty):
    assert {row.subject: str(row.outcome) for row in nasty.rows()} == EXPECTED


def test_signal_last_lines_and_tries_are_recorded(nasty):
    rows = {row.subject: row for row in nasty.rows()}
    assert rows["segfault"].signal == "SIGSEGV" and rows["segfault"].tries == 2
    assert rows["kill itself"].signal == "SIGKILL"
    assert rows["end"].message == "The case ends its process (exit status 4)."
    assert rows["talk"].output.endswith("noise") and len(rows["talk"].output) <= 4000
    assert rows["loop"].processor_seconds >= 2 and rows["loop"].tries == 1
    assert rows["eat"].peak > 500 << 20
    assert "killed its worker twice" in rows["kill the worker"].message
    assert "nasty.py" in rows["fail"].message


def test_no_process_is_left(nasty):
    """Those of this test's campaign sleep for 1,000 s, or are children of workers; all ended with it."""
    for _ in range(100):
        own = psutil.Process().children(recursive=True)
        if not own:
            return
        time.sleep(0.2)
    raise AssertionError(own)


def test_a_case_is_repeated(nasty):
    (row,) = [row for row in nasty.rows() if row.subject == "segfault"]
    command = [sys.executable, "-m", "gradport", "campaign", "repeat", nasty.store, row.id]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "SIGSEGV" in done.stdout


def test_a_case_that_waits_forever_is_blocked(tmp_path):
    from gradport.campaigning.cases import Options
    from gradport.campaigning.isolated import run_isolated, stop
    from gradport.campaigning.planning import Axes, plan_cases, sources_of
    from gradport.campaigning.sources import entries

    (source,) = sources_of(gradport.Task("wait", lambda: time.sleep(1000)))
    options = Options(blocked=2.0)
    (one,) = plan_cases(source, "", entries(source.name, source.pickled), {}, Axes((), False), options)
    result = run_isolated(one.case, options, source.pickled)
    stop()
    assert result.outcome == "time limit" and "did not compute for 2 s" in result.message


def test_a_worker_does_not_import_torch():
    program = "import sys, gradport.campaigning.cluster, gradport.campaigning.isolated; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "False\n"
