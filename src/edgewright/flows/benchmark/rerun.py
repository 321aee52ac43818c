"""Repetition of a run from its stored record."""

from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from edgewright.bench.summary import read_chunk_medians
from edgewright.errors import StoreError, UsageError
from edgewright.flows.benchmark.comparison import compare_pair
from edgewright.flows.benchmark.flow import BenchmarkOutcome, benchmark
from edgewright.flows.stored_model import fetch_model
from edgewright.flows.workspace import Workspace
from edgewright.schema.plan import BenchmarkPlan
from edgewright.schema.run import RESERVED_TAGS, Comparison, Run
from edgewright.store.store import Store
from edgewright.system.temporary import TemporaryFolder


class RerunResult(Struct, frozen=True, kw_only=True):
    """The repeated run, the new outcome, and the comparison of both; None if either has no samples."""

    original: Run
    outcome: BenchmarkOutcome
    comparison: Comparison | None


def load_recorded_plan(run: Run) -> BenchmarkPlan:
    """Return the plan of a recorded run; UsageError for a run that is not a benchmark."""
    if run.kind != "benchmark" or not run.plan:
        raise UsageError(
            f"run {run.id} cannot be repeated on a device of your choice",
            f"it is of kind {run.kind}, and only benchmarks store their models",
            f"edgewright runs rerun {run.id}, in the folder of its model and data",
        )
    try:
        plan = msgspec.convert(run.plan, BenchmarkPlan)
    except msgspec.ValidationError as error:
        raise StoreError(
            f"run {run.id} cannot be repeated",
            f"its plan cannot be read: {error}",
            "use the Edgewright version that recorded it",
        ) from None
    if len(plan.candidates) != 1:
        raise StoreError(f"run {run.id} cannot be repeated", "its plan does not name one candidate")
    return plan


def rerun(run_id: str, workspace: Workspace, *, moved_to: str = "") -> RerunResult:
    """Restore model, inputs and plan from the store, measure again, and compare both runs.

    `moved_to` names `device` if it differs from the run's own.

    Raises RunNotFound, UsageError (not a benchmark), StoreError (the model's bytes are missing).
    """
    store = workspace.store
    original = store.load(run_id)
    plan = load_recorded_plan(original)
    with TemporaryFolder() as folder:
        files = _fetch_files(original, store, folder)
        plan = msgspec.structs.replace(_relocate_plan(plan, files), device=moved_to or plan.device)
        outcome = benchmark(plan, workspace, _make_tags(original))
    again = outcome.runs[0]
    known = outcome.error is None and read_chunk_medians(original)
    comparison = compare_pair(original, again, plan.threshold) if known else None
    return RerunResult(original=original, outcome=outcome, comparison=comparison)


def _make_tags(original: Run) -> dict[str, str]:
    """Return the user's tags and the id of the repeated run."""
    own = {name: value for name, value in original.tags.items() if name not in RESERVED_TAGS}
    return {**own, "rerun-of": original.id}


def _fetch_files(run: Run, store: Store, folder: Path) -> dict[str, Path]:
    """Restore the run's model and its inputs, if it had any, from the store."""
    files = {"model": fetch_model(run, store, folder)}
    for output in run.outputs:
        if output.role == "inputs":
            inputs = folder / "inputs"
            inputs.mkdir()
            files["inputs"] = inputs / "inputs.npz"
            store.get_file(output.sha256, files["inputs"])
    return files


def _relocate_plan(plan: BenchmarkPlan, files: Mapping[str, Path]) -> BenchmarkPlan:
    """Return the plan with the restored paths, without samples, which are not stored; StoreError without the inputs."""
    if plan.inputs is not None and "inputs" not in files:
        raise StoreError("the run's inputs are not in the store", "the run was imported without its files")
    candidate = msgspec.structs.replace(plan.candidates[0], model=str(files["model"]))
    inputs = str(files["inputs"]) if "inputs" in files else None
    return msgspec.structs.replace(plan, candidates=(candidate,), inputs=inputs, phase_task=None, phase_data="")
