"""Runs the tests, as a campaign, in an environment with chosen versions of the libraries, and notes the outcome.

    python bench/matrix.py --torch 2.14.1 [--onnxruntime 1.30.0 --onnx 1.23.1 --onnx-ir 1.0.0] [--core]

The environment is built once, in `.matrix/` or where GRADPORT_MATRIX says. All fast tests run, or with `--core` those
of `test/core.txt`: trace, lowering, export, forms, identity and step. The row of these versions in
docs/compatibility.md is written anew.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
TABLE = ROOT / "docs" / "compatibility.md"
LIBRARIES = ("torch", "onnx", "onnx-ir", "onnxscript", "onnxruntime", "numpy")
COLUMNS = (*LIBRARIES, "Python", "tests", "date", "passed", "failed", "skipped")
CORE = ROOT / "test" / "core.txt"

ABOUT = """# Compatibility

gradport supports torch 2.11 to 2.15 and Python 3.11 and later. Each row is one run with these versions:
`make matrix TORCH=...` runs all fast tests, and `make matrix TORCH=... CORE=1` runs the core tests (trace, lowering,
export, forms, identity, step). The oldest version of each library in the table is the lower bound in pyproject.toml.

With torch 2.11, four constructs in `test/constructs` cannot be exported at a dynamic length, but they can with later
versions: writes to `y[2:, 0]`, `torch.combinations`, `F.pdist` and `torch.fft.rfft`. torch 2.11 compares the sizes of
their slices with 1 and with each other; later versions do not. For the same reason these operators cannot be exported
at a dynamic size: `torch.trace`, sorting and order statistics (`sort`, `kthvalue`, `median`, `nanmedian`, `mode`),
`geqrf`, `linalg.qr` and `linalg.eigh`. With ONNX Runtime 1.30, `geqrf` and `linalg.qr` are also refused at fixed sizes:
it merges their slices into a Split that fails on an empty one.

On a machine with an NVIDIA H100 (torch 2.11.0 with CUDA 13, Python 3.12, ONNX Runtime 1.30, 2026-11-26):
`test/onnx/test_pytorch_onnx_onnxruntime_cuda.py` passes in the CUDA provider of onnxruntime-gpu 1.30 (16 tests). Of the
fast tests, 1,564 passed, 90 were skipped and 10 failed. Two of the ten are the operators above; two fail by the setup
of that machine (no installed gradport, an onnx newer than its ONNX Runtime); a process ended in the test that asks for
more memory than a machine has; one test asks for a machine without CUDA; one random number differs in its last digit;
the other three found that a child process could not run a backward, which is mended (33 of 34 tests of workers and
transforms passed afterwards; torch 2.11 refuses what the other test expects to run).

"""


def main() -> int:
    """Builds, runs and notes; the exit code is that of the campaign."""
    options = parsed()
    wanted = {name: getattr(options, name.replace("-", "_")) for name in LIBRARIES}
    python = environment({name: version for name, version in wanted.items() if version})
    store = python.parents[1] / "campaign.db"
    for old in store.parent.glob("campaign.db*"):
        old.unlink()
    code = run_tests(python, CORE.read_text("utf-8").split() if options.core else ["test"], store)
    if code not in (0, 1):
        return code
    said = {"tests": "core" if options.core else "all", "date": datetime.date.today().isoformat()}
    row = {**versions(python), **counts(python, store), **said}
    print(line(row))
    TABLE.write_text(ABOUT + table([*others(row), row]), "utf-8")
    return code


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in LIBRARIES:
        parser.add_argument(f"--{name}", metavar="VERSION", required=name == "torch")
    parser.add_argument("--core", action="store_true", help="run only the tests of test/core.txt")
    return parser.parse_args()


def environment(wanted: dict[str, str]) -> pathlib.Path:
    """The Python of an environment with these versions; made where it is missing."""
    folder = pathlib.Path(os.environ.get("GRADPORT_MATRIX", ROOT / ".matrix"))
    home = folder / "-".join(f"{name}-{version}" for name, version in wanted.items())
    python = home / "bin" / "python"
    if (home / ".installed").exists():
        return python
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    constraints = home / "constraints.txt"
    constraints.write_text(constrained((ROOT / "constraints.txt").read_text("utf-8"), wanted), "utf-8")
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", str(constraints)]
    subprocess.run([*install, *(f"{name}=={version}" for name, version in wanted.items())], check=True)
    subprocess.run([*install, "-e", f"{ROOT}/runtime/python", "-e", f"{ROOT}[dev]"], check=True)
    (home / ".installed").touch()
    return python


def constrained(text: str, wanted: dict[str, str]) -> str:
    """The constraints with these versions in place of their own, and without what only another torch needs."""
    lines = []
    for entry in text.splitlines():
        name = re.split(r"[=<>!~ ]", entry, maxsplit=1)[0].lower()
        lines.append(f"{name}=={wanted[name]}" if name in wanted else entry)
    return "\n".join(lines) + "\n"


def run_tests(python: pathlib.Path, tests: list[str], store: pathlib.Path) -> int:
    """Runs bench/tests.py as a campaign of this environment; its exit code: 0 all passed, 1 a test failed."""
    command = [str(python), "-m", "gradport", "campaign", "run", "bench/tests.py", "--again", "--time-limit", "1800s"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GRADPORT_TESTS": " ".join(tests)}
    return subprocess.run([*command, "--store", str(store)], cwd=ROOT, env=environment, check=False).returncode


def versions(python: pathlib.Path) -> dict[str, str]:
    """The version of each library in an environment."""
    ask = (
        "import importlib.metadata, json, platform, sys; "
        "print(json.dumps({name: importlib.metadata.version(name) for name in sys.argv[1:]} "
        "| {'Python': platform.python_version()}))"
    )
    said = subprocess.run([str(python), "-c", ask, *LIBRARIES], check=True, capture_output=True, text=True).stdout
    found: dict[str, str] = json.loads(said)
    return {name: version.split("+")[0] for name, version in found.items()}


def counts(python: pathlib.Path, store: pathlib.Path) -> dict[str, str]:
    """How many tests passed, failed and were skipped; a file that crashed counts as one failed test."""
    ask = (
        "import collections, json, sys, gradport\n"
        "campaign = gradport.Campaign(sys.argv[1])\n"
        "counts = collections.Counter(passed=0, failed=0, skipped=0)\n"
        "for row in campaign.rows():\n"
        "    evidence = campaign.evidence(row)\n"
        "    outcomes = ['failed'] if evidence is None else [finding.outcome for finding in evidence.findings]\n"
        "    counts.update({'ok': 'passed'}.get(one, one) for one in outcomes)\n"
        "print(json.dumps({name: str(count) for name, count in counts.items()}))\n"
    )
    said = subprocess.run([str(python), "-c", ask, str(store)], check=True, capture_output=True, text=True).stdout
    found: dict[str, str] = json.loads(said)
    return found


def others(row: dict[str, str]) -> list[dict[str, str]]:
    """The rows of the table with other versions."""
    if not TABLE.exists():
        return []
    cells = [entry.strip("| ").split(" | ") for entry in TABLE.read_text("utf-8").splitlines() if entry[:3] == "| 2"]
    rows = [dict(zip(COLUMNS, entry, strict=True)) for entry in cells]
    return [one for one in rows if any(one[name] != row[name] for name in LIBRARIES)]


def table(rows: list[dict[str, str]]) -> str:
    """The rows in order of their versions."""
    rows = sorted(rows, key=lambda row: [[int(part) for part in row[name].split(".")] for name in LIBRARIES])
    return "\n".join([f"| {' | '.join(COLUMNS)} |", f"|{' --- |' * len(COLUMNS)}", *map(line, rows)]) + "\n"


def line(row: dict[str, str]) -> str:
    """One row."""
    return f"| {' | '.join(row[name] for name in COLUMNS)} |"


if __name__ == "__main__":
    sys.exit(main())
