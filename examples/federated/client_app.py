"""A client: trains the global weights on its own share of the data; sends weights, a loss and a number of examples.

Runs in ONNX Runtime, without torch. Flower starts a process for each round, so the optimizer's state starts anew.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from gradport_runtime import Trainer
from weights import load_weights, weights_of

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    files, partition = Path(str(context.node_config["files"])), int(context.node_config["partition-id"])
    number, epochs, size = (
        int(message.content["config"][key]) for key in ("server-round", "local-epochs", "batch-size")
    )
    share = np.load(files / f"share-{partition}.npz")
    images, labels = share["images"], share["labels"]
    # round and client select the random numbers: no two of them share dropout masks
    trainer = Trainer(files / "bundle", seed=number, rank=partition, threads=1)
    load_weights(trainer, {name: array.numpy() for name, array in message.content["arrays"].items()})

    def batches() -> list[dict[str, np.ndarray]]:
        order = shuffled.permutation(len(labels))
        parts = [order[at : at + size] for at in range(0, len(order), size)]
        return [{"x": images[part], "target": labels[part]} for part in parts]

    shuffled = np.random.default_rng((number, partition))
    steps = epochs * -(-len(labels) // size)
    stop = _stop_at(steps // 2) if context.node_config.get("stop-in-round") == number else None
    history = trainer.fit(batches, epochs=epochs, progress=False, on_step=stop)
    loss = history["epochs"][-1]["loss"]
    print(f"round {number}: {steps} steps on {len(labels)} images, loss {loss:.4f}", flush=True)
    arrays = ArrayRecord({name: Array(array) for name, array in weights_of(trainer).items()})
    metrics = MetricRecord({"loss": loss, "num-examples": len(labels)})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


def _stop_at(last: int) -> Callable[[int, dict[str, float]], None]:
    """Stands still after this step, so that `run.py --kill-client` can kill the process in the middle of a round."""

    def stop(step: int, results: dict[str, float]) -> None:
        if step == last:
            print(f"stopped after step {step}", flush=True)
            threading.Event().wait()

    return stop
