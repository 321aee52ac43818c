"""Report of pruning, as `edgewright prune --json` prints it."""

from collections.abc import Mapping, Sequence

from msgspec import field

from edgewright.flows.experiment.report import ExperimentReport, WidthRow
from edgewright.pruning.groups import PruningGroups
from edgewright.schema.plan import PrunePlan

SCHEMA = "edgewright.prune/1"


class PruneReport(ExperimentReport, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The JSON of `edgewright prune --json`.

    Attributes:
        importance: criterion by which units or weights were selected.
        targets: budgets by option; empty in older reports.
        fixed: layers that were not pruned, with the reason.
    """

    schema: str = SCHEMA
    source: str
    source_sha256: str
    method: str
    importance: str
    targets: dict[str, str] = field(default_factory=dict)
    fixed: dict[str, str]


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
