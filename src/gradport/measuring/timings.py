"""Time and memory of forward and backward: eager, torch.compile and ONNX Runtime, over sizes, in turns, on one thread.

Times are the minimum of several rounds. The lower bound is the time to move all inputs and outputs once, at the
machine's bandwidth for a large copy.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from gradport.compat.quiet import quiet
from gradport.compat.torch.tracing import restore_validation
from gradport.eager.dimensions import Dimensions, by_name
from gradport.eager.inputs import draw_inputs, sizes_of
from gradport.eager.joint import Joint, Slot
from gradport.errors import Error
from gradport.isolation.child import run_in_child
from gradport.model.program import Program
from gradport.model.sessions import run_session
from gradport.proving.answers import reference
from gradport.subject.ports import Role

__all__ = ["timings"]

_ROUNDS = 5

_LARGEST = 32 << 20
"""Bytes of inputs and outputs at the largest size."""

_SECONDS = 20.0
"""Time limit of the child process that measures memory."""

Call = Callable[[], object]


def timings(
    joint: Joint, dimensions: Dimensions, program: Program, forward: Program, *, compiled: bool = True, seed: int = 0
) -> dict[str, Any]:
    """A row for each runtime, phase and size.

    Args:
        joint: timed in eager and through torch.compile.
        dimensions: the size of the first dynamic dimension varies; without one there is one size.
        program: the exported model with gradients.
        forward: the exported model without gradients.
        compiled: also time torch.compile, which takes seconds.
        seed: of the inputs.

    Returns:
        `rows` (`way`: eager, torch.compile or onnxruntime; `phase`: forward or both; `sizes`, `bytes`,
        `milliseconds`), `memory` (extra bytes at the largest size, by `way`), `bandwidth` (bytes per second) and
        `threads`.

    Raises:
        Error: a call fails.
    """
    with _limit_threads():
        programs = {"forward": Program(forward.model), "both": Program(program.model)}
        twin = joint.wrap_target(lambda target: torch.compile(target, dynamic=bool(dimensions))) if compiled else None
        rows: list[dict[str, Any]] = []
        largest: dict[str, Call] = {}
        with quiet(), restore_validation() if compiled else contextlib.nullcontext():
            for sizes, tensors in _inputs(joint, dimensions, seed):
                try:
                    calls, moved = _calls(joint, twin, programs, tensors)
                except Error:
                    break  # a call fails at this size
                for (way, phase), seconds in _time(calls).items():
                    rows.append(
                        {"way": way, "phase": phase, "sizes": sizes, "bytes": moved, "milliseconds": 1e3 * seconds}
                    )
                largest = {way: call for (way, phase), call in calls.items() if phase == "both"}
            memory = {way: used for way, call in largest.items() if (used := _memory(call)) is not None}
        if compiled:
            torch.compiler.reset()
        return {"rows": rows, "memory": memory, "bandwidth": _bandwidth(), "threads": 1} if rows else {}


@contextlib.contextmanager
def _limit_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _inputs(
    joint: Joint, dimensions: Dimensions, seed: int
) -> Iterator[tuple[dict[str, int], dict[Slot, torch.Tensor]]]:
    """Inputs at the example's size, and at 8, 64, ... times that size in the first dynamic dimension."""
    generator = torch.Generator().manual_seed(seed)
    sizes = sizes_of(joint, dimensions)
    yield sizes, draw_inputs(joint, dimensions, sizes, generator)
    growing = next(iter(sizes), None)
    while growing is not None and by_name(dimensions)[growing].admits(8 * sizes[growing]):
        sizes = {**sizes, growing: 8 * sizes[growing]}
        try:
            tensors = draw_inputs(joint, dimensions, sizes, generator)
        except Error:
            return
        if 4 * sum(_weight(t) for s, t in tensors.items() if s.role == Role.ARGUMENT) > _LARGEST:
            return
        yield sizes, tensors


@dataclasses.dataclass(frozen=True)
class _Eager:
    """Forward, or forward and backward, in torch; through torch.compile if the Joint is wrapped by it."""

    joint: Joint
    tensors: Mapping[Slot, torch.Tensor]
    cotangents: Mapping[str, torch.Tensor]

    def forward(self) -> object:
        with torch.no_grad():
            return self.joint.forward(self.tensors)

    def both(self) -> object:
        wanted = self.joint.wanted
        leaves = {s: t.detach().requires_grad_(s in wanted) for s, t in self.tensors.items()}
        outputs, loss = self.joint.forward(leaves)
        names = list(self.cotangents) if loss is None else []
        results = [outputs[name] for name in names] if loss is None else [loss]
        seeds = [self.cotangents[name] for name in names] if loss is None else [torch.ones_like(loss)]
        return torch.autograd.grad(results, [leaves[slot] for slot in wanted], seeds, allow_unused=True)


def _calls(
    joint: Joint, twin: Joint | None, programs: Mapping[str, Program], tensors: Mapping[Slot, torch.Tensor]
) -> tuple[dict[tuple[str, str], Call], int]:
    """The calls to time on these inputs, each run once, and the bytes of inputs and outputs.

    Raises:
        Error: eager or ONNX Runtime fails on these inputs.
    """
    answer = reference(joint, tensors, torch.Generator().manual_seed(0))
    prefix = "cotangent_"
    cotangents = {name.removeprefix(prefix): t for name, t in answer.feeds.items() if name.startswith(prefix)}
    calls: dict[tuple[str, str], Call] = {}
    for way, each in (("eager", joint), ("torch.compile", twin)):
        if each is None:
            continue
        eager = _Eager(each, tensors, cotangents)
        calls |= {(way, "forward"): eager.forward, (way, "both"): eager.both}
    for phase, program in programs.items():
        calls["onnxruntime", phase] = _session_call(program, answer.feeds)
    working = {key: call for key, call in calls.items() if _runs(key[0], call)}
    return working, sum(_weight(tensor) for tensor in (*answer.feeds.values(), *answer.expected.values()))


def _session_call(program: Program, feeds: Mapping[str, torch.Tensor]) -> Call:
    named = {spec.name: feeds[spec.name] for spec in program.inputs}
    return lambda: run_session(program.session(), named)


def _runs(way: str, call: Call) -> bool:
    """Runs a call once; returns False if torch.compile fails, which is then not timed."""
    try:
        call()
    except Exception:
        if way != "torch.compile":
            raise
        return False
    return True


def _time(calls: Mapping[tuple[str, str], Call]) -> dict[tuple[str, str], float]:
    fastest = dict.fromkeys(calls, math.inf)
    for _ in range(_ROUNDS):
        for key, call in calls.items():
            started = time.perf_counter()
            call()
            fastest[key] = min(fastest[key], time.perf_counter() - started)
    return fastest


def _memory(call: Call) -> int | None:
    """Largest growth in bytes of a child process during a call; None if not on Linux, or if the child fails."""
    if not os.path.exists("/proc/self/clear_refs"):
        return None

    def weigh(writing: int) -> None:
        with open("/proc/self/clear_refs", "w") as clear:
            clear.write("5")
        before = _status("VmRSS")
        call()
        os.write(writing, str(max(_status("VmHWM") - before, 0)).encode())

    written = run_in_child(weigh, _SECONDS)
    return int(written[0]) if written is not None and written[0].isdigit() else None


def _status(name: str) -> int:
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith(f"{name}:"))
    return 1024 * int(line.split()[1])


def _bandwidth() -> float:
    """Bytes per second read and written in a copy of a 64 MiB tensor."""
    source, target = torch.ones(1 << 24), torch.empty(1 << 24)
    best = math.inf
    for _ in range(5):
        started = time.perf_counter()
        target.copy_(source)
        best = min(best, time.perf_counter() - started)
    return 2 * _weight(source) / best


def _weight(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()
