"""A bundle under execution policies: what `edgewright benchmark BUNDLE --policy …` calls."""

from typing import Any

from edgewright.api.calls import ApiCall
from edgewright.flows.policy_trials.flow import resolve_trial, run_policy_trials
from edgewright.flows.policy_trials.plan import PolicyTrialPlan
from edgewright.flows.policy_trials.report import PolicyTrialReport


def benchmark_policies(plan: PolicyTrialPlan, **call: Any) -> PolicyTrialReport:
    """Run a bundle under policies, interleaved, and store a run for each; see `run_policy_trials`.

    Args:
        **call: `progress` and `cancel`, as for `benchmark`.
    """
    resolve_trial(plan)  # before the workspace is opened: its errors come first
    with ApiCall(call) as running, running.open_workspace() as workspace:
        return run_policy_trials(plan, workspace)
