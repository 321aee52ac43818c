"""Flower's Grid that calls the ClientApp in this process: hundreds of clients on one machine, without Ray."""

import copy
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import numpy as np
from flwr.app import Context, Error, Message, RecordDict
from flwr.common.serde import message_to_proto
from flwr.serverapp import Grid

from edgewright.errors import EdgewrightError

RUN = 1


def identify_server() -> None:
    """Give this process the identity that Flower's messages need; the class is not public."""
    from flwr.supercore.task_identity import TaskIdentity

    TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = RUN, 1, 0


class MessageGrid(Grid):  # type: ignore[misc] # Flower is in an environment of its own
    """What both grids have in common: the identity of the run, and the count of bytes."""

    def __init__(self) -> None:
        identify_server()
        self._run: Any = SimpleNamespace(run_id=RUN)
        self.up, self.down = 0, 0

    def set_run(self, run: Any) -> None:
        self._run = run

    @property
    def run(self) -> Any:
        return self._run

    def create_message(
        self, content: Any, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Any:  # fmt: skip
        return Message(content, dst_node_id=dst_node_id, message_type=message_type, group_id=group_id, ttl=ttl)

    def take_bytes(self) -> tuple[int, int]:
        """Return the bytes of the messages from and to the clients since the last call."""
        counted, self.up, self.down = (self.up, self.down), 0, 0
        return counted

    def push_messages(self, messages: Iterable[Any]) -> list[str]:
        raise NotImplementedError

    def pull_messages(self, message_ids: Iterable[str]) -> list[Any]:
        raise NotImplementedError


class LocalGrid(MessageGrid):
    """All clients in this process, one after another.

    Args:
        dropout: share of the clients whose answer to the parameters is lost.
    """

    def __init__(self, app: Any, clients: int, dropout: float = 0.0, seed: int = 0) -> None:
        super().__init__()
        self._app, self._dropout, self._random = app, dropout, np.random.default_rng([seed, 0xD0])
        self._contexts = {
            number + 1: Context(
                run_id=RUN, node_id=number + 1, node_config={"partition-id": number, "num-partitions": clients},
                state=RecordDict(), run_config={},
            )
            for number in range(clients)
        }  # fmt: skip

    def get_node_ids(self) -> list[int]:
        return list(self._contexts)

    def send_and_receive(self, messages: Iterable[Any], *, timeout: float | None = None) -> list[Any]:
        return [self._ask(one) for one in messages]

    def _ask(self, message: Any) -> Any:
        message.metadata.__dict__["_message_id"] = uuid4().hex
        message.content = copy.deepcopy(message.content)  # one record is shared by all messages, and mods pop from it
        self.down += message_to_proto(message).ByteSize()
        if message.content.array_records and self._random.random() < self._dropout:
            return Message(Error(code=0, reason="the client dropped out"), reply_to=message)
        try:
            reply = self._app(message, self._contexts[message.metadata.dst_node_id])
        except (EdgewrightError, ValueError, KeyError, TypeError, RuntimeError) as error:
            reply = Message(Error(code=0, reason=f"{type(error).__name__}: {error}"), reply_to=message)
        self.up += message_to_proto(reply).ByteSize()
        return reply
