"""The server: averages the weights of the clients and measures the average on its own test set.

Runs without torch, in ONNX Runtime. It sees weights and numbers of examples, never the clients' data.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from gradport_runtime import Trainer
from weights import load_weights, weights_of

app = ServerApp()


class Averaging(FedAvg):
    """Federated averaging that goes on with the clients that are there.

    Attributes:
        answered: clients whose weights are in the last average.
        received: bytes of weights that came from them.
    """

    def __init__(self, clients: int, join_seconds: float) -> None:
        super().__init__(fraction_evaluate=0.0, min_train_nodes=1, min_available_nodes=1)
        self.answered = self.received = 0
        self._clients, self._join_seconds = clients, join_seconds

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Gives clients that are starting, or starting again, time to join."""
        until = time.monotonic() + self._join_seconds
        while len(list(grid.get_node_ids())) < self._clients and time.monotonic() < until:
            time.sleep(0.5)  # Flower has no call that waits for clients
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Averages what arrived; counts it."""
        replies = list(replies)
        arrived = [reply.content["arrays"] for reply in replies if not reply.has_error()]
        self.answered = len(arrived)
        self.received = sum(array.numpy().nbytes for arrays in arrived for array in arrays.values())
        return super().aggregate_train(server_round, replies)


@app.main()
def main(grid: Grid, context: Context) -> None:
    config = context.run_config
    files = Path(str(config["files"]))
    trainer = Trainer(files / "bundle", threads=1)
    test = np.load(files / "test.npz")
    strategy = Averaging(int(config["clients"]), float(config["join-seconds"]))

    def evaluate(number: int, arrays: ArrayRecord) -> MetricRecord:
        load_weights(trainer, {name: array.numpy() for name, array in arrays.items()})
        results = trainer.evaluate(x=test["images"], target=test["labels"])
        counts = {"round": number, "clients": strategy.answered, "bytes": strategy.received}
        with open(files / "rounds.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(counts | results) + "\n")
        print(
            f"round {number}: accuracy {results['accuracy']:.3f}, loss {results['loss']:.3f}, "
            f"weights of {strategy.answered} clients, {strategy.received} bytes",
            flush=True,
        )
        return MetricRecord(results)

    (files / "rounds.jsonl").unlink(missing_ok=True)
    strategy.start(
        grid,
        initial_arrays=ArrayRecord({name: Array(array) for name, array in weights_of(trainer).items()}),
        num_rounds=int(config["rounds"]),
        timeout=float(config["round-seconds"]),
        train_config=ConfigRecord({key: config[key] for key in ("local-epochs", "batch-size")}),
        evaluate_fn=evaluate,
    )
    trainer.save(files / "trained.safetensors")
