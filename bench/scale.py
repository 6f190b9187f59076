"""The overhead of a campaign: trivial cases, with more and more workers.

    python bench/scale.py [--cases 2000 --workers 1 2 4] [--large 100000]

A line for each run: cases, workers, seconds, milliseconds a case in each worker beside the work, the peak memory of the
process of the campaign (with the scheduler), and the size of the store.
"""

from __future__ import annotations

import argparse
import pathlib
import resource
import sys
import tempfile
import time

import gradport

TASKS = """
import gradport
TASKS = [gradport.Task(f"task {{number}}", lambda: None) for number in range({count})]
"""


def main() -> int:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--workers", nargs="*", type=int, default=[1, 2, 4])
    parser.add_argument("--large", type=int, default=0, help="one more run with this many cases, with 2 workers")
    options = parser.parse_args()
    print("| cases | workers | seconds | ms a case | campaign MiB | store MiB |\n| --- | --- | --- | --- | --- | --- |")
    for count, workers in [(options.cases, workers) for workers in options.workers] + [(options.large, 2)]:
        if count:
            print(f"| {' | '.join(measure(count, workers))} |", flush=True)
    return 0


def measure(count: int, workers: int) -> list[str]:
    """The cells of one run; the time begins when the workers are ready."""
    with tempfile.TemporaryDirectory() as folder:
        file, store = pathlib.Path(folder) / "tasks.py", pathlib.Path(folder) / "c.db"
        file.write_text(TASKS.format(count=count))
        times: list[float] = []

        def told(state: object) -> None:
            times.append(time.monotonic())

        gradport.campaign(str(file), store=store, workers=workers, progress=told)
        first = min(8 * workers, count - 1)  # the children import their libraries during the first cases
        seconds, done = times[-1] - times[first], count - first
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        size = sum(path.stat().st_size for path in pathlib.Path(folder).glob("c.db*")) / 2**20
    overhead = f"{1e3 * seconds * workers / done:.1f}"
    return [str(count), str(workers), f"{seconds:.1f}", overhead, f"{peak:.0f}", f"{size:.1f}"]


if __name__ == "__main__":
    sys.exit(main())
