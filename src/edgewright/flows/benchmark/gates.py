"""Gates: conditions that the user sets, and whose failure leads to exit code 3."""

from collections.abc import Sequence

from edgewright.errors import GateFailed
from edgewright.schema.run import Run

FALLBACK_SHARE = "layers.fallback_share"


def check_fallback_shares(runs: Sequence[Run], percent: float) -> None:
    """Raise GateFailed if a run spent more than `percent` of its layer time on a backend other than the requested one.

    It also fails if the layers are unknown: a gate that cannot be checked does not pass. The error lists every failed
    run.
    """
    failures = [failure for run in runs if (failure := _find_failure(run, percent))]
    if not failures:
        return
    first = failures[0]
    others = [f"{failure.what} ({failure.why})" for failure in failures[1:]]
    raise GateFailed(first.what, "; also ".join([first.why, *others]), first.try_this)


def _find_failure(run: Run, percent: float) -> GateFailed | None:
    share = next((metric.value for metric in run.metrics if metric.name == FALLBACK_SHARE), None)
    name = f"{run.model.name if run.model else run.id} in {run.runtime}"
    if share is None:
        return GateFailed(
            f"{name}: the fallback share is unknown", "there are no layer times", "read the run's warnings"
        )
    if share * 100 <= percent:
        return None
    return GateFailed(
        f"{name}: the fallback share is {share:.1%} of the layers' time",
        f"--fail-on-fallback allows {percent:g} %",
        f"edgewright runs show {run.id} lists the layers",
    )
