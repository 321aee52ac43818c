"""Gates: conditions that the user sets, and whose failure is exit code 3."""

from edgewright.errors import GateFailed
from edgewright.facts.run import Run

FALLBACK_SHARE = "layers.fallback_share"


def check_fallback_share(run: Run, percent: float) -> None:
    """GateFailed if over `percent` of the layers' time was spent on a backend that was not asked for.

    It fails as well where the layers are not known: a gate that cannot be checked is not passed.
    """
    share = next((metric.value for metric in run.metrics if metric.name == FALLBACK_SHARE), None)
    name = f"{run.model.name if run.model else run.id} in {run.runtime}"
    if share is None:
        raise GateFailed(f"{name}: the fallback is not known", "there are no layer times", "see the run's warnings")
    if share * 100 > percent:
        raise GateFailed(
            f"{name}: {share:.1%} of the layers' time fell back",
            f"--fail-on-fallback allows {percent:g} %",
            f"edgewright runs show {run.id} names the layers",
        )
