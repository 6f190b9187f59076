"""Federated training on one machine: a server and two clients as separate processes on the loopback interface.

Run: python run.py FOLDER [--rounds N] [--kill-client ROUND]

make_bundle.py writes FOLDER. This Python needs flwr and gradport-runtime, and no torch. --kill-client kills the second
client in the middle of a round and starts it again. Nothing leaves this machine: the telemetry of Flower and of ONNX
Runtime is off, and so are Flower's check for updates and its installation of dependencies. Connections are not
encrypted. Works on Linux and macOS.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import re
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from processes import Events, Group

APP, BIN = Path(__file__).resolve().parent, Path(sys.executable).parent
CLIENTS = 2
KILLED = 1
SERVING = "Uvicorn running on"
"""Flower's log says this when a server or a client accepts connections."""
SILENCE = 900.0
"""Seconds without a line of any process; then the run is given up."""


class FederationError(Exception):
    """A process ended too early, or all went silent."""


class Federation:
    """The server, the clients and the command that submits the app; leaves no process behind."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._events = folder, Events()
        self._groups: list[Group] = []
        (folder / "logs").mkdir(exist_ok=True)
        for old in (*(folder / "logs").iterdir(), *results(folder)):
            old.unlink(missing_ok=True)
        self.server = self._group("server", free_address())

    def __enter__(self) -> Federation:
        return self

    def __exit__(self, *what: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):  # a second Ctrl-C must not leave processes behind
            signal.signal(number, signal.SIG_IGN)
        for group in reversed(self._groups):  # clients before the server, so that they can sign off
            group.end()

    def start_server(self) -> None:
        command = ["flower-superlink", "--insecure", "--isolation", "process", *_bound(self.server)]
        self._start(self.server, [*command, "--disable-runtime-dependency-installation"])

    def start_client(self, partition: int, stop_in_round: int | None = None) -> None:
        client = self._group(f"client-{partition}", free_address())
        config = f"partition-id={partition} files='{self._folder / client.name}'"
        config += "" if stop_in_round is None else f" stop-in-round={stop_in_round}"
        command = ["flower-supernode", "--insecure", "--isolation", "process", *_bound(client)]
        self._start(client, [*command, "--superlink", str(self.server.address), "--node-config", config])

    def submit(self, rounds: int) -> None:
        """Sends the app to the server. The group prints the server's log and ends when the run ends."""
        group = self._group("submit", None)
        connection = f'[superlink.loopback]\naddress = "{self.server.address}"\ninsecure = true\n'
        (self._home(group.name) / "config.toml").write_text(connection, "utf-8")
        config = f"rounds={rounds} clients={CLIENTS} files='{self._folder / 'server'}'"
        self._start(group, ["flwr", "run", str(APP), "loopback", "--stream", "--run-config", config])

    def lines(self) -> Iterator[tuple[Group, str]]:
        """The lines of all processes as they arrive, until the submitted run ends.

        When a server or client serves, this starts the process that starts its part of the app.

        Raises:
            FederationError: no line arrives, or a server or client ended.
        """
        while True:
            try:
                group, line = self._events.get(timeout=SILENCE)
            except queue.Empty:
                raise FederationError(f"No process wrote a line in {SILENCE:.0f} seconds.") from None
            if group.ended:
                continue
            if line is None and group.address is None:
                return
            if line is None:
                raise FederationError(f"A process of {group.name} ended: see {group.log}.")
            if group.address is not None and SERVING in line:
                self._start(group, ["flower-superexec", "--insecure", "--runtime-api-address", group.address])
            yield group, line

    def _group(self, name: str, address: str | None) -> Group:
        env = os.environ | {
            "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}",
            "FLWR_HOME": str(self._home(name)),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "ORT_DISABLE_TELEMETRY": "1",
            "PYTHONUNBUFFERED": "1",
        }
        group = Group(name, address, self._events, self._folder / "logs", env)
        self._groups.append(group)
        return group

    def _home(self, name: str) -> Path:
        """Flower's folder of a group: with one for all, processes would unpack the app over each other."""
        home = self._folder / "flower" / name
        home.mkdir(parents=True, exist_ok=True)
        return home

    def _start(self, group: Group, command: list[str]) -> None:
        group.start([str(BIN / command[0]), *command[1:]])


def free_address() -> str:
    """An address of the loopback interface; Flower does not choose ports itself."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def _bound(group: Group) -> list[str]:
    host, port = str(group.address).split(":")
    return ["--host", host, "--port", port]


def results(folder: Path) -> tuple[Path, Path]:
    """What the server writes: a line for each round, and the trained weights."""
    return folder / "server" / "rounds.jsonl", folder / "server" / "trained.safetensors"


def train(folder: Path, rounds: int, kill: int | None) -> None:
    """Runs all rounds and prints a line for each.

    Raises:
        FederationError: the last round was not reached.
    """
    with Federation(folder) as federation:
        federation.start_server()
        for group, line in federation.lines():
            if group is federation.server and SERVING in line:
                for partition in range(CLIENTS):
                    federation.start_client(partition, kill if partition == KILLED else None)
                federation.submit(rounds)
                print(f"a server and {CLIENTS} clients at {group.address}", flush=True)
            elif group.address is None and (found := re.search(r"round \d+: .*", line)):
                print(found[0], flush=True)
            elif group.name == f"client-{KILLED}" and line.startswith("stopped"):
                group.kill()
                print(f"round {kill}: {group.name} killed and started again", flush=True)
                federation.start_client(KILLED)
    written, trained = results(folder)
    reached = json.loads(written.read_text("utf-8").splitlines()[-1])["round"] if written.exists() else 0
    if reached < rounds or not trained.exists():
        raise FederationError(f"The run ended after round {reached} of {rounds}: see {folder / 'logs'}.")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="what make_bundle.py wrote")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kill-client", type=int, metavar="ROUND", help="kill a client in the middle of this round")
    given = parser.parse_args()
    if not (given.folder / "server" / "test.npz").exists():
        parser.error(f"{given.folder} has no bundle: run make_bundle.py {given.folder}")
    if not (BIN / "flower-superlink").exists():
        parser.error(f"{sys.executable} has no flwr: install {APP / 'requirements.txt'} in an environment of its own")
    signal.signal(signal.SIGTERM, lambda *what: sys.exit(128 + signal.SIGTERM))
    started = time.monotonic()
    try:
        train(given.folder.resolve(), given.rounds, given.kill_client)
    except FederationError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    print(f"{time.monotonic() - started:.0f} seconds; trained weights: {results(given.folder)[1]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
