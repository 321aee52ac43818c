"""Report of pruning, as `edgewright prune --json` prints it."""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from edgewright.flows.experiment.report import MetricDelta, NetworkReport
from edgewright.flows.quantize.report import Speedup
from edgewright.pruning.groups import PruningGroups
from edgewright.schema.plan import PrunePlan
from edgewright.training.job import Curve

SCHEMA = "edgewright.prune/1"


class WidthRow(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Coupled channels, heads or neurons.

    Attributes:
        name: of the first layer that produces them; `layers` are all whose weights shrink with them.
        before, after: their number.
    """

    name: str
    kind: str
    before: int
    after: int
    layers: tuple[str, ...]


class PruneReport(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The JSON of `edgewright prune --json`.

    Attributes:
        importance: criterion by which units or weights were selected.
        targets: budgets by option; empty in older reports.
        model: path of the pruned ONNX model; None if a gate rejected it.
        module, weights: of a torch source, `FILE.py:build` and its weights, which can be trained, pruned, distilled and
            quantized further.
        trained_on, held_out, evaluated_on: numbers of samples.
        sides: source, control (if trained) and pruned.
        against: the pruned network's metric minus that of the control, and of the source.
        speedup: time of the source over that of the pruned network, measured interleaved.
        widths: of structured pruning.
        fixed: layers that were not pruned, with the reason.
        curves: of the first seed, by network.
        state: `ok`, or `refused` with the `reason`.
    """

    schema: str = SCHEMA
    source: str
    source_sha256: str
    method: str
    importance: str
    targets: dict[str, str] = {}
    runtime: str
    model: str | None
    module: str | None
    weights: str | None
    trained_on: int
    held_out: int
    evaluated_on: int
    sides: tuple[NetworkReport, ...]
    against: tuple[MetricDelta, ...]
    speedup: Speedup | None
    widths: tuple[WidthRow, ...]
    fixed: dict[str, str]
    curves: dict[str, tuple[Curve, ...]]
    notes: tuple[str, ...]
    state: str
    reason: str
    seconds: float
    run_id: str | None = None


def list_targets(plan: PrunePlan) -> dict[str, str]:
    """Return the budgets by option, as the user would write them; without a target the gate is the budget."""
    if plan.method == "unstructured":
        share = {"pattern": plan.pattern} if plan.pattern else {"sparsity": f"{plan.sparsity:g}", "scope": plan.scope}
        return {**share, "max-drop": f"{plan.max_drop:g}"}
    targets = {
        "target-speedup": f"{plan.target_speedup:g}" if plan.target_speedup else "",
        "target-bytes": plan.target_bytes,
        "target-macs": plan.target_macs,
        "max-drop": f"{plan.max_drop:g}",
    }
    return {name: word for name, word in targets.items() if word}


def make_width_rows(
    groups: PruningGroups, widths: Mapping[str, int], before: Sequence[WidthRow] = ()
) -> tuple[WidthRow, ...]:
    """Return every group with its current width; original widths come from the rows of the previous round."""
    first = {row.name: row.before for row in before}
    return tuple(
        WidthRow(
            name=group.name,
            kind=group.kind,
            before=first.get(group.name, group.size),
            after=widths.get(group.name, group.size),
            layers=tuple(group.layers),
        )
        for group in groups.groups
    )


def make_module_name(stem: str) -> str:
    """Return a file name that Python can import."""
    return "".join(one if one.isalnum() else "_" for one in stem)
