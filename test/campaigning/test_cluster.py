"""A scheduler and workers in processes of their own: a death costs time, never a case."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
import torch

import gradport

pytestmark = pytest.mark.corpus

TASKS = """
import os, time, gradport
def work(number):
    with open(os.environ["LOG"], "a") as log:
        log.write(f"{number}\\n")
    time.sleep(0.2)
TASKS = [gradport.Task(f"task {number}", lambda number=number: work(number)) for number in range(30)]
"""


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Processes:
    """A scheduler and workers on the loopback interface."""

    def __init__(self, folder):
        self.port, self.folder = free_port(), folder
        self.environment = {**os.environ, "LOG": str(folder / "log"), "DASK_DISTRIBUTED__WORKER__DAEMON": "False"}
        self.scheduler, self.workers = None, []

    @property
    def address(self):
        return f"tcp://127.0.0.1:{self.port}"

    def start(self, *arguments):
        with (self.folder / "processes").open("a") as out:
            command = [sys.executable, "-m", "dask", "spec", *arguments]
            return subprocess.Popen(command, env=self.environment, stdout=out, stderr=out, start_new_session=True)

    def start_scheduler(self):
        options = {"host": "127.0.0.1", "port": self.port, "dashboard": False}
        self.scheduler = self.start("--spec", json.dumps({"cls": "distributed.Scheduler", "opts": options}))

    def start_worker(self):
        options = {"nthreads": 1, "host": "127.0.0.1", "dashboard": False}
        self.workers.append(
            self.start(self.address, "--spec", json.dumps({"cls": "distributed.Nanny", "opts": options}))
        )

    def kill(self, process):
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def close(self):
        for process in [self.scheduler, *self.workers]:
            if process.poll() is None:
                self.kill(process)


@pytest.fixture
def processes(tmp_path):
    found = Processes(tmp_path)
    found.start_scheduler()
    for _ in range(3):
        found.start_worker()
    yield found
    found.close()


def run_with(processes, tmp_path, disturb):
    """The rows of a campaign that is disturbed after its sixth result."""
    file = tmp_path / "tasks.py"
    file.write_text(TASKS)
    disturbed = threading.Event()

    def progress(state):
        if state.done >= 6 and not disturbed.is_set():
            disturbed.set()
            disturb()

    done = gradport.campaign(
        str(file), scheduler=processes.address, store=tmp_path / "c.db", progress=progress, time_limit="60s"
    )
    assert disturbed.is_set()
    return done.rows()


def test_a_killed_worker_loses_no_case(processes, tmp_path):
    rows = run_with(processes, tmp_path, lambda: processes.kill(processes.workers[0]))
    assert len(rows) == 30 and {str(row.outcome) for row in rows} == {"ok"}


def test_a_scheduler_that_is_killed_and_started_again_loses_no_case(processes, tmp_path):
    def disturb():
        processes.kill(processes.scheduler)
        for worker in processes.workers:
            processes.kill(worker)
        processes.start_scheduler()
        processes.start_worker()

    rows = run_with(processes, tmp_path, disturb)
    assert len(rows) == 30 and {str(row.outcome) for row in rows} == {"ok"}
    ran = pathlib.Path(processes.environment["LOG"]).read_text().split()
    assert len(ran) < 60  # what was in the store did not run again


def test_a_scheduler_that_is_not_there_is_named(tmp_path, monkeypatch):
    from gradport.campaigning import cluster

    monkeypatch.setattr(cluster, "_PATIENCE", "2s")
    task = gradport.Task("one", lambda: None)
    address = f"tcp://127.0.0.1:{free_port()}"
    started = time.monotonic()
    with pytest.raises(gradport.SpecError, match=f"The scheduler {address} does not answer"):
        gradport.campaign(task, scheduler=address, store=tmp_path / "c.db")
    assert time.monotonic() - started < 600


def test_large_objects_go_to_the_workers(tmp_path):
    large = torch.randn(512, 1024)
    tasks = [gradport.Task(f"{number}", lambda: None if large.shape == (512, 1024) else 1 / 0) for number in range(20)]
    found = gradport.campaign(tasks, store=tmp_path / "c.db", workers=2)
    assert found.counts() == {"ok": 20}
