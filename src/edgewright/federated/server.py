"""The server's side of the network: messages wait until their client asks for them."""

import ssl
from collections.abc import Iterable
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Condition, Thread
from time import monotonic
from typing import Any
from uuid import uuid4

import msgspec
from flwr.app import Error, Message
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as ProtoMessage

from edgewright.errors import DeviceUnreachable
from edgewright.federated.connection import (
    ALIVE,
    DONE,
    FOUND,
    HELLO,
    MESSAGE_ID,
    NEXT,
    NOTHING,
    REPLY,
    SIGNATURE,
    UNKNOWN,
    make_context,
)
from edgewright.federated.grid import MessageGrid
from edgewright.federated.job import FederatedResult, RoundReport, ServerJob
from edgewright.federated.keys import sign_model
from edgewright.federated.rounds import RoundPlan, run_rounds
from edgewright.federated.trainer import LocalTrainer
from edgewright.quantization.job import StageProgress
from edgewright.system.files import write_atomically

LOST_S = 15.0  # without a request a client is lost
WAIT_S = 10.0  # of a client's request for a message
MAX_BODY = 1 << 30
NODE_BYTES = 7


class RemoteGrid(MessageGrid):
    """Clients of the network: known by the name in their certificate."""

    def __init__(self, timeout_s: float) -> None:
        super().__init__()
        self._timeout_s = timeout_s
        self._changed = Condition()
        self._seen: dict[str, float] = {}
        self._names: dict[int, str] = {}
        self._waiting: dict[str, list[tuple[str, bytes]]] = {}
        self._pending: dict[str, str] = {}  # by message id, the client that is asked
        self._replies: dict[str, bytes] = {}
        self.final: tuple[bytes, bytes] | None = None
        self._delivered: set[str] = set()

    def get_node_ids(self) -> list[int]:
        with self._changed:
            return [number for number, name in self._names.items() if self._is_alive(name)]

    def _is_alive(self, name: str) -> bool:
        return monotonic() - self._seen.get(name, -LOST_S) < LOST_S

    def wait_for(self, clients: int) -> bool:
        """Wait until so many clients are connected; return whether they are."""
        ends = monotonic() + self._timeout_s
        with self._changed:
            while sum(map(self._is_alive, self._seen)) < clients:
                if monotonic() > ends:
                    return False
                self._changed.wait(1.0)
        return True

    def see(self, name: str) -> None:
        """Note a request of a client."""
        with self._changed:
            self._seen[name] = monotonic()
            self._names[int.from_bytes(sha256(name.encode()).digest()[:NODE_BYTES], "big")] = name
            self._changed.notify_all()

    def take(self, name: str) -> tuple[str, bytes] | None:
        """Return the next message for a client with its id; None after a while without one."""
        ends = monotonic() + WAIT_S
        with self._changed:
            while monotonic() < ends and self.final is None:
                if waiting := self._waiting.get(name):
                    message = waiting.pop(0)
                    self.down += len(message[1])
                    return message
                self._changed.wait(0.5)
        return None

    def accept(self, name: str, message_id: str, data: bytes) -> bool:
        """Take a client's answer; False for one that nobody waits for, as of an earlier round."""
        with self._changed:
            if self._pending.get(message_id) != name:
                return False
            del self._pending[message_id]
            self.up += len(data)
            self._replies[message_id] = data
            self._changed.notify_all()
        return True

    def send_and_receive(self, messages: Iterable[Any], *, timeout: float | None = None) -> list[Any]:
        sent: dict[str, Any] = {}
        with self._changed:
            for one in messages:
                message_id, name = uuid4().hex, self._names[one.metadata.dst_node_id]
                one.metadata.__dict__["_message_id"] = message_id
                self._waiting.setdefault(name, []).append((message_id, message_to_proto(one).SerializeToString()))
                self._pending[message_id] = name
                sent[message_id] = one
            self._changed.notify_all()
        return self._collect(sent)

    def _collect(self, sent: dict[str, Any]) -> list[Any]:
        """Wait for all answers; a client that is lost, or later than the limit, answers with an error."""
        ends, answers = monotonic() + self._timeout_s, []
        with self._changed:
            while sent:
                for message_id in list(sent):
                    if message_id in self._replies:
                        answers.append(_decode(self._replies.pop(message_id), sent.pop(message_id)))
                    elif not self._is_alive(name := self._pending[message_id]) or monotonic() > ends:
                        self._pending.pop(message_id)
                        self._waiting[name] = [one for one in self._waiting[name] if one[0] != message_id]
                        reason = "no answer in time" if self._is_alive(name) else "the connection was lost"
                        answers.append(_fail(sent.pop(message_id), f"{name}: {reason}"))
                if sent:
                    self._changed.wait(0.5)
        return answers

    def finish(self, model: bytes, signature: bytes) -> None:
        """Hand the global model to all connected clients, and wait until they have it."""
        ends = monotonic() + 2 * LOST_S
        with self._changed:
            self.final = model, signature
            self._changed.notify_all()
            while monotonic() < ends and any(self._is_alive(name) for name in set(self._seen) - self._delivered):
                self._changed.wait(0.5)

    def note_delivery(self, name: str) -> None:
        with self._changed:
            self._delivered.add(name)
            self._changed.notify_all()


def _decode(data: bytes, message: Any) -> Any:
    try:
        reply = message_from_proto(ProtoMessage.FromString(data))
    except Exception as error:  # any bytes may come: protobuf and Flower raise many kinds
        return _fail(message, f"its answer cannot be read: {error}")
    if reply.metadata.src_node_id != message.metadata.dst_node_id:
        return _fail(message, "its answer names another client")
    return reply


def _fail(message: Any, reason: str) -> Any:
    return Message(Error(code=0, reason=reason), reply_to=message)


def _make_handler(grid: RemoteGrid) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """Requests of one client, whose name is in its certificate."""

        protocol_version = "HTTP/1.1"
        timeout = 60

        def do_POST(self) -> None:
            name = _read_name(self.connection)
            length = int(self.headers.get("Content-Length") or 0)
            if not name or not 0 <= length <= MAX_BODY:
                self._answer(400)
                return
            data = self.rfile.read(length)
            if self.path != HELLO:  # a client that only checks its certificate is not ready yet
                grid.see(name)
            if self.path == REPLY:
                self._answer(FOUND if grid.accept(name, self.headers.get(MESSAGE_ID, ""), data) else UNKNOWN)
            elif self.path == NEXT:
                self._answer_next(name)
            else:
                self._answer(FOUND if self.path in (HELLO, ALIVE) else 404)

        def _answer_next(self, name: str) -> None:
            if (message := grid.take(name)) is not None:
                self._answer(FOUND, message[1], {MESSAGE_ID: message[0]})
            elif grid.final is not None:
                self._answer(DONE, grid.final[0], {SIGNATURE: grid.final[1].hex()})
                grid.note_delivery(name)
            else:
                self._answer(NOTHING)

        def _answer(self, status: int, data: bytes = b"", headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for key, value in (headers or {}).items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(data)
            self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:
            """Print nothing."""

    return Handler


def _read_name(connection: Any) -> str:
    """Return the name in the client's certificate, which TLS has checked."""
    subject = connection.getpeercert().get("subject", ())
    return next((value for group in subject for key, value in group if key == "commonName"), "")


class _TlsServer(ThreadingHTTPServer):
    """A server that ends the handshake in the thread of the connection, so that a slow one stops no other."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], grid: RemoteGrid, context: ssl.SSLContext) -> None:
        super().__init__(address, _make_handler(grid))
        self._context = context

    def finish_request(self, request: Any, client_address: Any) -> None:
        request.settimeout(30)
        try:
            with self._context.wrap_socket(request, server_side=True) as secured:
                super().finish_request(secured, client_address)
        except (OSError, ValueError):  # a certificate of another authority, or a connection that ended
            return


def run_server(job: ServerJob, send: Any) -> None:
    """Serve the rounds, and write `weights.safetensors` and `report.json`. Raises DeviceUnreachable if the clients do
    not come, OSError if the address cannot be used."""
    folder, out = Path(job.folder), Path(job.out)
    trainer = LocalTrainer(job.model, job.settings, job.val)
    evaluate, initial = trainer.make_evaluation(job.val), trainer.arrays
    grid = RemoteGrid(job.timeout_s)
    first = evaluate(initial)
    try:
        server = _TlsServer((job.host, job.port), grid, make_context(folder, server=True))
    except OSError as error:
        raise DeviceUnreachable(
            f"{job.host}:{job.port} cannot be used", str(error), "choose another --listen"
        ) from None
    Thread(target=server.serve_forever, daemon=True).start()
    send(StageProgress(stage=f"listening on {job.host}:{server.server_address[1]}", done=0, of=job.rounds))
    if not grid.wait_for(job.clients):
        why = f"{len(grid.get_node_ids())} of {job.clients} came within {job.timeout_s:g} s"
        raise DeviceUnreachable("the clients did not come", why, "start them, or raise --timeout")

    def finished(report: RoundReport) -> None:
        send(StageProgress(stage="round", note=f"metric {report.metric:.4f}", done=report.round, of=job.rounds))

    plan = RoundPlan(job.clients, job.sampled, job.rounds, finished)
    arrays, reports = run_rounds(initial, job.settings, plan, evaluate, grid)
    result = FederatedResult(
        rounds=reports, initial=first, parameters=trainer.parameters, trained=sum(one.size for one in initial)
    )
    trainer.write(arrays, out / "weights.safetensors")
    write_atomically(out / "report.json", msgspec.json.encode(result))
    model = (out / "weights.safetensors").read_bytes()
    grid.finish(model, sign_model(model, folder))
    server.shutdown()
