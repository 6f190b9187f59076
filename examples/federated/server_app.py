"""The server: averages the weights of the clients and measures the average on its own test set.

Runs in ONNX Runtime, without torch. It receives weights, losses and numbers of examples, never the clients' data.
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
    """Federated averaging of the clients that answer.

    Attributes:
        asked: clients that the last round was sent to.
        answered: those whose weights are in the average.
        received: bytes of their weights.
    """

    def __init__(self, clients: int, join_seconds: float) -> None:
        # one client is enough for a round: it must not fail because another one died
        super().__init__(fraction_evaluate=0.0, min_train_nodes=1, min_available_nodes=1)
        self.asked = self.answered = self.received = 0
        self._clients, self._join_seconds = clients, join_seconds

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Waits for clients that start, or start again; a client that stays away is waited for only once."""
        until = time.monotonic() + self._join_seconds
        while (connected := len(list(grid.get_node_ids()))) < self._clients and time.monotonic() < until:
            time.sleep(0.5)  # Flower has no call that waits for clients
        self._clients = min(self._clients, max(connected, 1))
        messages = list(super().configure_train(server_round, arrays, config, grid))
        self.asked = len(messages)
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Averages and counts the weights that arrived; without any the global weights stay."""
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
        report = {"round": number, "asked": strategy.asked, "answered": strategy.answered, "bytes": strategy.received}
        with open(files / "rounds.jsonl", "a" if number else "w", encoding="utf-8") as file:
            file.write(json.dumps(report | results) + "\n")
        source = f"weights of {strategy.answered} of {strategy.asked} clients, {strategy.received} bytes"
        scores = f"accuracy {results['accuracy']:.3f}, loss {results['loss']:.3f}"
        print(f"round {number}: {scores}, {source if number else 'the starting weights'}", flush=True)
        return MetricRecord(results)

    strategy.start(
        grid,
        initial_arrays=ArrayRecord({name: Array(array) for name, array in weights_of(trainer).items()}),
        num_rounds=int(config["rounds"]),
        timeout=float(config["round-seconds"]),
        train_config=ConfigRecord({key: config[key] for key in ("local-epochs", "batch-size")}),
        evaluate_fn=evaluate,
    )
    trainer.save(files / "trained.safetensors")
