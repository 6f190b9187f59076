"""Federated training on one machine: a server and two clients as processes of their own, on the loopback interface.

Run: python run.py FOLDER [--rounds N] [--kill-client ROUND]

FOLDER comes from make_bundle.py. Needs flwr and gradport-runtime in the environment of this Python, and no torch.
--kill-client kills the second client in the middle of a round and starts it again. Nothing leaves this machine:
Flower's telemetry, its check for updates and its installation of dependencies are off. Connections are not encrypted.
"""

from __future__ import annotations

import argparse
import contextlib
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
CLIENTS, KILLED = 2, 1
SILENCE = 600.0
"""Seconds without one line of any process after which the run is given up."""


class FederationError(Exception):
    """A process ended too early or went silent."""


class Federation:
    """Server, clients and the command that submits the app; a context manager that leaves no process behind."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._events = folder, Events()
        self._groups: list[Group] = []
        self.address = f"127.0.0.1:{free_port()}"
        (folder / "logs").mkdir(exist_ok=True)
        for log in (folder / "logs").iterdir():
            log.unlink()

    def __enter__(self) -> Federation:
        return self

    def __exit__(self, *what: object) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not stop the ending halfway
        for group in reversed(self._groups):
            group.end()

    def start_server(self) -> None:
        server = self._group("server")
        host, port = self.address.split(":")
        command = ["flower-superlink", "--insecure", "--isolation", "process", "--host", host, "--port", port]
        self._start(server, [*command, "--disable-runtime-dependency-installation"])
        self._wait_until_served(server)
        self._start(server, ["flower-superexec", "--insecure", "--runtime-api-address", self.address])

    def start_client(self, partition: int, extra: str = "") -> Group:
        client = self._group(f"client-{partition}")
        port = str(free_port())
        config = f"partition-id={partition} files='{self._folder / client.name}' {extra}"
        command = ["flower-supernode", "--insecure", "--isolation", "process", "--superlink", self.address]
        self._start(client, [*command, "--host", "127.0.0.1", "--port", port, "--node-config", config])
        self._wait_until_served(client)
        self._start(client, ["flower-superexec", "--insecure", "--runtime-api-address", f"127.0.0.1:{port}"])
        return client

    def submit(self, rounds: int) -> Group:
        """Sends the app to the server; the group shows the server's log and ends with the run."""
        group = self._group("submit")
        connection = f'[superlink.loopback]\naddress = "{self.address}"\ninsecure = true\n'
        (self._home("submit") / "config.toml").write_text(connection, "utf-8")
        config = f"rounds={rounds} clients={CLIENTS} files='{self._folder / 'server'}'"
        self._start(group, ["flwr", "run", str(APP), "loopback", "--stream", "--run-config", config])
        return group

    def lines(self) -> Iterator[tuple[Group, str | None]]:
        """What the processes write, as it comes.

        Raises:
            FederationError: nothing comes, or a server or client has ended.
        """
        while True:
            try:
                group, line = self._events.get(timeout=SILENCE)
            except queue.Empty:
                raise FederationError(f"No process wrote a line in {SILENCE:.0f} seconds.") from None
            if group.ended:
                continue
            if line is None and group.name != "submit":
                raise FederationError(f"A process of {group.name} ended: see {group.log}.")
            yield group, line

    def _wait_until_served(self, group: Group) -> None:
        next(line for source, line in self.lines() if source is group and "Uvicorn running on" in line)

    def _group(self, name: str) -> Group:
        env = os.environ | {
            "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}",
            "FLWR_HOME": str(self._home(name)),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "PYTHONUNBUFFERED": "1",
        }
        group = Group(name, self._events, self._folder / "logs", env)
        self._groups.append(group)
        return group

    def _home(self, name: str) -> Path:
        """Flower's own folder: one each, since two processes that unpack the app at the same time get in each other's way."""
        home = self._folder / "flower" / name
        home.mkdir(parents=True, exist_ok=True)
        return home

    def _start(self, group: Group, command: list[str]) -> None:
        group.start([str(BIN / command[0]), *command[1:]])


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def train(folder: Path, rounds: int, kill: int | None) -> None:
    """Runs all rounds and prints a line for each.

    Raises:
        FederationError: it did not get to the end.
    """
    with Federation(folder) as federation:
        federation.start_server()
        for partition in range(CLIENTS):
            doomed = kill is not None and partition == KILLED
            federation.start_client(partition, f"stop-in-round={kill}" if doomed else "")
        print(f"a server and {CLIENTS} clients at {federation.address}", flush=True)
        submit = federation.submit(rounds)
        for group, line in federation.lines():
            if line is None:
                break
            if group is submit and (found := re.search(r"round \d+: .*", line)):
                print(found[0], flush=True)
            elif group.name == f"client-{KILLED}" and line.startswith("stopped"):
                group.kill()
                print(f"round {kill}: {group.name} was killed; it starts again", flush=True)
                federation.start_client(KILLED)
    written = folder / "server" / "rounds.jsonl"
    lines = written.read_text("utf-8").splitlines() if written.exists() else []
    if not lines or json.loads(lines[-1])["round"] != rounds or not (folder / "server" / "trained.safetensors").exists():
        raise FederationError(f"The run ended before round {rounds}: see {folder / 'logs'}.")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="what make_bundle.py wrote")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kill-client", type=int, metavar="ROUND", help="kill a client in the middle of this round")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *what: sys.exit(128 + signal.SIGTERM))
    started = time.monotonic()
    try:
        train(given.folder.resolve(), given.rounds, given.kill_client)
    except FederationError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    print(f"{time.monotonic() - started:.0f} seconds; the weights are in {given.folder / 'server' / 'trained.safetensors'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
