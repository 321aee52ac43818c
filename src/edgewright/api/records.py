"""Functions that read the store: list_runs, load_run, list_devices."""

from contextlib import closing
from typing import Any, TypedDict, Unpack, get_args

from edgewright.api.options import NoOptions, accept, convert
from edgewright.api.results.records import DevicesResult, ListedDevice, RunResult, RunsResult
from edgewright.api.user_store import open_user_store
from edgewright.api.values import Pairs, to_tags
from edgewright.errors import UsageError
from edgewright.flows.answers import answer_run
from edgewright.flows.devices.names import DEVICES, open_device
from edgewright.flows.lineage import trace_lineage
from edgewright.schema.metrics import list_task_metrics
from edgewright.schema.vocabulary import RunState
from edgewright.store.runs.queries import RunFilter


class ListOptions(TypedDict, total=False):
    """Keywords of `list_runs`."""

    model: str | None
    runtime: str | None
    kind: str | None
    device: str | None
    tag: Pairs
    state: str | None
    since: str | None
    until: str | None
    text: str | None
    limit: int | None


@accept(ListOptions, RunFilter)
def list_runs(**options: Unpack[ListOptions]) -> RunsResult:
    """List the stored runs, newest first.

    Args:
        **options: as of `edgewright runs list`, see docs/commands.md; `limit=None` lists all.

    Returns:
        A row for each run, with its median latency in microseconds.

    Raises:
        UsageError: a date, a hash, a state or the limit is not valid.
        StoreError: the store cannot be read.

    Example:
        >>> import edgewright
        >>> edgewright.list_runs(model="none").answer
        'No stored run matches.'
    """
    state, limit = options.get("state"), options.get("limit", 1)
    if state is not None and state not in get_args(RunState):
        raise UsageError(f"unknown state: {state}", f"known states: {', '.join(get_args(RunState))}", "--state done")
    if limit is not None and limit < 1:
        raise UsageError(f"--limit {limit} is not valid", "at least one run is listed", "--limit 50, or None for all")
    given: dict[str, Any] = {name: value for name, value in options.items() if name != "tag" and value is not None}
    if "limit" in options:
        given["limit"] = limit
    wanted = RunFilter(
        tags=convert("tag", options.get("tag"), to_tags), metrics=("latency.p50", *list_task_metrics()), **given
    )
    with closing(open_user_store()) as store:
        return RunsResult(tuple(store.list_runs(wanted)))


@accept(NoOptions)
def load_run(run_id: str) -> RunResult:
    """Return one stored run with all its figures, samples and layers.

    Args:
        run_id: the id, its unique beginning, or a unique piece of six letters.

    Returns:
        A row for each metric with its unit and interval; `run` has the whole record.

    Raises:
        RunNotFound: no run has this id.
        StoreError: the store cannot be read.

    Example:
        >>> import edgewright
        >>> measured = edgewright.benchmark("digits.onnx", processes=2, seconds=0.01, layers=False)
        >>> edgewright.load_run(measured.run_ids[0]).verdict
        'done'
    """
    with closing(open_user_store()) as store:
        run = store.load(run_id)
        return RunResult(run, trace_lineage(run, store), answer_run(run, store).text)


@accept(NoOptions)
def list_devices() -> DevicesResult:
    """List the devices that `on` can name.

    Returns:
        A row for each with name, kind, state and facts: processor, architecture, cores, and system.

    Example:
        >>> import edgewright
        >>> edgewright.list_devices().answer
        'local (local): ready.'
    """
    found = []
    for name in DEVICES:
        if name != "pretend":
            with closing(open_device(name)) as device:
                facts = device.facts()
                found.append(ListedDevice(name=name, kind=facts.kind, state="ready", facts=facts.facts))
    return DevicesResult(found)
