"""Tables of the operators that each runtime supports (`NAME/support.json`), with the source of every rule.

A table has two parts. `operators` and `refused` say whether `edgewright compile` supports an operator for this runtime,
as measured with the installed versions. `units` say which of these operators a processor supports: measured if the unit
is available, else from the runtime's documentation or source. A rule says what is not supported; everything else counts
as supported; `docs/analyze.md` says how reliable that is.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import msgspec
from msgspec import Struct

from edgewright.schema.vocabulary import Unit

SCHEMA = "edgewright.support/1"
Kind = Literal["operator", "attribute", "dtype", "rank", "dynamic shape", "opset", "constant"]
OWN_DOMAINS = ("", "ai.onnx")
PAIR = ("QuantizeLinear", "DequantizeLinear")


class SupportRule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Conditions for one operator; an unset attribute is no restriction.

    Attributes:
        dtypes: NumPy's names of the main input's type.
        ranks: of the main input.
        constants: positions of inputs that must be constants of the model.
        computed: positions of inputs that must not be.
        refuse: attributes that are rejected together: a value, or `{"above": n}` for a list with a larger number in it,
            `{"not": n}` for any other value, `{"asymmetric": true}` for pads that differ between both ends.
        need: attributes without which it is rejected; any one of the entries suffices.
        most_inputs: maximum number of inputs.
        main: position of the main input.
        rewrite: Edgewright's replacement of the operator, if there is one.
        remedy: a remedy if the rule rejects the operator, unless it is obvious from the rule.
        source: source of the rule, if it differs from the table's.
    """

    dtypes: tuple[str, ...] | None = None
    ranks: tuple[int, ...] | None = None
    constants: tuple[int, ...] = ()
    computed: tuple[int, ...] = ()
    refuse: tuple[dict[str, Any], ...] = ()
    need: tuple[dict[str, Any], ...] = ()
    most_inputs: int | None = None
    main: int | None = None
    rewrite: str = ""
    remedy: str = ""
    source: str = ""


class UnitTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A unit on which the runtime computes.

    Attributes:
        operators: supported operators; None without a published list, so that only the other rules decide.
        rules: conditions by operator.
        refused: reasons of unsupported operators.
        dtypes: of the main input, for all operators.
        quantized: whether it supports only operators between quantized values.
        static: whether every size must be fixed.
        most_axes: the highest rank of any value.
        source: a page, a file or "measured with VERSION".
        note: further information.
        remedy: a remedy for unsupported operators.
    """

    unit: Unit
    backend: str
    source: str
    operators: tuple[str, ...] | None = None
    rules: dict[str, SupportRule] = {}
    refused: dict[str, str] = {}
    dtypes: tuple[str, ...] | None = None
    quantized: bool = False
    static: bool = False
    most_axes: int | None = None
    note: str = ""
    remedy: str = ""


class SupportTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The support tables of one runtime.

    Attributes:
        versions: versions of the packages of the measurement.
        reads: formats that the compiler's part covers.
        units_in: `source` if the units' operators are those of the source's format, `own` if they are those of
            the runtime's own, from a dry run of its compiler.
        opsets: the oldest and the newest opset that compiles; None if unknown.
        operators: ONNX operators that compile.
        refused: ONNX operators that do not, with the runtime's reason.
        pairs: treatment of QuantizeLinear and DequantizeLinear in a w8a8 model, if the compiler reads it
            in a special way; empty if the operators' own entries apply.
        most_axes: the highest rank of any value.
    """

    schema: str
    runtime: str
    versions: dict[str, str]
    source: str
    reads: tuple[str, ...]
    units_in: Literal["source", "own"] = "source"
    opsets: tuple[int, int] | None = None
    operators: dict[str, SupportRule] = {}
    refused: dict[str, str] = {}
    pairs: str = ""
    most_axes: int | None = None
    note: str = ""
    units: tuple[UnitTable, ...] = ()


class CheckedOperator(Struct, frozen=True, kw_only=True):
    """An operator with the properties that the rules check.

    Attributes:
        dtypes, shapes: of each input and, at the end, of the first output; None for an unknown rank.
        constant: for each input, whether it is independent of the model's inputs.
        quantized: whether it computes between quantized values.
        problem: why its result's shape is unknown; empty if it is known.
    """

    name: str
    op: str
    domain: str
    attributes: dict[str, Any]
    dtypes: tuple[str, ...]
    shapes: tuple[tuple[int | str, ...] | None, ...]
    constant: tuple[bool, ...]
    quantized: bool = False
    problem: str = ""

    def main(self, position: int | None) -> int:
        """Return the main input of a rule, by default the first computed one."""
        if position is not None and position < len(self.constant):
            return position
        return next((i for i, constant in enumerate(self.constant) if not constant), 0)


class UnsupportedReason(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why an operator is not supported, and a remedy."""

    kind: Kind
    reason: str
    remedy: str
    source: str


@cache
def read_table(runtime: str) -> SupportTable | None:
    """Return the table of a runtime; None if it has none."""
    place = files("edgewright.runtimes").joinpath(runtime, "support.json")
    if not place.is_file():
        return None
    return msgspec.json.decode(place.read_bytes(), type=SupportTable)


def adapt_to_quantized(table: SupportTable) -> SupportTable:
    """Return the table for a w8a8 model."""
    if not table.pairs:
        return table
    rules = dict.fromkeys(PAIR, SupportRule(rewrite=table.pairs))
    units = tuple(
        msgspec.structs.replace(unit, operators=None if unit.operators is None else (*unit.operators, *PAIR))
        for unit in table.units
    )
    return msgspec.structs.replace(
        table,
        operators={**table.operators, **rules},
        refused={op: why for op, why in table.refused.items() if op not in PAIR},
        units=units,
    )


def check_compile(table: SupportTable, operator: CheckedOperator) -> UnsupportedReason | None:
    """Return why the runtime's compiler rejects an operator; None if no rule rejects it."""
    if operator.domain not in OWN_DOMAINS and f"{operator.domain}::{operator.op}" not in table.operators:
        what = f"operator {operator.op} of domain '{operator.domain}' is not in the runtime's table"
        return UnsupportedReason(
            kind="operator",
            reason=what,
            remedy="replace it with standard ONNX operators, or compile with --custom-ops",
            source=table.source,
        )
    name = operator.op if operator.domain in OWN_DOMAINS else f"{operator.domain}::{operator.op}"
    if name in table.refused:
        return UnsupportedReason(kind="operator", reason=table.refused[name], remedy="", source=table.source)
    rule = table.operators.get(name)
    if rule is None:
        return UnsupportedReason(
            kind="operator",
            reason=f"operator {operator.op} is not in the runtime's table: it was not tested",
            remedy="",
            source=table.source,
        )
    return _check_rank(table.most_axes, operator, table.source) or _check_rule(rule, operator, table.source)


def check_unit(unit: UnitTable, operator: CheckedOperator) -> UnsupportedReason | None:
    """Return why a unit does not support an operator; None if it does."""
    if operator.op in unit.refused:
        return UnsupportedReason(
            kind="operator", reason=unit.refused[operator.op], remedy=unit.remedy, source=unit.source
        )
    if unit.operators is not None and operator.op not in unit.operators and operator.op not in unit.rules:
        reason = f"operator {operator.op} is not in the list of supported operators"
        return UnsupportedReason(kind="operator", reason=reason, remedy=unit.remedy, source=unit.source)
    found = (
        _check_static(unit, operator)
        or _check_quantized(unit, operator)
        or _check_rank(unit.most_axes, operator, unit.source)
    )
    if found is None and unit.dtypes is not None and not unit.quantized:
        found = _check_dtype(unit.dtypes, operator, None, unit.source)
    if found is None and operator.op in unit.rules:
        rule = unit.rules[operator.op]
        found = _check_rule(rule, operator, rule.source or unit.source)
    return found


def _check_static(unit: UnitTable, operator: CheckedOperator) -> UnsupportedReason | None:
    if not unit.static or all(_is_fixed(shape) for shape in operator.shapes):
        return None
    reason = "it requires fixed sizes, but a size is dynamic"
    remedy = "" if operator.problem else "fix the inputs' sizes with --shape"
    return UnsupportedReason(
        kind="dynamic shape",
        reason=f"{reason}: {operator.problem}" if operator.problem else reason,
        remedy=remedy or "make the operator's parameters constants of the model",
        source=unit.source,
    )


def _is_fixed(shape: Sequence[int | str] | None) -> bool:
    return shape is not None and all(isinstance(size, int) for size in shape)


def _check_quantized(unit: UnitTable, operator: CheckedOperator) -> UnsupportedReason | None:
    if not unit.quantized or operator.quantized:
        return None
    dtype = operator.dtypes[operator.main(None)] if operator.dtypes else ""
    return UnsupportedReason(
        kind="dtype",
        reason=f"it requires integers, but this is {dtype or 'of an unknown type'} that is not quantized",
        remedy="quantize the model to w8a8 (QDQ), including this operator",
        source=unit.source,
    )


def _check_rank(most: int | None, operator: CheckedOperator, source: str) -> UnsupportedReason | None:
    highest = max((len(shape) for shape in operator.shapes if shape is not None), default=0)
    if most is None or highest <= most:
        return None
    return UnsupportedReason(
        kind="rank",
        reason=f"it supports up to {most} axes, but a value has {highest}",
        remedy=f"reshape to {most} axes around the operator",
        source=source,
    )


def _check_rule(rule: SupportRule, operator: CheckedOperator, source: str) -> UnsupportedReason | None:
    """Return the first violation of the rule."""
    source = rule.source or source
    found = _check_count(rule, operator, source) or _check_constants(rule, operator, source)
    if found is None and rule.dtypes is not None:
        found = _check_dtype(rule.dtypes, operator, rule.main, source)
    if found is None and rule.ranks is not None:
        found = _check_ranks(rule, operator, source)
    if found is None:
        found = _check_attributes(rule, operator, source) or _check_required_attributes(rule, operator, source)
    return msgspec.structs.replace(found, remedy=rule.remedy) if found is not None and rule.remedy else found


def _check_count(rule: SupportRule, operator: CheckedOperator, source: str) -> UnsupportedReason | None:
    count = len(operator.constant)
    if rule.most_inputs is None or count <= rule.most_inputs:
        return None
    reason = f"it supports up to {rule.most_inputs} inputs, but has {count}"
    return UnsupportedReason(kind="attribute", reason=reason, remedy="split it into two operators", source=source)


def _check_constants(rule: SupportRule, operator: CheckedOperator, source: str) -> UnsupportedReason | None:
    for position in rule.constants:
        if position < len(operator.constant) and not operator.constant[position]:
            remedy = "make it a constant of the model: fold constants, or export with fixed parameters"
            return UnsupportedReason(
                kind="constant", reason=f"its input {position} is computed", remedy=remedy, source=source
            )
    for position in rule.computed:
        if position < len(operator.constant) and operator.constant[position]:
            return UnsupportedReason(
                kind="constant", reason=f"its input {position} is a constant", remedy="", source=source
            )
    return None


def _check_dtype(
    allowed: Sequence[str], operator: CheckedOperator, main: int | None, source: str
) -> UnsupportedReason | None:
    position = operator.main(main)
    dtype = operator.dtypes[position] if position < len(operator.dtypes) else ""
    if not dtype or dtype in allowed:
        return None
    remedy = f"cast it to {allowed[0]} around the operator" if allowed else ""
    return UnsupportedReason(
        kind="dtype",
        reason=f"type {dtype} is not supported; supported: {', '.join(allowed)}",
        remedy=remedy,
        source=source,
    )


def _check_ranks(rule: SupportRule, operator: CheckedOperator, source: str) -> UnsupportedReason | None:
    position = operator.main(rule.main)
    shape = operator.shapes[position] if position < len(operator.shapes) else None
    if shape is None or rule.ranks is None or len(shape) in rule.ranks:
        return None
    shown = ", ".join(map(str, rule.ranks))
    nearest = min(rule.ranks, key=lambda rank: abs(rank - len(shape)), default=len(shape))
    remedy = f"reshape to {nearest} axes around the operator"
    return UnsupportedReason(
        kind="rank", reason=f"{len(shape)} axes are not supported; supported: {shown}", remedy=remedy, source=source
    )


def _check_attributes(rule: SupportRule, operator: CheckedOperator, source: str) -> UnsupportedReason | None:
    for condition in rule.refuse:
        if condition and all(matches(operator.attributes.get(name), wanted) for name, wanted in condition.items()):
            shown = ", ".join(f"{name}={_show(operator.attributes[name])}" for name in condition)
            remedy = f"export it with another {' or '.join(condition)}"
            return UnsupportedReason(kind="attribute", reason=f"{shown} is not supported", remedy=remedy, source=source)
    return None


def _check_required_attributes(rule: SupportRule, operator: CheckedOperator, source: str) -> UnsupportedReason | None:
    given = operator.attributes
    if not rule.need or any(all(given.get(name) == wanted for name, wanted in one.items()) for one in rule.need):
        return None
    shown = " or ".join(", ".join(f"{name}={_show(wanted)}" for name, wanted in one.items()) for one in rule.need)
    return UnsupportedReason(
        kind="attribute", reason=f"it supports only {shown}", remedy=f"export it with {shown}", source=source
    )


def matches(value: Any, wanted: Any) -> bool:
    """Return whether an attribute matches a condition; an absent one never does."""
    if value is None:
        return False
    if not isinstance(wanted, Mapping):
        return bool(value == wanted)
    numbers = value if isinstance(value, list) else [value]
    if "above" in wanted:
        return any(number > wanted["above"] for number in numbers)
    if "asymmetric" in wanted:
        half = len(numbers) // 2
        return numbers[:half] != numbers[half:]
    return any(number != wanted.get("not") for number in numbers)


def _show(value: Any) -> str:
    return "[" + ", ".join(map(str, value)) + "]" if isinstance(value, list) else str(value)
