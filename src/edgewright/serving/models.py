"""Models behind the server: one thread and one bounded queue each."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from math import ceil
from threading import Lock
from typing import Any

from edgewright.schema.model import TensorSpec
from edgewright.serving.messages import find_datatype

Outcome = tuple[Any, float, float]
Infer = Callable[[Any], Any]
SMOOTHING = 0.1  # weight of the newest service time in the mean


class Overloaded(Exception):
    """More requests wait than the server allows; the text is for the client."""

    def __init__(self, model: str, waiting: int, retry_after_s: int) -> None:
        super().__init__(f"{model} is overloaded: {waiting} requests wait. Try again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


class DeadlineMissed(Exception):
    """A request waited for longer than its limit, and was not run; the text is for the client."""


@dataclass
class ServedModel:
    """One version of a model.

    Attributes:
        infer: runs the model on the content of a request, such as inputs by name; it is called by one thread at a time.
        queue: largest number of requests that wait.
        is_chat: whether it is a language model, with the endpoint /v1/chat/completions.
        service_s: mean time of an inference, with the newest weighted most.
    """

    name: str
    version: str
    platform: str
    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]
    infer: Infer
    queue: int = 64
    service_s: float = 0.0
    waiting: int = 0
    is_chat: bool = False
    _lock: Lock = field(default_factory=Lock)
    _thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "model"))

    def describe(self, versions: Sequence[str]) -> dict[str, Any]:
        """Return the metadata of the protocol; a dynamic size is -1."""
        return {
            "name": self.name,
            "versions": list(versions),
            "platform": self.platform,
            "inputs": [_describe(one) for one in self.inputs],
            "outputs": [_describe(one) for one in self.outputs],
        }

    def submit(self, inputs: Any, limit_s: float) -> Future[Outcome]:
        """Put a request into the queue; the result has the outputs, the seconds in the queue and those of the model.

        Raises:
            Overloaded: too many requests wait already.
            DeadlineMissed: (by the result) the request waited for `limit_s`; it was not run.
        """
        with self._lock:
            if self.waiting >= self.queue:
                raise Overloaded(self.name, self.waiting, max(1, ceil(self.waiting * self.service_s)))
            self.waiting += 1
        task = self._thread.submit(self._run, inputs, time.monotonic(), limit_s)
        task.add_done_callback(self._leave)
        return task

    def _leave(self, _: Future[Outcome]) -> None:
        with self._lock:
            self.waiting -= 1

    def _run(self, inputs: Any, asked: float, limit_s: float) -> Outcome:
        start = time.monotonic()
        if start - asked > limit_s:
            why = f"it waited for {start - asked:.1f} s, and its limit is {limit_s:g} s"
            raise DeadlineMissed(
                f"a request to {self.name} was not run: {why}. Send fewer requests, or allow more time"
            )
        outputs = self.infer(inputs)
        took = time.monotonic() - start
        self.service_s = took if not self.service_s else (1 - SMOOTHING) * self.service_s + SMOOTHING * took
        return outputs, start - asked, took

    def close(self) -> None:
        """Wait for the request that runs, and drop those that wait."""
        self._thread.shutdown(wait=True, cancel_futures=True)


def _describe(spec: TensorSpec) -> dict[str, Any]:
    shape = [one if isinstance(one, int) else -1 for one in spec.shape]
    return {"name": spec.name, "datatype": find_datatype(spec.dtype), "shape": shape}
