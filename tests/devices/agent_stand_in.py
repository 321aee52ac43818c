"""A stand-in for the agent of a phone: the same protocol in Python, with the workers of this machine."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from edgewright.devices.agent.messages import AGENT_PROTOCOL, make_proof
from edgewright.runtimes.environments import WORKER

FACTS: dict[str, Any] = {
    "id": "stand-in", "app": "1", "model": "Stand-in 1", "soc": "", "machine": "aarch64", "system": "Android",
    "os": "Android 14", "build": "", "kernel": "", "gpu": "", "cores": 8, "memory": 8 << 30,
    "runtimes": {"pretend": "1", "onnxruntime": "1", "nonsense": "1"}, "units": [],
}  # fmt: skip
STATE: dict[str, Any] = {
    "battery": 0.2, "charging": False, "saver": None, "visible": True, "thermal_status": 3, "thermal_headroom": None,
    "temperature_c": 31.5, "frequency_khz": None, "power_uw": 900_000, "memory_available_bytes": 1 << 30,
    "source": "battery",
}  # fmt: skip
Spoil = Callable[[bytes], bytes | None]


class AgentStandIn:
    """Listens on loopback.

    Attributes:
        facts, state: what it reports.
        spoil: changes each line of a worker before it is sent; None closes the connection.
    """

    def __init__(self, folder: Path, code: str = "CODE2345") -> None:
        self.folder, self.code = folder, code
        self.token = secrets.token_hex(16)
        self.facts, self.state = dict(FACTS), dict(STATE)
        self.spoil: Spoil = lambda line: line
        self.received = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"agent://127.0.0.1:{self._server.getsockname()[1]}"
        self._connections: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Stop, as when the app is closed."""
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for one in self._connections:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                self._connections.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError, ValueError), connection, connection.makefile("rwb") as stream:
            nonce = secrets.token_hex(16)
            _write(stream, {"type": "challenge", "agent": AGENT_PROTOCOL, "nonce": nonce})
            enter = json.loads(stream.readline())
            secret = self.code if enter["action"] == "pair" else self.token
            if enter["proof"] != make_proof(secret, nonce, "", enter["action"]):
                _write(stream, {"type": "failed", "state": "unauthorized", "why": "the code is wrong"})
                return
            welcome = {"type": "welcome", "proof": make_proof(secret, enter["nonce"], "", "welcome")}
            match enter["action"]:
                case "pair":
                    _write(stream, {**welcome, "token": self.token})
                case "control":
                    work = f"work/{secrets.token_hex(8)}"
                    (self.folder / work).mkdir(parents=True)
                    _write(stream, {**welcome, "work": work})
                    try:
                        self._control(stream)
                    finally:
                        shutil.rmtree(self.folder / work, ignore_errors=True)
                        shutil.rmtree(self.folder / f"{work}-sent", ignore_errors=True)
                case "worker":
                    _write(stream, welcome)
                    self._work(stream, enter["runtime"])

    def _control(self, stream: Any) -> None:
        for line in stream:
            request = json.loads(line)
            path = self.folder / request.get("path", "")
            match request["type"]:
                case "status":
                    _write(stream, {"type": "status", "facts": self.facts, "state": self.state})
                case "find":
                    kind = "folder" if path.is_dir() else "file" if path.is_file() else "none"
                    found = [one for one in sorted(path.rglob("*")) if one.is_file()]
                    files = [{"name": str(one.relative_to(path)), "bytes": one.stat().st_size} for one in found]
                    _write(stream, {"type": "found", "kind": kind, "files": files})
                case "put":
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(stream.read(request["bytes"]))
                    self.received += request["bytes"]
                    _write(stream, {"type": "done"})
                case "get":
                    content = path.read_bytes()
                    _write(stream, {"type": "content", "bytes": len(content)})
                    stream.write(content)
                    stream.flush()
                case "forget":
                    shutil.rmtree(self.folder)
                    self.token = secrets.token_hex(16)
                    _write(stream, {"type": "done"})

    def _work(self, stream: Any, runtime: str) -> None:
        command = [sys.executable, "-P", "-m", WORKER, runtime]
        log = self.folder / f"{secrets.token_hex(8)}.log"
        variables = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        with (
            log.open("wb") as errors,
            subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, cwd=self.folder, env=variables
            ) as worker,
        ):
            assert worker.stdin
            answering = threading.Thread(target=self._answer, args=(worker, stream, log), daemon=True)
            answering.start()
            with suppress(OSError, ValueError):
                for line in stream:
                    worker.stdin.write(line)
                    worker.stdin.flush()
            with suppress(ProcessLookupError):
                worker.kill()
            answering.join()

    def _answer(self, worker: "subprocess.Popen[bytes]", stream: Any, log: Path) -> None:
        assert worker.stdout
        with suppress(OSError, ValueError):
            for line in worker.stdout:
                spoiled = self.spoil(line)
                if spoiled is None:
                    self.close()
                    return
                stream.write(spoiled)
                stream.flush()
            _write(stream, {"type": "ended", "code": worker.wait(), "tail": log.read_text(errors="replace")[-4000:]})


def _write(stream: Any, message: dict[str, Any]) -> None:
    stream.write(json.dumps(message).encode() + b"\n")
    stream.flush()
