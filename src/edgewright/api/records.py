"""Functions that read the store: list_runs, load_run, list_devices."""

from contextlib import closing
from typing import Any, TypedDict, Unpack

from edgewright.api.options import accept, convert
from edgewright.api.results.records import RunResult, RunsResult
from edgewright.api.user_store import open_user_store
from edgewright.api.values import Pairs, to_tags
from edgewright.flows.answers import answer_run
from edgewright.flows.devices.names import DEVICES, open_device
from edgewright.flows.lineage import trace_lineage
from edgewright.schema.metrics import list_task_metrics
from edgewright.schema.run import DeviceRecord
from edgewright.store.runs.queries import RunFilter


class ListOptions(TypedDict, total=False):
    """Keywords of `list_runs`."""

    model: str | None
    runtime: str | None
    kind: str | None
    device: str | None
    tag: Pairs
    state: Any
    since: str | None
    until: str | None
    text: str | None
    limit: int


@accept(ListOptions, RunFilter)
def list_runs(**options: Unpack[ListOptions]) -> RunsResult:
    """List the stored runs, newest first.

    Args:
        **options: as of `edgewright runs list`, see docs/commands.md.

    Returns:
        A row for each run, with its median latency in microseconds.

    Raises:
        UsageError: a date or a hash is not valid.
        StoreError: the store cannot be read.

    Example:
        >>> import edgewright
        >>> edgewright.list_runs(model="none").answer
        'No stored run matches.'
    """
    given: dict[str, Any] = {name: value for name, value in options.items() if name != "tag" and value is not None}
    wanted = RunFilter(
        tags=convert("tag", options.get("tag"), to_tags), metrics=("latency.p50", *list_task_metrics()), **given
    )
    with closing(open_user_store()) as store:
        return RunsResult(tuple(store.list_runs(wanted)))


def load_run(run_id: str) -> RunResult:
    """Return one stored run with all its figures, samples and layers; the unique beginning of the id, or a
    unique piece of six letters, is enough.

    Raises:
        RunNotFound: no run has this id.
        StoreError: the store cannot be read.
    """
    with closing(open_user_store()) as store:
        run = store.load(run_id)
        return RunResult(run, trace_lineage(run, store), answer_run(run, store).text)


def list_devices() -> tuple[DeviceRecord, ...]:
    """Return the devices that `on` can name, each with its facts: processor, memory and system."""
    found = []
    for name in DEVICES:
        if name != "pretend":
            with closing(open_device(name)) as device:
                found.append(device.facts())
    return tuple(found)
