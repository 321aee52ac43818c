"""Personal models: what `edgewright personalize` calls."""

from pathlib import Path
from typing import Any

from edgewright.api.calls import ApiCall
from edgewright.errors import GateFailed
from edgewright.flows.personalize.flow import apply_adapter_file, personalize
from edgewright.flows.personalize.plan import PersonalizePlan
from edgewright.flows.personalize.report import AppliedAdapter, PersonalizeReport


def personalize_model(plan: PersonalizePlan, out: Path, **call: Any) -> tuple[PersonalizeReport, GateFailed | None]:
    """Train an adapter for one user; see `flows.personalize.flow.personalize`.

    Args:
        **call: `progress` and `cancel`, as for `benchmark`.
    """
    with ApiCall(call) as running, running.open_workspace() as workspace:
        return personalize(plan, out, workspace)


def apply_adapter(source: str, weights: str | None, adapter: Path, out: Path, **call: Any) -> AppliedAdapter:
    """Merge an adapter into a model's weights; see `flows.personalize.flow.apply_adapter_file`."""
    with ApiCall(call) as running, running.open_workspace() as workspace:
        return apply_adapter_file(source, weights, adapter, out, workspace)
