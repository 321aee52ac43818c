"""What a quantization changed: the header of its page and the answer of every other output."""

from collections.abc import Iterator

from edgewright.flows.quantize.report import QuantizedRow, QuantizeReport
from edgewright.report.numbers import join_words
from edgewright.report.outcome import (
    Change,
    Difference,
    Outcome,
    describe_difference,
    describe_size,
    describe_speed,
    join_changes,
    merge_changes,
    name_runtime,
    name_state,
)
from edgewright.schema.metrics import get_metric_info, is_share

PASSED, PASSED_IN = "gate passed", "gate passed in {runtimes}"
NOT_WRITTEN = "{runtime} {state}: {reason}"
SPACE_FOR_REASON = 200


def make_outcome(report: QuantizeReport) -> Outcome:
    """Return the changes of the artifacts that were written, or of all if none was; then the gate."""
    rows = [row for row in report.artifacts if row.path] or report.artifacts
    quality = [(row.runtime, change) for row in rows if (change := _describe_quality(row))]
    sizes = [
        (row.runtime, describe_size(row.bytes * row.bytes_ratio, row.bytes))
        for row in rows
        if row.bytes and row.bytes_ratio
    ]
    speeds = [
        describe_speed(row.speedup.ratio, row.speedup.verdict, row.runtime) for row in rows if row.speedup is not None
    ]
    return join_changes(merge_changes(quality), merge_changes(sizes), speeds, list(_describe_gate(report)))


def _describe_quality(row: QuantizedRow) -> Change | None:
    metric, paired = row.metric, row.paired
    if metric is None:
        return None
    share = is_share(metric.name)
    factor = 100.0 if share else 1.0
    value = metric.value - metric.reference if paired is None else paired.difference
    return describe_difference(
        Difference(
            metric=metric.name,
            value=factor * value,
            low=None if paired is None else factor * paired.low,
            high=None if paired is None else factor * paired.high,
            better=get_metric_info(metric.name).better or "higher",
            unit="points" if share else "",
        )
    )


def _describe_gate(report: QuantizeReport) -> Iterator[Change]:
    passed = [name_runtime(row.runtime) for row in report.artifacts if row.path]
    left = [row for row in report.artifacts if not row.path]
    if passed:
        text = PASSED_IN.format(runtimes=join_words(passed)) if left else PASSED
        yield Change(what="gate", text=text, mark="better")
    for row in left:
        reason = next(iter(row.reason.splitlines()), "")[:SPACE_FOR_REASON]
        text = NOT_WRITTEN.format(runtime=name_runtime(row.runtime), state=name_state(row.state), reason=reason)
        yield Change(what="gate", text=text, mark="worse")
