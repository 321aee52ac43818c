"""Compare runs that are in the store."""

from edgewright.bench.summary import stored_medians
from edgewright.bench.verdict import compare_paired, compare_sessions
from edgewright.errors import UsageError
from edgewright.facts.run import Comparison, Run
from edgewright.flows.resolve import check_number


def compare_runs(runs: list[Run], threshold: float) -> tuple[Comparison, ...]:
    """Every run against the first.

    Runs of one session are paired process by process; others are not, and need a larger difference for a verdict.
    UsageError for a run without samples, or a threshold out of bounds.
    """
    check_number("threshold", threshold)
    for run in runs:
        if not stored_medians(run):
            raise UsageError(
                f"run {run.id} has no samples to compare", f"it is {run.state}", "choose a finished benchmark"
            )
    return tuple(compare_two(runs[0], run, threshold) for run in runs[1:])


def compare_two(a: Run, b: Run, threshold: float) -> Comparison:
    judge = compare_paired if session_of(a) == session_of(b) and a.id != b.id else compare_sessions
    return judge(a.id, b.id, stored_medians(a), stored_medians(b), threshold)


def session_of(run: Run) -> str:
    """The id of the session's first run."""
    return run.parent_id or run.id


def find_differences(a: Run, b: Run) -> dict[str, tuple[object, object]]:
    """What differs between two runs in plan and environment, so that a difference in time can be explained."""
    found: dict[str, tuple[object, object]] = {}
    if options_of(a) != options_of(b):
        found["plan.options"] = (options_of(a), options_of(b))
    for prefix, one, other in (("plan", a.plan, b.plan), ("environment", a.environment, b.environment)):
        for key in sorted(one.keys() | other.keys()):
            if one.get(key) != other.get(key) and key not in ("candidates", "inputs"):
                found[f"{prefix}.{key}"] = (one.get(key), other.get(key))
    return found


def options_of(run: Run) -> dict[str, str]:
    """The runtime's own options that the run was made with."""
    candidates = run.plan.get("candidates") or [{}]
    return dict(candidates[0].get("options", {}))
