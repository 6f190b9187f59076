"""examples/federated with real processes on the loopback interface: make test-federated sets FEDERATED_PYTHON."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from gradport_runtime import Trainer

pytestmark = pytest.mark.federated

EXAMPLE = pathlib.Path(__file__).parents[2] / "examples" / "federated"
PYTHON = pathlib.Path(os.environ.get("FEDERATED_PYTHON", sys.executable)).absolute()
WEIGHTS = 4 * (64 * 64 + 64 + 64 * 10 + 10)  # bytes
LIMIT = 1500  # seconds; a run takes one or two minutes


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    subprocess.run([sys.executable, str(EXAMPLE / "make_bundle.py"), str(folder)], check=True, timeout=LIMIT)
    return folder


@pytest.fixture
def folder(exported, tmp_path):
    return shutil.copytree(exported, tmp_path / "federated")


@pytest.fixture(scope="module")
def trained(exported, tmp_path_factory):
    """The folder, the output and the rounds of a run in which nothing fails."""
    folder = shutil.copytree(exported, tmp_path_factory.mktemp("trained") / "federated")
    return folder, *train(folder)


def start(folder, *options):
    command = [str(PYTHON), str(EXAMPLE / "run.py"), str(folder), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def train(folder, *options):
    """What the launcher printed, and what the server wrote about each round."""
    process = start(folder, *options)
    output, errors = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, errors + output
    return output, [json.loads(line) for line in (folder / "server" / "rounds.jsonl").read_text("utf-8").splitlines()]


def living(folder):
    """Command lines of processes that run with this folder's Flower home; Linux only."""
    found = []
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if str(folder / "flower").encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:  # ended meanwhile, or another user's
            continue
    return found


def test_clients_have_no_torch():
    ran = subprocess.run([str(PYTHON), "-c", "import flwr, gradport_runtime, torch"], capture_output=True, text=True)
    assert "No module named 'torch'" in ran.stderr


@pytest.mark.xdist_group("trained")
def test_accuracy_rises_over_three_rounds(trained):
    _, _, rounds = trained
    assert rounds[1]["accuracy"] > rounds[0]["accuracy"] + 0.3
    assert rounds[3]["accuracy"] > max(rounds[1]["accuracy"], 0.8)


@pytest.mark.xdist_group("trained")
def test_each_round_has_the_weights_of_both_clients(trained):
    _, output, rounds = trained
    assert [(row["answered"], row["bytes"]) for row in rounds] == [(0, 0), *[(2, 2 * WEIGHTS)] * 3]
    printed = [line.split(":")[0] for line in output.splitlines() if line.startswith("round")]
    assert printed == [f"round {number}" for number in range(4)]


@pytest.mark.xdist_group("trained")
def test_trained_weights_resume_in_a_trainer(trained):
    folder, _, rounds = trained
    trainer = Trainer(folder / "server" / "bundle", resume=folder / "server" / "trained.safetensors")
    test = np.load(folder / "server" / "test.npz")
    assert trainer.evaluate(x=test["images"], target=test["labels"])["accuracy"] == pytest.approx(rounds[3]["accuracy"])


@pytest.mark.xdist_group("trained")
def test_finished_run_leaves_no_process_behind(trained):
    assert not living(trained[0])


def test_a_killed_client_costs_only_its_round(folder):
    output, rounds = train(folder, "--kill-client", "2")
    assert "round 2: client-1 killed and started again" in output
    assert [(row["asked"], row["answered"]) for row in rounds] == [(0, 0), (2, 2), (2, 1), (2, 2)]
    assert rounds[3]["accuracy"] > max(rounds[0]["accuracy"] + 0.5, rounds[2]["accuracy"])
    assert not living(folder)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_launcher_leaves_no_process_behind(folder, number):
    with start(folder) as process:
        assert process.stdout is not None
        assert any(line.startswith("round 0") for line in process.stdout)
        assert living(folder)
        process.send_signal(number)
        process.communicate(timeout=LIMIT)
    assert process.returncode == 128 + number
    assert not living(folder)
