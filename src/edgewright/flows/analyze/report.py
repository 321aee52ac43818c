"""Report of `edgewright analyze`: schema edgewright.analysis/1."""

from typing import Literal

from msgspec import Struct

from edgewright.formats.costs import ModelCosts
from edgewright.formats.typed_graph import Size
from edgewright.runtimes.support import Kind
from edgewright.schema.model import Signature
from edgewright.schema.vocabulary import Precision, Unit

SupportState = Literal["compiles", "refused", "needs shapes", "unknown"]


class SupportFinding(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One unsupported operator; `node` is empty if the finding is about the model as a whole.

    `source` is the page, file or measurement that the finding is based on.
    """

    node: str
    op: str
    kind: Kind
    reason: str
    remedy: str
    source: str


class Rewrite(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An operator that the runtime does not support directly, and its replacement."""

    node: str
    op: str
    text: str


class UnitReport(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Support of the model by one unit; the counts are None if the runtime's file cannot be created.

    Attributes:
        operators: of the model, or of the runtime's own file if `counted` is `own`.
        supported: operators that the unit supports.
        partitions: connected subgraphs that it would run without interruption.
        listed: whether the unit's source lists operators; without a list only what its rules exclude is known.
    """

    unit: Unit
    backend: str
    counted: Literal["source", "own"]
    operators: int | None
    supported: int | None
    partitions: int | None
    listed: bool
    source: str
    note: str
    findings: tuple[SupportFinding, ...] = ()


class RuntimeReport(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One runtime: what `edgewright compile` does not support, and its units.

    `versions` are those that the table was measured with; `reason` explains the state `unknown`.
    """

    runtime: str
    state: SupportState
    reason: str
    versions: dict[str, str]
    source: str
    note: str
    findings: tuple[SupportFinding, ...] = ()
    rewrites: tuple[Rewrite, ...] = ()
    units: tuple[UnitReport, ...] = ()


class AnalyzedModel(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The analyzed file. `shapes` are the sizes that the figures hold for; `assumed` lists inputs with an assumed first
    dimension.
    """

    path: str
    name: str
    format: str
    sha256: str
    bytes: int
    precision: Precision
    opset: int | None
    domains: dict[str, int]
    signature: Signature
    shapes: dict[str, tuple[Size, ...]]
    assumed: tuple[str, ...]
    operators: int
    folded: int


class Analysis(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The result of an analysis."""

    schema: str = "edgewright.analysis/1"
    model: AnalyzedModel
    notes: tuple[str, ...]
    costs: ModelCosts
    runtimes: tuple[RuntimeReport, ...]


# Phrases of the writer's reasons, and the kind of each.
REASON_KINDS: dict[str, Kind] = {
    "not in the writer's table": "operator",
    "not known in opset": "operator",
    "shape of its output": "dynamic shape",
    "kernels do not support": "dtype",
    "not constant": "constant",
    "is computed": "constant",
    "axes": "rank",
}


def classify_reason(reason: str) -> Kind:
    """Return the kind of a reason of LiteRT's writer."""
    return next((kind for words, kind in REASON_KINDS.items() if words in reason), "attribute")
