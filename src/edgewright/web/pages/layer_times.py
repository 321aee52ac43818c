"""Where the time of an inference goes: the slowest layers with what they compute, and the share of each kind."""

from collections.abc import Sequence
from typing import Any

from edgewright.flows.benchmark.report import BenchmarkRow
from edgewright.flows.layer_costs import KindShare, MeasuredLayer, describe_layers, group_kinds, load_node_costs
from edgewright.report.charts.run import BarSegment, draw_shares
from edgewright.report.numbers import join_words, pluralize
from edgewright.schema.run import Run
from edgewright.schema.units import show_share
from edgewright.store.store import Store

MAX_SLOWEST = 10
KIND, ANSWER = "{kind} {share}", "{kinds}; the slowest layer is {name} ({kind}) with {share}."
SLOW = "{layers}: slow for the number of multiply-accumulates."
RAN_ON = "{count} ran on {units}, {backends} ({evidence}); {partitions}, {fallbacks}."
COMMON = "All {count} on {unit}, {backend}, {evidence}."


def make_time_context(run: Run, row: BenchmarkRow, store: Store) -> dict[str, Any]:
    """Return the template's values; `costs` are the layers by position."""
    costs = describe_layers(run.layers, load_node_costs(run, store)) if run.layers else []
    slowest = sorted(costs, key=lambda one: -one.share)[:MAX_SLOWEST]
    kinds = group_kinds(costs)
    return {
        "costs": {one.position: one for one in costs},
        "has_macs": any(one.macs for one in costs),
        "slowest": slowest,
        "kinds": kinds,
        "kinds_picture": _draw_kinds(kinds),
        "rest_count": len(costs) - len(slowest),
        "rest_share": max(1.0 - sum(one.share for one in slowest), 0.0) if len(costs) > len(slowest) else 0.0,
        "units_by_position": {layer.position: layer.unit for layer in run.layers},
        "time_answer": answer_time(costs),
        "ran_on": _describe_units(run, row),
        "common": _describe_common(run),
    }


def answer_time(costs: Sequence[MeasuredLayer]) -> str:
    """Return the shares of the kinds, the slowest layer, and the layers that are slow for their size."""
    if not costs:
        return ""
    kinds = ", ".join(KIND.format(kind=one.kind, share=show_share(one.share)) for one in group_kinds(costs, 4))
    first = max(costs, key=lambda one: one.share)
    text = ANSWER.format(kinds=kinds, name=first.node or first.name, kind=first.kind, share=show_share(first.share))
    slow = [one.node or one.name for one in costs if one.is_slow]
    return f"{text} {SLOW.format(layers=join_words(slow[:3]))}" if slow else text


def _draw_kinds(kinds: Sequence[KindShare]) -> Any:
    parts = [
        BarSegment(
            f"kind{index}", one.kind, one.share, f"{one.kind}: {show_share(one.share)}, {pluralize(one.count, 'layer')}"
        )
        for index, one in enumerate(kinds)
    ]
    return draw_shares(parts, "Time by kind of layer")


def _describe_units(run: Run, row: BenchmarkRow) -> str:
    totals = row.layer_totals
    if totals is None:
        return ""
    evidence = join_words(dict.fromkeys(str(layer.evidence) for layer in run.layers))
    return RAN_ON.format(
        count=pluralize(len(run.layers), "layer"),
        units=join_words(KIND.format(kind=unit, share=show_share(share)) for unit, share in row.path.items()),
        backends=join_words(row.backends), evidence=evidence, partitions=pluralize(totals.partitions, "partition"),
        fallbacks=pluralize(totals.fallbacks, "fallback"),
    )  # fmt: skip


def _describe_common(run: Run) -> str:
    """Return unit, backend and evidence in one sentence if all layers have the same; otherwise an empty text."""
    found = {(layer.unit, layer.backend, layer.evidence) for layer in run.layers}
    if len(found) != 1:
        return ""
    unit, backend, evidence = next(iter(found))
    return COMMON.format(count=pluralize(len(run.layers), "layer"), unit=unit, backend=backend, evidence=evidence)
