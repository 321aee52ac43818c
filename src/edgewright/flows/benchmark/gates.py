"""Gates: conditions that the user sets, and whose failure is exit code 3."""

from collections.abc import Sequence

from edgewright.errors import GateFailed
from edgewright.schema.run import Run

FALLBACK_SHARE = "layers.fallback_share"


def check_fallback_shares(runs: Sequence[Run], percent: float) -> None:
    """GateFailed if in any run over `percent` of the layers' time was spent on a backend that was not asked for.

    It fails as well where the layers are not known: a gate that cannot be checked is not passed. The error tells every
    run that fails, so that one does not hide the others.
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
        return GateFailed(f"{name}: the fallback is not known", "there are no layer times", "see the run's warnings")
    if share * 100 <= percent:
        return None
    return GateFailed(
        f"{name}: {share:.1%} of the layers' time fell back",
        f"--fail-on-fallback allows {percent:g} %",
        f"edgewright runs show {run.id} names the layers",
    )
