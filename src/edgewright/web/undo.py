"""Deleting with a way back: runs that are to be deleted are hidden at once and deleted a while later.

When the server ends, what is still here is deleted: that is what was asked for. A server that is killed deletes
nothing more.
"""

import threading
import time
from collections.abc import Callable, Sequence

from edgewright.errors import StoreError, StoreLocked
from edgewright.store.store import Store

WAIT_S = 60.0


class Bin:
    """Ids that wait to be deleted. Any thread may call."""

    def __init__(self, wait_s: float = WAIT_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._wait_s, self._clock = wait_s, clock
        self._guard = threading.Lock()
        self._due: dict[str, float] = {}

    def put(self, run_ids: Sequence[str]) -> None:
        with self._guard:
            self._due |= dict.fromkeys(run_ids, self._clock() + self._wait_s)

    def take_back(self, run_ids: Sequence[str]) -> list[str]:
        """Those of the ids that were still here."""
        with self._guard:
            return [run_id for run_id in run_ids if self._due.pop(run_id, None) is not None]

    def hidden(self) -> tuple[str, ...]:
        with self._guard:
            return tuple(self._due)

    def empty(self, store: Store, *, at_once: bool = False) -> int:
        """Delete what is due; the number of runs. One that cannot be deleted (it runs, it is gone) is let go."""
        now = self._clock()
        with self._guard:
            due = [run_id for run_id, moment in self._due.items() if at_once or moment <= now]
        for run_id in due:
            try:
                store.delete([run_id])
            except StoreLocked:  # the next time
                due = [one for one in due if one != run_id or at_once]
            except StoreError:  # it runs, or is gone
                pass
        self.take_back(due)
        return len(due)
