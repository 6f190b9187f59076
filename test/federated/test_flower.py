"""examples/federated: a server and two clients as real processes on the loopback interface."""

import shutil
import signal
import subprocess

import numpy as np
import pytest
from gradport_runtime import Trainer

from .launching import LIMIT, PYTHON, living, start, train

pytestmark = pytest.mark.federated

WEIGHTS = 4 * (64 * 64 + 64 + 64 * 10 + 10)  # bytes


@pytest.fixture(scope="module")
def trained(exported, tmp_path_factory):
    """The folder, the output and the rounds of a run in which nothing fails."""
    folder = shutil.copytree(exported, tmp_path_factory.mktemp("trained") / "federated")
    return folder, *train(folder)


def test_clients_have_no_torch():
    ran = subprocess.run([str(PYTHON), "-c", "import flwr, gradport_runtime, torch"], capture_output=True, text=True)
    assert "No module named 'torch'" in ran.stderr


def test_accuracy_rises_over_three_rounds(trained):
    _, _, rounds = trained
    assert rounds[1]["accuracy"] > rounds[0]["accuracy"] + 0.3
    assert rounds[3]["accuracy"] > max(rounds[1]["accuracy"], 0.8)


def test_each_round_has_the_weights_of_both_clients(trained):
    _, output, rounds = trained
    assert [(row["answered"], row["bytes"]) for row in rounds] == [(0, 0), *[(2, 2 * WEIGHTS)] * 3]
    printed = [line.split(":")[0] for line in output.splitlines() if line.startswith("round")]
    assert printed == [f"round {number}" for number in range(4)]


def test_trained_weights_resume_in_a_trainer(trained):
    folder, _, rounds = trained
    trainer = Trainer(folder / "server" / "bundle", resume=folder / "server" / "trained.safetensors")
    test = np.load(folder / "server" / "test.npz")
    assert trainer.evaluate(x=test["images"], target=test["labels"])["accuracy"] == pytest.approx(rounds[3]["accuracy"])


def test_finished_run_leaves_no_process_behind(trained):
    assert not living(trained[0])


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
