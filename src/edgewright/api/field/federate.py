"""Federated learning: what `edgewright federate` calls."""

from pathlib import Path
from typing import Any

from edgewright.api.calls import ApiCall
from edgewright.flows.federate.network import ClientReport, InitReport, Meeting, init_federation, join, serve
from edgewright.flows.federate.plan import FederatePlan
from edgewright.flows.federate.report import FederateReport
from edgewright.flows.federate.simulation import simulate
from edgewright.runtimes.environments import FOLDER


def simulate_rounds(plan: FederatePlan, out: Path | None, **call: Any) -> FederateReport:
    """Simulate federated rounds on this machine; see `flows.federate.simulation.simulate`.

    Args:
        out: folder for the weights; None writes none.
        **call: `progress` and `cancel`, as for `benchmark`.
    """
    with ApiCall(call) as running, running.open_workspace() as workspace:
        return simulate(plan, out, workspace.store.home / FOLDER, workspace)


def init_members(plan: FederatePlan, hosts: list[str], out: Path) -> InitReport:
    """Write the folders of a new federation; see `flows.federate.network.init_federation`."""
    return init_federation(plan, hosts, out)


def serve_rounds(folder: Path, val: str, meeting: Meeting, out: Path, **call: Any) -> FederateReport:
    """Serve federated rounds to clients of the network; see `flows.federate.network.serve`."""
    with ApiCall(call) as running, running.open_workspace() as workspace:
        return serve(folder, val, meeting, out, workspace.store.home / FOLDER, workspace)


def join_rounds(folder: Path, server: str, data: str, out: Path, **call: Any) -> ClientReport:
    """Take part in federated rounds; see `flows.federate.network.join`."""
    with ApiCall(call) as running, running.open_workspace() as workspace:
        return join(folder, server, data, out, workspace.store.home / FOLDER, workspace)
