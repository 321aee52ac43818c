"""Repeat a run from its record alone."""

from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from edgewright.bench.session import Progress
from edgewright.bench.summary import read_chunk_medians
from edgewright.devices.protocol import Device
from edgewright.errors import StoreError, UsageError
from edgewright.flows.benchmark.comparison import compare_pair
from edgewright.flows.benchmark.flow import BenchmarkOutcome, benchmark
from edgewright.flows.stored_model import fetch_model
from edgewright.schema.plan import BenchmarkPlan
from edgewright.schema.run import RESERVED_TAGS, Comparison, Run
from edgewright.store.store import Store
from edgewright.system.temporary import TemporaryFolder


class RerunResult(Struct, frozen=True, kw_only=True):
    """The run that was repeated, what came of it, and the new run against the old; None where either has no
    samples."""

    original: Run
    outcome: BenchmarkOutcome
    comparison: Comparison | None


def load_recorded_plan(run: Run) -> BenchmarkPlan:
    """The plan that a run was made with; UsageError for a run that is no benchmark."""
    if run.kind != "benchmark" or not run.plan:
        raise UsageError(f"run {run.id} cannot be repeated", f"it is a {run.kind}", "only benchmarks can")
    try:
        plan = msgspec.convert(run.plan, BenchmarkPlan)
    except msgspec.ValidationError as error:
        raise StoreError(
            f"run {run.id} cannot be repeated", f"its plan cannot be read: {error}", "use the version that made it"
        ) from None
    if len(plan.candidates) != 1:
        raise StoreError(f"run {run.id} cannot be repeated", "its plan does not name one candidate")
    return plan


def rerun(run_id: str, device: Device, store: Store, progress: Progress, *, moved_to: str = "") -> RerunResult:
    """Take model, inputs and plan from the record, measure again, and compare the two.

    `moved_to` names `device` where it is another than the run's own.

    Raises RunNotFound, UsageError (no benchmark), StoreError (the record lacks the model's bytes).
    """
    original = store.load(run_id)
    plan = load_recorded_plan(original)
    with TemporaryFolder() as folder:
        files = _fetch_files(original, store, folder)
        plan = msgspec.structs.replace(_relocate_plan(plan, files), device=moved_to or plan.device)
        outcome = benchmark(plan, device, store, progress, _make_tags(original))
    again = outcome.runs[0]
    known = outcome.error is None and read_chunk_medians(original)
    comparison = compare_pair(original, again, plan.threshold) if known else None
    return RerunResult(original=original, outcome=outcome, comparison=comparison)


def _make_tags(original: Run) -> dict[str, str]:
    """The user's own tags, and where the run comes from."""
    own = {name: value for name, value in original.tags.items() if name not in RESERVED_TAGS}
    return {**own, "rerun-of": original.id}


def _fetch_files(run: Run, store: Store, folder: Path) -> dict[str, Path]:
    """The run's model and its inputs, where it had some, from the store."""
    files = {"model": fetch_model(run, store, folder)}
    for output in run.outputs:
        if output.role == "inputs":
            inputs = folder / "inputs"
            inputs.mkdir()
            files["inputs"] = inputs / "inputs.npz"
            store.get_file(output.sha256, files["inputs"])
    return files


def _relocate_plan(plan: BenchmarkPlan, files: Mapping[str, Path]) -> BenchmarkPlan:
    """The same plan with its files where they are now; StoreError where the inputs are not on record."""
    if plan.inputs is not None and "inputs" not in files:
        raise StoreError("the run's own inputs are not in the record", "it was imported without its files")
    candidate = msgspec.structs.replace(plan.candidates[0], model=str(files["model"]))
    inputs = str(files["inputs"]) if "inputs" in files else None
    return msgspec.structs.replace(plan, candidates=(candidate,), inputs=inputs)
