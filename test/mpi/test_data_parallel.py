"""examples/data_parallel.py under mpiexec: two processes have the losses of one."""

import pathlib
import re
import shutil
import subprocess
import sys

import pytest

pytestmark = pytest.mark.mpi

EXAMPLE = pathlib.Path(__file__).parents[2] / "examples" / "data_parallel.py"


def losses(ranks, folder):
    mpiexec = shutil.which("mpiexec", path=str(pathlib.Path(sys.executable).parent)) or shutil.which("mpiexec")
    options = ["--allow-run-as-root", "--oversubscribe", "-n", str(ranks)]
    command = [mpiexec, *options, sys.executable, str(EXAMPLE), str(folder / f"bundle{ranks}")]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert ran.returncode == 0, ran.stderr
    sent = int(re.search(r"(\d+) bytes sent", ran.stdout)[1])
    return [float(number) for number in re.findall(r"\d\.\d{6}", ran.stdout)], sent


def test_two_processes_have_the_losses_of_one(tmp_path):
    alone, nothing = losses(1, tmp_path)
    both, sent = losses(2, tmp_path)
    assert both == pytest.approx(alone, rel=1e-4)
    assert alone[-1] < alone[0] / 3
    assert nothing == 0 and sent == 4 * (64 * 256 + 256 + 256 * 10 + 10)
