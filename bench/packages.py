"""gradport.check on the public Functions of bench/cases.py: what it finds in packages that nobody here wrote.

    python bench/packages.py [--only NAME ...] [--jobs 2]

Each is checked undeclared, in the default profile. A line a Function, and below it each Finding that failed, with the
input that shows it; then the counts. A straight-through gradient of a continuous forward, say, fails here because
nothing declares it: that is for a reader to tell from a mistake.
"""

from __future__ import annotations

import argparse
import collections
import logging
import multiprocessing
import os
import sys
import time
import warnings

os.environ.setdefault("OMP_NUM_THREADS", "1")

from cases import CASES

import gradport

LIMIT = "60s"
"""Time for one Function; what was not asked then is undecided."""


def main() -> int:
    """Prints a line for each Function, what failed in it, and the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    numbers = [n for n, case in enumerate(CASES) if not options.only or any(part in case.id for part in options.only)]
    counts: collections.Counter[str] = collections.Counter()
    started = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        for case, verdict, seconds, messages in pool.imap(checked, numbers):
            counts[verdict] += 1
            print(f"{verdict:8} {seconds:5.1f}s  {case}", flush=True)
            for message in messages:
                print(f"         {message}", flush=True)
    took = time.monotonic() - started
    print(f"\n{len(numbers)} Functions in {took:.0f} s: " + ", ".join(f"{n} {what}" for what, n in counts.items()))
    return 0


def checked(number: int) -> tuple[str, str, float, list[str]]:
    """A case's name, whether all held, how long it took and what did not hold."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.ERROR)
    case, started = CASES[number], time.monotonic()
    try:
        evidence = gradport.check(case.function(), case.arguments(), time_limit=LIMIT)
    except gradport.Error as error:
        return case.id, "refused", time.monotonic() - started, [str(error)]
    failed = [finding for finding in evidence.findings if finding.outcome in ("failed", "error", "undecided")]
    messages = [
        f"{finding.rule} {finding.outcome}: {finding.message}" + (f" Input: {finding.input}" if finding.input else "")
        for finding in failed
    ]
    return case.id, "flagged" if failed else "ok", time.monotonic() - started, messages


if __name__ == "__main__":
    sys.exit(main())
