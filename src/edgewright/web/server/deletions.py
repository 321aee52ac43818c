"""Delete runs after a waiting time in which the deletion can be undone.

Runs are hidden at once and deleted a while later, in small batches: between two batches a deletion can still be
undone. When the server ends, the runs that still wait are deleted, as was asked for, within a few seconds; what
does not fit into that time stays on record. A server that is killed deletes nothing more.
"""

import threading
import time
from collections.abc import Callable, Sequence

from edgewright.errors import StoreCorrupt, StoreError, StoreFull, StoreLocked
from edgewright.store.store import Store

UNDO_TIME_S = 60.0
BATCH_RUNS = 50  # runs of one transaction
CLOSE_TIMEOUT_S = 3.0


class DeletionQueue:
    """Ids of runs that wait to be deleted. Any thread may call."""

    def __init__(self, wait_s: float = UNDO_TIME_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._wait_s, self._clock = wait_s, clock
        self._changed = threading.Condition()
        self._due: dict[str, float] = {}
        self._deleting: dict[str, float] = {}  # the batch that is being deleted now
        self._closing = False

    def put(self, run_ids: Sequence[str]) -> None:
        """Let runs wait for their deletion."""
        with self._changed:
            self._due |= dict.fromkeys(run_ids, self._clock() + self._wait_s)

    def restore(self, run_ids: Sequence[str]) -> list[str]:
        """Return those of the ids that are not deleted, and will not be.

        Waits for the batch that is being deleted now if it holds one of them.
        """
        wanted = list(dict.fromkeys(run_ids))
        with self._changed:
            back = {run_id for run_id in wanted if self._due.pop(run_id, None) is not None}
            self._changed.wait_for(lambda: self._deleting.keys().isdisjoint(wanted))
            back |= {run_id for run_id in wanted if self._due.pop(run_id, None) is not None}
        return [run_id for run_id in wanted if run_id in back]

    def hidden(self) -> tuple[str, ...]:
        """Return the ids of runs that wait or are being deleted."""
        with self._changed:
            return (*self._due, *self._deleting)

    def delete_due(self, store: Store) -> int:
        """Delete the runs whose time has come; return how many. Runs that cannot be deleted (running, gone) are let
        go; while another process holds the store, they wait on."""
        return self._delete_batches(store, lambda moment: moment <= self._clock() and not self._closing)

    def close(self, store: Store, within_s: float = CLOSE_TIMEOUT_S) -> int:
        """Delete everything that waits, as far as the time allows, and return how many; the rest stays on record."""
        self.stop()
        end = time.monotonic() + within_s
        deleted = self._delete_batches(store, lambda moment: time.monotonic() < end)
        with self._changed:
            self._due.clear()
        return deleted

    def stop(self) -> None:
        """End `empty` in another thread after the batch that it is at."""
        self._closing = True

    def _delete_batches(self, store: Store, is_due: Callable[[float], bool]) -> int:
        deleted = 0
        while batch := self._begin_batch(is_due):
            left = list(batch)
            try:
                done, left = _delete_possible(store, left)
                deleted += done
            finally:
                with self._changed:
                    self._due |= {run_id: batch[run_id] for run_id in left}
                    self._deleting = {}
                    self._changed.notify_all()
            if left:
                break
        return deleted

    def _begin_batch(self, is_due: Callable[[float], bool]) -> dict[str, float]:
        with self._changed:
            due = [run_id for run_id, moment in self._due.items() if is_due(moment)][:BATCH_RUNS]
            self._deleting = {run_id: self._due.pop(run_id) for run_id in due}
            return dict(self._deleting)


def _delete_possible(store: Store, run_ids: list[str]) -> tuple[int, list[str]]:
    """Delete runs in one transaction, or in halves where one of them cannot be deleted.

    Returns how many were deleted, and those that another process kept from being deleted now.
    """
    try:
        store.delete(run_ids)
    except StoreLocked:
        return 0, run_ids
    except StoreError as error:
        if len(run_ids) == 1 or isinstance(error, StoreFull | StoreCorrupt):
            return 0, []
        half = len(run_ids) // 2
        first, second = (_delete_possible(store, part) for part in (run_ids[:half], run_ids[half:]))
        return first[0] + second[0], first[1] + second[1]
    return len(run_ids), []
