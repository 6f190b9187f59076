"""Runs examples/federated in the environment without torch that `make test-federated` sets up."""

import json
import os
import pathlib
import subprocess
import sys

EXAMPLE = pathlib.Path(__file__).parents[2] / "examples" / "federated"
PYTHON = pathlib.Path(os.environ.get("FEDERATED_PYTHON", pathlib.Path(sys.prefix) / "federated" / "bin" / "python"))
LIMIT = 1500  # seconds; a run takes one or two minutes


def export(folder):
    subprocess.run([sys.executable, str(EXAMPLE / "make_bundle.py"), str(folder)], check=True, timeout=LIMIT)


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
    """Command lines of the processes that run with this folder as Flower's home; Linux only."""
    found = []
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if str(folder / "flower").encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:  # it ended meanwhile, or is another user's
            continue
    return found
