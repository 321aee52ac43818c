"""The thread beside a stream: reads the signals, asks the policy, and loads the variant that shall run.

Sensors that raise or hang, a policy that raises or hangs, and a variant that does not load are noted; the stream goes
on with what it has.
"""

import ctypes
import gc
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Protocol

from msgspec import Struct

from edgewright.adaptive.monitor import Monitor
from edgewright.adaptive.pipeline import CLOSE_S, Pipeline, StreamVariant
from edgewright.adaptive.policy import Action
from edgewright.adaptive.signals import SignalFilter, SignalReading

HANG_S = 5.0  # without an answer of sensors or policy
RETRY_S = 30.0  # after a variant did not load
PRESSURE = 10.0  # PSI some avg10 in percent from which caches are released
RELEASE_S = 30.0  # between two releases

Source = Callable[[], Mapping[str, float | None]]


class ExecutionPolicy(Protocol):
    """What decides: the table's state machine, or the user's own.

    Attributes:
        state, why: shown in the monitor.
        action: what runs now.
    """

    why: str

    @property
    def state(self) -> str: ...

    @property
    def action(self) -> Action: ...

    def update(self, reading: SignalReading, /) -> object:
        """Advance to a reading."""


class Choice(Struct, frozen=True):
    """What shall run: a variant by name, None for none, and the share of the frames."""

    variant: str | None
    duty: float


class SteeringHandlers(Struct, frozen=True, kw_only=True):
    """The functions that a steering calls.

    Attributes:
        source: returns the raw signals by name, see `signals.RANGES`.
        choose: turns an action into a variant and a duty, with what a budget adds.
        load: returns a variant by name, loaded and warmed up.
        clock: of the policy's times, in seconds.
        period_s: between two readings, in real seconds.
    """

    source: Source
    choose: Callable[[Action], Choice]
    load: Callable[[str], StreamVariant]
    clock: Callable[[], float] = time.monotonic
    period_s: float = 1.0


class Steering:
    """Steers a pipeline by a policy until `close`."""

    def __init__(
        self, pipeline: Pipeline, policy: ExecutionPolicy, monitor: Monitor, handlers: SteeringHandlers
    ) -> None:
        self._pipeline, self._policy, self._monitor, self._handlers = pipeline, policy, monitor, handlers
        self._signals, self._ended = SignalFilter(), threading.Event()
        self._answered_s, self._failing, self._failed = time.monotonic(), set[str](), ("", 0.0)
        self._wanted, self._state, self._released_s = pipeline.variant, policy.state, 0.0
        targets = (self._decide, self._watch)
        self._threads = [threading.Thread(target=one, name="edgewright-steering", daemon=True) for one in targets]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """End the threads; one that hangs in foreign code is left behind."""
        self._ended.set()
        for thread in self._threads:
            thread.join(CLOSE_S)

    def _decide(self) -> None:
        while not self._ended.is_set():
            reading = self._read()
            self._monitor.set_reading(reading)
            with self._noting("policy"):
                self._policy.update(reading)
                self._apply(self._policy.action)
            self._answered_s = time.monotonic()
            self._ended.wait(self._handlers.period_s)

    def _watch(self) -> None:
        """Note once if sensors or policy do not answer."""
        hangs = False
        while not self._ended.wait(self._handlers.period_s):
            late = time.monotonic() - self._answered_s > HANG_S + self._handlers.period_s
            if late and not hangs:
                self._monitor.note("hang", "sensors, the policy or the load of a variant do not answer")
            hangs = late

    def _read(self) -> SignalReading:
        values: Mapping[str, float | None] = {}
        with self._noting("sensors"):
            values = self._handlers.source()
        reading = self._signals.read(self._handlers.clock(), values)
        if (reading.pressure or 0.0) >= PRESSURE and reading.t_s - self._released_s > RELEASE_S:
            self._released_s = reading.t_s
            self._monitor.note("memory", f"pressure {reading.pressure:.0f}%: caches are released")
            _release_memory()
        return reading

    def _apply(self, action: Action) -> None:
        choice = self._handlers.choose(action)
        if self._policy.state != self._state:
            self._state = self._policy.state
            self._monitor.note("state", f"{self._state}: {self._policy.why}")
        self._pipeline.duty = 0.0 if choice.variant is None else choice.duty
        if choice.variant is not None and choice.variant != self._wanted:
            self._load(choice.variant)

    def _load(self, name: str) -> None:
        failed, when = self._failed
        if name == failed and time.monotonic() - when < RETRY_S:
            return
        try:
            variant = self._handlers.load(name)
        except Exception as error:  # of foreign code: what runs goes on
            self._failed = (name, time.monotonic())
            self._monitor.note("load", f"{name} does not load: {type(error).__name__}: {error}")
            return
        self._wanted, self._failed = name, ("", 0.0)
        self._pipeline.switch(variant)

    def _noting(self, what: str) -> "_Noting":
        return _Noting(what, self._failing, self._monitor)


class _Noting:
    """Notes an error of a block once, and when it is over."""

    def __init__(self, what: str, failing: set[str], monitor: Monitor) -> None:
        self._what, self._failing, self._monitor = what, failing, monitor

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        if error is not None and not isinstance(error, Exception):
            return False
        if error is not None and self._what not in self._failing:
            self._failing.add(self._what)
            self._monitor.note(self._what, f"{type(error).__name__}: {error}")
        elif error is None and self._what in self._failing:
            self._failing.discard(self._what)
            self._monitor.note(self._what, "works again")
        return True


def _release_memory() -> None:
    """Return unused memory to the system."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
