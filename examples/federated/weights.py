"""What travels between server and clients: the parameters and buffers of a bundle, without the optimizer's state."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from gradport_runtime import Trainer


def weights_of(trainer: Trainer) -> dict[str, np.ndarray]:
    """Copies of the parameters that train and the buffers that change, by name."""
    outputs = trainer.bundle.models["gradients"].outputs
    names = {port.of for port in outputs if port.role in ("gradient", "new_state")}
    return {name: array for name, array in trainer.state().items() if name in names}


def load_weights(trainer: Trainer, weights: Mapping[str, np.ndarray]) -> None:
    """Takes over averaged weights.

    An average of integers, such as the batch counter of a norm layer, arrives as a float: it is rounded.
    """
    dtypes = {name: port.dtype for name, port in trainer.bundle.state.items()}
    trainer.load({name: _as(array, dtypes[name]) for name, array in weights.items()})


def _as(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    return (np.rint(array) if np.issubdtype(dtype, np.integer) else array).astype(dtype)
