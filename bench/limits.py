"""Physical limits of a network's gradients on this machine: matrix products at their peak, and bytes at copy speed.

Products are counted by torch's FlopCounterMode in forward and backward. Bytes are those of weights (read forward and
backward, gradients written) and of the tensors that autograd saves (written once, read once).
"""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import onnx.parser
import onnxruntime
import torch
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["Machine", "Work", "measure_machine", "work_of"]


@dataclasses.dataclass(frozen=True)
class Machine:
    """What one run measured, with the threads that torch has.

    Attributes:
        products: floating-point operations a second of a float32 product of 1024 x 1024 matrices, in torch or in ONNX
            Runtime, whichever is faster.
        bandwidth: bytes a second that a copy of 256 MiB reads and writes.
    """

    products: float
    bandwidth: float


@dataclasses.dataclass(frozen=True)
class Work:
    """What forward and backward have to do.

    Attributes:
        operations: floating-point operations of matrix products and convolutions.
        bytes: of weights, their gradients and saved tensors.
    """

    operations: int
    bytes: int

    def milliseconds(self, machine: Machine) -> tuple[float, float]:
        """The time of the products, and the time of the bytes."""
        return 1e3 * self.operations / machine.products, 1e3 * self.bytes / machine.bandwidth


def measure_machine(rounds: int = 15) -> Machine:
    """The peak of this machine with torch's number of threads: the fastest of several rounds."""
    one = torch.randn(1024, 1024)
    source, target = torch.empty(2**26), torch.empty(2**26)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(onnx.parser.parse_model(_PRODUCT).SerializeToString(), options)
    feeds = {"a": one.numpy()}
    products = min(*seconds(lambda: one @ one, rounds), *seconds(lambda: session.run(None, feeds), rounds))
    return Machine(2 * 1024**3 / products, 2 * 4 * 2**26 / min(seconds(lambda: target.copy_(source), rounds)))


_PRODUCT = """
    <ir_version: 10, opset_import: ["" : 20]>
    g (float[1024, 1024] a) => (float[1024, 1024] c) { c = MatMul(a, a) }"""


def seconds(call: Callable[[], Any], rounds: int) -> list[float]:
    """The time of each round, after one that is not counted."""
    call()
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return times


def _convolution_backward(
    cotangent: torch.Size, x: torch.Size, weight: torch.Size, *options: Any, out_shape: Any = None, **kwargs: Any
) -> int:
    """Operations of the gradients of a convolution; torch's own formula multiplies by the number of groups."""
    transposed, wanted = options[4], options[7]
    images = x if transposed else cotangent
    return sum(wanted[:2]) * 2 * images[0] * math.prod(images[2:]) * math.prod(weight)


def work_of(model: torch.nn.Module, loss: Callable[[], torch.Tensor]) -> Work:
    """Counts one forward and backward."""
    parameters = list(model.parameters())
    own = {parameter.untyped_storage().data_ptr() for parameter in parameters}
    saved: dict[int, int] = {}

    def save(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    counter = FlopCounterMode(
        display=False, custom_mapping={torch.ops.aten.convolution_backward: _convolution_backward}
    )
    plain = torch.backends.mkldnn.flags(enabled=False)  # its recurrent layers are not counted
    with plain, counter, torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        torch.autograd.grad(loss(), parameters)
    weights = sum(parameter.nbytes for parameter in parameters)
    return Work(counter.get_total_flops(), 3 * weights + 2 * sum(saved.values()))


if __name__ == "__main__":
    torch.set_num_threads(1)
    found = [measure_machine() for _ in range(3)]
    print(
        f"{statistics.median(one.products for one in found) / 1e9:.0f} GFLOP/s, "
        f"{statistics.median(one.bandwidth for one in found) / 1e9:.1f} GB/s"
    )
