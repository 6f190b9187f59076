"""The process of a campaign, killed at random moments: the store has every result, and the next run goes on."""

import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

import gradport

pytestmark = pytest.mark.corpus

COUNT = 400

RUN = f"""
import os, sys, time, gradport
def work(number):
    with open(sys.argv[2], "a") as log:
        log.write(f"{{number}}\\n")
    return gradport.Evidence(f"task {{number}}", (), {{"number": [number] * 100}})
tasks = [gradport.Task(f"task {{n}}", lambda n=n: work(n)) for n in range({COUNT})]
def told(state):
    time.sleep(0.01)
    print(state.done, flush=True)
gradport.campaign(tasks, store=sys.argv[1], workers=0, progress=told)
"""


def test_twenty_kills_lose_at_most_the_case_in_flight(tmp_path):
    store, log = tmp_path / "c.db", tmp_path / "log"
    program = tmp_path / "run.py"
    program.write_text(RUN)
    chance = random.Random(0)
    for _ in range(20):
        process = subprocess.Popen(
            [sys.executable, str(program), str(store), str(log)], stdout=subprocess.PIPE, start_new_session=True
        )
        process.stdout.readline()  # the first result
        time.sleep(chance.random() * 0.2)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        ran = len(log.read_text().split()) if log.exists() else 0
        stored = gradport.Campaign(store).rows()
        assert ran - len(stored) <= 20  # one for each kill so far at most; see below
        assert all(gradport.Campaign(store).evidence(row).series["number"] for row in stored[-3:])
    before = len(gradport.Campaign(store).rows())
    repeated = len(log.read_text().split()) - before
    assert repeated <= 20  # each kill repeated at most the case that it interrupted
    assert pathlib.Path(store).exists() and before > 20
    subprocess.run([sys.executable, str(program), str(store), str(log)], check=True, stdout=subprocess.DEVNULL)
    rows = gradport.Campaign(store).rows()
    assert len(rows) == COUNT and {str(row.outcome) for row in rows} == {"ok"}
    assert len(log.read_text().split()) == COUNT + repeated
