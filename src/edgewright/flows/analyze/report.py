"""The answer of `edgewright analyze`: schema edgewright.analysis/1."""

from typing import Literal

from msgspec import Struct

from edgewright.formats.costs import ModelCosts
from edgewright.formats.typed_graph import Size
from edgewright.runtimes.support import Kind
from edgewright.schema.model import Signature
from edgewright.schema.vocabulary import Precision, Unit

SupportState = Literal["compiles", "refused", "needs shapes", "unknown"]


class SupportFinding(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One operator that is not taken; `node` is empty where it is the model as a whole.

    `source` is the page, the file or the measurement that says so.
    """

    node: str
    op: str
    kind: Kind
    reason: str
    remedy: str
    source: str


class Rewrite(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An operator that the runtime does not take as it is, and what Edgewright writes in its place."""

    node: str
    op: str
    text: str


class UnitReport(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one unit takes of the model; the counts are None where the runtime's file cannot be made.

    Attributes:
        operators: of the model, or of the runtime's own file where `counted` is `own`.
        supported: those that the unit takes.
        partitions: connected pieces that it would run in one go.
        listed: whether the unit's source lists operators; without a list only what its rules forbid is known.
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
    """One runtime: what stands in the way of `edgewright compile`, and its units.

    `versions` are those that the table was measured with; `reason` says why the state is `unknown`.
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
    """The file. `shapes` are the sizes that figures are for; `assumed` names inputs whose leading size is a guess."""

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
    """All that is known of a model without running it."""

    schema: str = "edgewright.analysis/1"
    model: AnalyzedModel
    notes: tuple[str, ...]
    costs: ModelCosts
    runtimes: tuple[RuntimeReport, ...]
