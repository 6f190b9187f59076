"""Forward and vector-Jacobian product of the operators in torch's own list, as ONNX in ONNX Runtime against eager.

    python bench/operators.py [--samples 3] [--only NAME ...] [--markdown FILE] [--jobs 2]

The list is `torch.testing._internal.common_methods_invocations.op_db` (it needs `expecttest`): every operator with a
float32 gradient, on its first sample inputs. Each sample is exported, which proves it, and then verified on inputs that
were moved after the export and on what Hypothesis finds: right, refused (with the reason), or wrong; or right there
and otherwise than in eager at nan, infinities, ties or singular matrices ("edges"). An operator counts as the worst of
its samples. One line a row.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import io
import itertools
import logging
import multiprocessing
import os
import pathlib
import re
import signal
import sys
import time
import warnings
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

LIMIT = 60
"""Seconds for one operator."""

ORDER = ("wrong", "refused", "edges", "right")


def main() -> int:
    """Prints a line for each operator and the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--markdown", type=pathlib.Path, help="write the table there")
    options = parser.parse_args()
    names = [name for name in operators() if not options.only or any(part in name for part in options.only)]
    rows: list[tuple[str, str, str, int]] = []
    started = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(options.jobs, maxtasksperchild=60) as pool:
        tasks = [(name, options.samples) for name in names]
        for done, row in enumerate(pool.imap_unordered(judged, tasks), 1):
            rows.append(row)
            print(f"{done:3}/{len(names)} {row[1]:8} {row[0]:44} {row[3]} samples  {row[2]}", flush=True)
    counts = collections.Counter(row[1] for row in rows)
    took = time.monotonic() - started
    print(f"\n{len(rows)} operators in {took:.0f} s: " + ", ".join(f"{counts[v]} {v}" for v in reversed(ORDER)))
    if options.markdown:
        options.markdown.write_text(table(rows, options.samples), "utf-8")
    return 0


def table(rows: list[tuple[str, str, str, int]], samples: int) -> str:
    """The rows as Markdown."""
    counts = collections.Counter(row[1] for row in rows)
    lines = [
        "# Operators",
        "",
        f"Forward and vector-Jacobian product of {len(rows)} torch operators on their first {samples} samples:",
        ", ".join(f"{counts[verdict]} {verdict}" for verdict in reversed(ORDER))
        + ". Made by `python bench/operators.py --markdown docs/operators.md`.",
        "`edges`: right on these samples and random values; differs from eager at nan, inf, ties or singular matrices.",
        "",
        "| operator | verdict | reason |",
        "| --- | --- | --- |",
    ]
    for name, verdict, reason, _ in sorted(rows):
        lines.append(f"| `{name}` | {verdict} | {reason.replace('|', '/')} |")
    return "\n".join(lines) + "\n"


def operators() -> dict[str, Any]:
    """The operators with a float32 gradient, by name and variant."""
    import torch
    from torch.testing._internal.common_methods_invocations import op_db

    return {
        ".".join(filter(None, (entry.name, entry.variant_test_name))): entry
        for entry in op_db
        if entry.supports_autograd and torch.float32 in entry.dtypes
    }


_known: dict[str, Any] = {}


def judged(task: tuple[str, int]) -> tuple[str, str, str, int]:
    """The worst verdict of an operator's first samples, its reason and how many samples there were."""
    name, samples = task
    warnings.filterwarnings("ignore")
    logging.disable(logging.ERROR)
    if not _known:
        _known.update(operators())

    def ring(number: int, frame: Any) -> None:
        raise TimeoutError(f"no end in {LIMIT} s")

    signal.signal(signal.SIGALRM, ring)
    signal.alarm(LIMIT)
    verdicts: list[tuple[str, str]] = []
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            for sample in itertools.islice(_samples(_known[name]), samples):
                verdicts.append(one(_known[name], sample))
                if verdicts[-1][0] in ("wrong", "refused"):
                    break
    except Exception as error:
        verdicts.append(("refused", f"{type(error).__name__}: {_short(str(error))}"))
    finally:
        signal.alarm(0)
    verdict, reason = min(verdicts, key=lambda found: ORDER.index(found[0]), default=("refused", "it has no sample"))
    return name, verdict, reason, len(verdicts)


def _samples(entry: Any) -> Any:
    import torch

    torch.manual_seed(0)
    return entry.sample_inputs("cpu", torch.float32, requires_grad=True)


def one(entry: Any, sample: Any) -> tuple[str, str]:
    """The verdict on one sample, and why."""
    import torch

    import gradport

    def called(input: Any, *args: Any, **kwargs: Any) -> Any:
        return as_real(sample.output_process_fn_grad(entry.op(input, *args, **kwargs)))

    called.__name__ = called.__qualname__ = entry.name
    args = (sample.input, *sample.args)
    subject = gradport.Subject(called, args, sample.kwargs, wrt="inputs" if _differentiable(called, sample) else None)
    try:
        program = gradport.export(subject, functions="inline")
        evidence = gradport.verify(program, subject, runtimes=["onnxruntime"], seed=7)
    except gradport.Error as error:
        return "refused", _short(str(error))
    torch.manual_seed(0)
    failed = [finding for finding in evidence.findings if finding.outcome == "failed"]
    plain = [finding for finding in failed if finding.rule not in ("edge-values", "ties")]
    if plain:
        return "wrong", _short(plain[0].message)
    return ("edges", _short(failed[0].message)) if failed else ("right", "")


def as_real(result: Any) -> Any:
    """Complex results as pairs of real numbers, which is what ONNX has."""
    import torch
    from torch.utils._pytree import tree_map_only

    return tree_map_only(
        torch.Tensor,
        lambda tensor: torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor,
        result,
    )


def _differentiable(called: Any, sample: Any) -> bool:
    import torch
    from torch.utils._pytree import tree_leaves

    found = called(sample.input, *sample.args, **sample.kwargs)
    return any(isinstance(leaf, torch.Tensor) and leaf.requires_grad for leaf in tree_leaves(found))


def _short(text: str) -> str:
    text = re.sub(r" at /[^\s;,]+| \(/[^\s)]+\)", "", text)
    return " ".join(text.split())[:160]


if __name__ == "__main__":
    sys.exit(main())
