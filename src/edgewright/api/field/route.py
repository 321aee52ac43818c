"""Routing between models: what `edgewright route` calls."""

from pathlib import Path
from typing import Any

from edgewright.api.calls import ApiCall
from edgewright.errors import GateFailed
from edgewright.flows.route.flow import RouteReport, RouteRequest, fit_route


def fit_router(request: RouteRequest, output: Path | None, **call: Any) -> tuple[RouteReport, GateFailed | None]:
    """Fit and test a router; see `flows.route.flow.fit_route`.

    Args:
        **call: `progress` and `cancel`, as for `benchmark`.
    """
    with ApiCall(call) as running, running.open_workspace() as workspace:
        return fit_route(request, workspace, output)
