"""Random numbers that every language draws alike: Philox 4x32-10, a function of seed and counter without a state.

Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011, section 3.3 (Philox-4x32
with ten rounds) and the test vectors of the authors' Random123 library.

The key is the seed: its low and its high 32 bits. The counter is four words: the block, the number of the draw within
the model, the step, and `rank * 65536 + micro-batch`. A block gives four words; numbers are taken in their order.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from gradport_runtime.bundle import Model
from gradport_runtime.shapes import shape_of

__all__ = ["Place", "draw", "draw_inputs", "philox"]

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_ROUNDS = 10


@dataclasses.dataclass(frozen=True)
class Place:
    """Where in a training a draw happens.

    Attributes:
        seed: of the training; 64 bits.
        step: steps of the optimizer that were taken before.
        micro_batch: runs of the gradients since the last step; 16 bits.
        rank: of the process, where several train together; 16 bits.
    """

    seed: int
    step: int = 0
    micro_batch: int = 0
    rank: int = 0


def philox(counter: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """Philox 4x32-10 of `(n, 4)` uint32 counters; gives `(n, 4)` uint32."""
    words = [counter[:, index].astype(np.uint64) for index in range(4)]
    keys = [key[0] & 0xFFFFFFFF, key[1] & 0xFFFFFFFF]
    for _ in range(_ROUNDS):
        first, second = _MULTIPLIERS[0] * words[0], _MULTIPLIERS[1] * words[2]
        words = [
            (second >> np.uint64(32)) ^ words[1] ^ np.uint64(keys[0]),
            second & _LOW,
            (first >> np.uint64(32)) ^ words[3] ^ np.uint64(keys[1]),
            first & _LOW,
        ]
        keys = [(key + weyl) & 0xFFFFFFFF for key, weyl in zip(keys, _WEYL, strict=True)]
    return np.stack(words, axis=1).astype(np.uint32)


def draw(distribution: str, shape: Sequence[int], dtype: np.dtype, number: int, place: Place) -> np.ndarray:
    """A tensor of random numbers.

    Args:
        distribution: "uniform" on [0, 1) or "normal" (mean 0, variance 1).
        shape: of the result.
        dtype: float16, float32 or float64.
        number: of the draw within its model, from 0.
        place: where in a training it happens.

    Uniform numbers are the top 24 bits of a word over 2^24; in float64 the top 27 and 26 bits of two words over 2^53.
    Normal numbers come two from a block by Box-Muller in float64 (https://doi.org/10.1214/aoms/1177706645), then
    rounded to the dtype.
    """
    count = math.prod(shape)
    if distribution == "normal":
        values = _normal(_words(-(-count // 2), number, place))
    elif dtype == np.float64:
        values = _doubles(_words(-(-count // 2), number, place)).reshape(-1)
    else:
        words = _words(-(-count // 4), number, place).reshape(-1)
        values = (words >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)
    return values[:count].astype(dtype).reshape(tuple(shape))


def draw_inputs(model: Model, arrays: Mapping[str, np.ndarray], place: Place) -> dict[str, np.ndarray]:
    """The random inputs of a model for a batch.

    Args:
        model: of a bundle.
        arrays: the other inputs; dynamic dimensions have their sizes.
        place: where in a training it happens.

    Raises:
        BundleError: a shape cannot be computed.
    """
    ports = {port.name: port for port in model.inputs}
    sizes = {
        size: actual
        for name, array in arrays.items()
        for size, actual in zip(ports[name].shape, array.shape, strict=True)
        if isinstance(size, str)
    }
    return {
        one.name: draw(one.distribution, shape_of(ports[one.name].shape, sizes), ports[one.name].dtype, number, place)
        for number, one in enumerate(model.draws)
    }


def _words(blocks: int, number: int, place: Place) -> np.ndarray:
    """`(blocks, 4)` uint32 words of one draw."""
    counter = np.empty((blocks, 4), np.uint32)
    counter[:, 0] = np.arange(blocks, dtype=np.uint32)
    counter[:, 1] = number
    counter[:, 2] = place.step & 0xFFFFFFFF
    counter[:, 3] = (place.rank & 0xFFFF) << 16 | (place.micro_batch & 0xFFFF)
    return philox(counter, (place.seed & 0xFFFFFFFF, place.seed >> 32 & 0xFFFFFFFF))


def _doubles(words: np.ndarray) -> np.ndarray:
    """`(n, 2)` float64 numbers on [0, 1) of `(n, 4)` words."""
    high = (words[:, 0::2] >> np.uint32(5)).astype(np.float64)
    low = (words[:, 1::2] >> np.uint32(6)).astype(np.float64)
    return (high * 67108864.0 + low) * 2.0**-53


def _normal(words: np.ndarray) -> np.ndarray:
    uniform = _doubles(words)
    radius = np.sqrt(-2.0 * np.log1p(-uniform[:, 0]))  # 1 - u is in (0, 1]: its logarithm is finite
    angle = 2.0 * np.pi * uniform[:, 1]
    return np.stack((radius * np.cos(angle), radius * np.sin(angle)), axis=1).reshape(-1)
