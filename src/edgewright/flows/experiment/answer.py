"""What pruning or distillation changed: the header of its page and the answer of every other output."""

from collections.abc import Iterator

from edgewright.flows.experiment.report import ExperimentReport, MetricDelta
from edgewright.report.outcome import (
    Change,
    Difference,
    Outcome,
    describe_difference,
    describe_size,
    describe_speed,
    join_changes,
    name_state,
)

ORIGINALS = ("source", "teacher")
AGAINST = "against the {network}"
PASSED, REJECTED = "gate passed", "{state}: {reason}"


def make_outcome(report: ExperimentReport) -> Outcome:
    """Return the change against the original and the control, then size, speed and gate."""
    networks = {one.name: one for one in report.networks}
    original = next((networks[name] for name in ORIGINALS if name in networks), None)
    made = next((one for name, one in networks.items() if name not in (*ORIGINALS, "control")), None)
    better = made.metric.better if made and made.metric else "higher"
    metric = made.metric.name if made and made.metric else "metric"
    order = sorted(report.against, key=lambda one: one.against == "control")
    quality = [_describe_delta(one, metric, better) for one in order]
    sizes = [describe_size(original.bytes, made.bytes)] if original and made else []
    speed = report.speedup
    speeds = [describe_speed(speed.ratio, speed.verdict, report.runtime)] if speed else []
    return join_changes(quality, sizes, speeds, list(_describe_gate(report)))


def _describe_delta(one: MetricDelta, metric: str, better: str) -> Change:
    unit = "points" if one.unit == "points" else ""
    difference = Difference(metric, one.value, one.low, one.high, better, unit)
    return describe_difference(difference, AGAINST.format(network=one.against))


def _describe_gate(report: ExperimentReport) -> Iterator[Change]:
    if report.state == "ok":
        yield Change(what="gate", text=PASSED, mark="better")
    else:
        yield Change(
            what="gate", text=REJECTED.format(state=name_state(report.state), reason=report.reason), mark="worse"
        )
