"""Deletion of runs after a delay in which it can be undone.

Runs are hidden immediately and deleted after the delay, in small batches: between two batches a deletion can still be
undone. When the server stops, it deletes the pending runs for at most a few seconds; the others stay in the store. A
killed server deletes nothing more.
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
    """Ids of runs with a pending deletion. Thread-safe."""

    def __init__(self, wait_s: float = UNDO_TIME_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._wait_s, self._clock = wait_s, clock
        self._changed = threading.Condition()
        self._due: dict[str, float] = {}
        self._deleting: dict[str, float] = {}  # the batch that is being deleted now
        self._closing = False

    def put(self, run_ids: Sequence[str]) -> None:
        """Schedule runs for deletion."""
        with self._changed:
            self._due |= dict.fromkeys(run_ids, self._clock() + self._wait_s)

    def restore(self, run_ids: Sequence[str]) -> list[str]:
        """Cancel the deletion of runs, and return the ids of those that were not deleted yet.

        Waits for the current batch if it contains one of them.
        """
        wanted = list(dict.fromkeys(run_ids))
        with self._changed:
            back = {run_id for run_id in wanted if self._due.pop(run_id, None) is not None}
            self._changed.wait_for(lambda: self._deleting.keys().isdisjoint(wanted))
            back |= {run_id for run_id in wanted if self._due.pop(run_id, None) is not None}
        return [run_id for run_id in wanted if run_id in back]

    def hidden(self) -> tuple[str, ...]:
        """Return the ids of runs that are scheduled for deletion or being deleted."""
        with self._changed:
            return (*self._due, *self._deleting)

    def delete_due(self, store: Store) -> int:
        """Delete the runs whose delay is over, and return how many. Runs that cannot be deleted (running, gone) are
        dropped from the queue; while another process locks the store, runs stay in the queue."""
        return self._delete_batches(store, lambda moment: moment <= self._clock() and not self._closing)

    def close(self, store: Store, within_s: float = CLOSE_TIMEOUT_S) -> int:
        """Delete all pending runs as far as the time allows, and return how many; the rest stays in the store."""
        self.stop()
        end = time.monotonic() + within_s
        deleted = self._delete_batches(store, lambda moment: time.monotonic() < end)
        with self._changed:
            self._due.clear()
        return deleted

    def stop(self) -> None:
        """Stop `delete_due` in another thread after its current batch."""
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
    """Delete runs in one transaction, or in halves if one of them cannot be deleted.

    Returns:
        The number of deleted runs, and the runs that could not be deleted because the store is locked.
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
