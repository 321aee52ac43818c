"""A stream of frames through pre-processing, inference and post-processing on a thread each.

Between the stages are queues of a fixed length. With `newest`, a frame that waits is replaced by a newer one, and one
past its deadline is dropped before the next stage; with `every`, the caller of `offer` waits until there is room. The
variant changes between two inferences, once the next one is loaded and has run once; recurrent states are passed on.
An error in a stage fails that frame only.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

from msgspec import Struct

from edgewright.adaptive.monitor import STAGES, FrameRecord, Monitor

Arrays = Mapping[str, Any]
CLOSE_S = 5.0  # for each thread to end: one that hangs in foreign code is left behind

Stage = Callable[[Any], Any]


class StreamVariant(Protocol):
    """A loaded variant: a function of the inputs that returns the outputs, by name."""

    name: str

    def __call__(self, inputs: Arrays, /) -> Arrays: ...

    def close(self) -> None: ...


class StreamSettings(Struct, frozen=True, kw_only=True):
    """How frames are taken.

    Attributes:
        deadline_s: after a frame was offered.
        keep: `newest` replaces frames that wait, `every` makes the caller wait.
        queue: frames between two stages with `every`.
        carried: inputs that are outputs of the inference before, by the input's name; `start` has their first values.
        start: arrays by input.
        begin_thread: called in each stage's thread with the stage's name, to bind it to processors for instance.
    """

    deadline_s: float
    keep: Literal["newest", "every"] = "newest"
    queue: int = 2
    carried: Mapping[str, str] = {}
    start: Arrays = {}
    begin_thread: Callable[[str], object] | None = None


class FrameQueue:
    """Frames between two threads, of a fixed length."""

    def __init__(self, length: int, *, replace: bool) -> None:
        self._items: deque[Any] = deque()
        self._length, self._replace = length, replace
        self._changed = threading.Condition()
        self._closed = False

    def put(self, item: Any) -> Any:
        """Add an item, and return the one that it replaces; without replacement, wait for room. None if nothing."""
        with self._changed:
            while not self._replace and len(self._items) >= self._length and not self._closed:
                self._changed.wait()
            if self._closed:
                return item
            replaced = self._items.popleft() if len(self._items) >= self._length else None
            self._items.append(item)
            self._changed.notify_all()
            return replaced

    def get(self) -> Any:
        """Return the oldest item once there is one; None after `close`, when none is left."""
        with self._changed:
            while not self._items and not self._closed:
                self._changed.wait()
            item = self._items.popleft() if self._items else None
            self._changed.notify_all()
            return item

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class Pipeline:
    """Runs frames through the stages until `close`.

    Args:
        variant: that runs first.
        pre: frame → inputs by name. post: outputs by name → result; it keeps its own state, such as a tracker.
        monitor: that records the frames.
        settings: see `StreamSettings`.

    Attributes:
        duty: share of the offered frames that are run; the rest is skipped evenly.
        on_end: called with each frame's record and result (None without one), in the thread in which it ended.
    """

    def __init__(
        self, variant: StreamVariant, pre: Stage, post: Stage, monitor: Monitor, settings: StreamSettings
    ) -> None:
        self.duty = 1.0
        self.on_end: Callable[[FrameRecord, Any], object] = _ignore
        self._variant, self._next = variant, _Slot()
        self._monitor, self._settings = monitor, settings
        self._state = dict(settings.start)
        self._credit, self._offered, self._failing = 0.0, 0, ""
        replace = settings.keep == "newest"
        length = 1 if replace else settings.queue
        self._queues = [FrameQueue(length, replace=replace) for _ in STAGES]
        work = (pre, self._infer, post)
        self._threads = [
            threading.Thread(target=self._serve, args=[number, stage], name=f"edgewright-{STAGES[number]}", daemon=True)
            for number, stage in enumerate(work)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def variant(self) -> str:
        """Return the name of the variant that runs."""
        return self._variant.name

    def offer(self, data: Any, offered_s: float | None = None, token: Any = None) -> int:
        """Offer a frame, and return its number. With `every`, wait until there is room.

        Args:
            offered_s: when it was taken, on `time.monotonic`; default: now.
            token: of the frame's record while `on_end` is called.
        """
        now = time.monotonic() if offered_s is None else offered_s
        self._offered += 1
        deadline = now + self._settings.deadline_s
        frame = FrameRecord(number=self._offered, offered_s=now, deadline_s=deadline, token=token)
        self._credit += min(max(self.duty, 0.0), 1.0)
        if self._credit < 1.0 - 1e-9:
            frame.outcome = "skipped"
            self._leave(frame)
            return frame.number
        self._credit -= 1.0
        self._pass_on(0, frame, data)
        return frame.number

    def switch(self, variant: StreamVariant) -> None:
        """Run a loaded and warmed variant from the next inference on; the one before is closed then.

        A variant that was to be next, and did not run yet, is closed.
        """
        waiting = self._next.exchange(variant)
        if waiting is not None:
            waiting.close()

    def close(self) -> None:
        """Run the frames that wait, end the threads, and close the variants. A thread that hangs is left behind."""
        for queue, thread in zip(self._queues, self._threads, strict=True):
            queue.close()
            thread.join(CLOSE_S)
            if thread.is_alive():
                self._monitor.note("hang", f"{thread.name} did not end")
        if not self._threads[1].is_alive():
            for variant in (self._variant, self._next.exchange(None)):
                if variant is not None:
                    variant.close()

    def _pass_on(self, number: int, frame: FrameRecord, data: Any) -> None:
        replaced = self._queues[number].put((frame, data))
        if replaced is not None:
            self._leave(replaced[0])  # its outcome is `dropped`

    def _serve(self, number: int, work: Stage) -> None:
        if self._settings.begin_thread is not None:
            self._settings.begin_thread(STAGES[number])
        while (item := self._queues[number].get()) is not None:
            frame, data = item
            start = time.monotonic()
            if self._settings.keep == "newest" and start > frame.deadline_s:
                self._leave(frame)
                continue
            try:
                result = work(data)
            except Exception as error:  # of foreign code: the stream goes on
                self._fail(frame, number, error)
                continue
            frame.stages[STAGES[number]] = (start, time.monotonic())
            if number == 1:
                frame.variant = self._variant.name
            if number + 1 < len(STAGES):
                self._pass_on(number + 1, frame, result)
            else:
                frame.outcome = "on_time" if frame.stages["post"][1] <= frame.deadline_s else "late"
                self._failing = ""
                self._leave(frame, result)

    def _leave(self, frame: FrameRecord, result: Any = None) -> None:
        self._monitor.add_frame(frame)
        try:
            self.on_end(frame, result)
        except Exception as error:  # of foreign code: the stream goes on
            self._monitor.note("error", f"result: {type(error).__name__}: {error}")
        frame.token = None  # the monitor keeps the record

    def _fail(self, frame: FrameRecord, number: int, error: Exception) -> None:
        frame.outcome = "failed"
        self._leave(frame)
        text = f"{STAGES[number]}: {type(error).__name__}: {error}"
        if text != self._failing:  # once, not for each frame
            self._failing = text
            self._monitor.note("error", text)

    def _infer(self, inputs: Arrays) -> Arrays:
        following = self._next.exchange(None)
        if following is not None:
            before, self._variant = self._variant, following
            self._monitor.note("switch", f"{before.name} to {following.name}")
            before.close()
        outputs = self._variant({**inputs, **self._state})
        for name, output in self._settings.carried.items():
            self._state[name] = outputs[output]
        return outputs


class _Slot:
    """Holds one variant; an exchange is atomic."""

    def __init__(self) -> None:
        self._lock, self._value = threading.Lock(), None

    def exchange(self, value: Any) -> Any:
        with self._lock:
            before, self._value = self._value, value
            return before


def _ignore(frame: FrameRecord, result: Any) -> None:
    """Do nothing with a result."""
