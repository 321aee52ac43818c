"""A client as a process: it asks for messages, trains, and answers, until it gets the global model."""

from pathlib import Path
from threading import Event, Thread
from time import monotonic, sleep
from typing import Any

from flwr.app import Context, Error, Message, RecordDict
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as ProtoMessage

from edgewright.errors import DeviceUnauthorized, DeviceUnreachable, EdgewrightError
from edgewright.federated.client import make_client_app
from edgewright.federated.connection import ALIVE, DONE, FOUND, NEXT, REPLY, ServerConnection
from edgewright.federated.grid import RUN, identify_server
from edgewright.federated.job import ClientJob
from edgewright.federated.keys import is_signed
from edgewright.federated.trainer import LocalTrainer
from edgewright.quantization.job import StageProgress
from edgewright.system.files import write_atomically

ALIVE_S = 3.0
RETRY_S = 60.0  # a server that restarts, or a network that is away


def run_client(job: ClientJob, send: Any) -> None:
    """Take part until the server ends, and write the signed global model as `weights.safetensors`.

    Raises DeviceUnauthorized if a certificate or the model's signature is not accepted, DeviceUnreachable if the server
    stays away.
    """
    identify_server()
    connection = ServerConnection(Path(job.folder), job.server)
    trainer = LocalTrainer(job.model, job.settings, job.data)
    app = make_client_app(trainer, job.settings, lambda _: job.data)
    node = {"partition-id": 0, "num-partitions": 1}
    context = Context(run_id=RUN, node_id=0, node_config=node, state=RecordDict(), run_config={})
    ended = Event()
    _ask_patiently(connection, ALIVE)
    Thread(target=_stay_alive, args=(connection, ended), daemon=True).start()
    done = 0
    try:
        while True:
            answer = _ask_patiently(connection, NEXT)
            if answer.status == DONE:
                break
            if answer.status != FOUND:
                continue
            message = message_from_proto(ProtoMessage.FromString(answer.data))
            reply = _answer(app, message, context)
            _ask_patiently(connection, REPLY, message_to_proto(reply).SerializeToString(), answer.message_id)
            done += 1
            send(StageProgress(stage="messages answered", done=done, of=0, note=str(done)))
    finally:
        ended.set()
    if not is_signed(answer.data, answer.signature, Path(job.folder)):
        why = "its signature is not that of the server of this federation"
        raise DeviceUnauthorized("the global model was rejected", why, "do not use it; check who runs the server")
    write_atomically(Path(job.out) / "weights.safetensors", answer.data)


def _answer(app: Any, message: Any, context: Any) -> Any:
    try:
        return app(message, context)
    except (EdgewrightError, ValueError, KeyError, TypeError, RuntimeError) as error:
        return Message(Error(code=0, reason=f"{type(error).__name__}: {error}"), reply_to=message)


def _ask_patiently(connection: ServerConnection, path: str, data: bytes = b"", message_id: str = "") -> Any:
    ends = monotonic() + RETRY_S
    while True:
        try:
            return connection.ask(path, data, message_id)
        except DeviceUnauthorized:
            raise
        except DeviceUnreachable:
            if monotonic() > ends:
                raise
            sleep(1.0)


def _stay_alive(connection: ServerConnection, ended: Event) -> None:
    while not ended.wait(ALIVE_S):
        try:
            connection.ask(ALIVE)
        except DeviceUnreachable:  # the main thread reports it
            continue
