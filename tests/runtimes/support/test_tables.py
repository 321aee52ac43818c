"""The support tables: well formed, sourced, and what the installed runtimes really accept.

A sample of the probes is tried here; `scripts/support_tables.py --check` tries all of them.
"""

from collections.abc import Sequence
from pathlib import Path

import onnx
import pytest

from edgewright.flows.analyze.partitions import count_partitions, link_operators, make_item, make_planned_item
from edgewright.flows.analyze.rewritten import check_operators
from edgewright.formats.onnx.typing_process import read_typed
from edgewright.limits import ResourceBudget
from edgewright.runtimes.dry_run import REWRITING, RewriteRequest, rewrite_here
from edgewright.runtimes.litert.dry_run import plan_file
from edgewright.runtimes.support import (
    CheckedOperator,
    SupportRule,
    SupportTable,
    UnitTable,
    check_compile,
    check_unit,
    matches,
    read_table,
)
from edgewright.runtimes.table import TABLE
from tests.models.onnx_files import node, value, weights, write_onnx
from tests.runtimes.support.bases import Probe
from tests.runtimes.support.models import build
from tests.runtimes.support.probes import fewer_probes, probes
from tests.runtimes.support.trial import left_by_delegate, shapes_of, try_probes

RUNTIMES = ("onnxruntime", "litert", "ncnn", "mnn", "openvino", "executorch", "coreml")
# Every so-manieth probe: the slow runtimes take up to two seconds for each.
STEPS = {"onnxruntime": 9, "openvino": 25, "ncnn": 80, "mnn": 80, "executorch": 300, "coreml": 300}
NEEDS = {name: TABLE[name].needs + TABLE[name].compile_needs for name in RUNTIMES}


def table_of(runtime: str) -> SupportTable:
    table = read_table(runtime)
    assert table is not None
    return table


def as_subject(probe: Probe) -> CheckedOperator:
    """A probe as the rules look at it."""
    given = list(probe.inputs)
    return CheckedOperator(
        name="node",
        op=probe.op,
        domain="",
        attributes=dict(probe.attributes),
        dtypes=tuple(value.dtype if value else "" for value in given),
        shapes=tuple(value.shape if value else () for value in given),
        constant=tuple(value is None or value.is_constant() for value in given),
    )


def comparable(runtime: str) -> list[Probe]:
    """Probes that a table speaks of: quantized ones are several operators, and opsets are the model's."""
    chosen = probes() if runtime in ("onnxruntime", "openvino") else fewer_probes()
    return [probe for probe in chosen if probe.change[:1] not in (("quantized",), ("opset",), ("after",))]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_rule_has_a_source(runtime: str) -> None:
    table = table_of(runtime)
    assert table.schema == "edgewright.support/1"
    assert table.runtime == runtime
    assert table.source.startswith("measured with ")
    assert table.versions
    assert table.units
    assert all(unit.source for unit in table.units)
    assert len({unit.backend for unit in table.units}) == len(table.units)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_operators_are_those_of_onnx(runtime: str) -> None:
    known = {schema.name for schema in onnx.defs.get_all_schemas_with_history() if schema.domain == ""}
    table = table_of(runtime)
    assert set(table.operators).isdisjoint(table.refused)
    foreign = {op for op in table.operators if "::" in op}
    assert {*table.operators, *table.refused} - foreign <= known
    assert all(table.operators[op].source for op in foreign)
    for unit in table.units:
        assert set(unit.rules) <= {*(unit.operators or ()), *unit.rules}
        assert unit.operators is None or len(set(unit.operators)) == len(unit.operators)


def test_the_vocabularies_of_the_units() -> None:
    from edgewright.formats.tflite.schema import OPERATORS

    for unit in table_of("litert").units:
        assert {*(unit.operators or ()), *unit.rules} <= set(OPERATORS)


def claim(table: SupportTable, probe: Probe, path: Path) -> str:
    """Why the probe is not supported: by the table, of the graph that the runtime's converter gets."""
    if table.runtime not in REWRITING:
        verdict = check_compile(table, as_subject(probe))
        return verdict.reason if verdict else ""
    path.write_bytes(build(probe).SerializeToString())
    request = RewriteRequest(runtimes=(table.runtime,), precision="fp32", shapes=shapes_of(probe))
    graph = read_typed(path, {})
    source = link_operators([make_item(graph, node) for node in graph.computing()])
    refused, besides = check_operators(table, source, rewrite_here(path, request, ResourceBudget())[table.runtime])
    return "; ".join([*(why.reason for why in refused.values()), *(one.reason for one in besides)])


@pytest.mark.parametrize("runtime", list(STEPS))
def test_a_table_is_what_the_installed_runtime_accepts(runtime: str, tmp_path: Path) -> None:
    for package in NEEDS[runtime]:
        pytest.importorskip(package, reason=f"{runtime} is not installed")
    table = table_of(runtime)
    sample = comparable(runtime)[3 :: STEPS[runtime]]
    outcomes = try_probes(runtime, [probe.name for probe in sample], 90)
    claims = {probe.name: claim(table, probe, tmp_path / "probe.onnx") for probe in sample}
    wrong = {
        name: (outcomes[name].why or "accepted", reason or "supported")
        for name, reason in claims.items()
        if outcomes[name].ok != (reason == "")
    }
    assert wrong == {}
    assert len(sample) >= 2


def test_the_dry_run_is_what_the_writer_does(tmp_path: Path) -> None:
    for package in NEEDS["litert"]:
        pytest.importorskip(package, reason="litert is not installed")
    sample = comparable("litert")[2::45]
    outcomes = try_probes("litert", [probe.name for probe in sample], 90)
    for probe in sample:
        path = tmp_path / "probe.onnx"
        path.write_bytes(build(probe).SerializeToString())
        run = plan_file(path, shapes_of(probe))
        outcome = outcomes[probe.name]
        assert outcome.ok == (not run.failure and not run.refused), (probe.name, outcome.why, run.failure, run.refused)
        if outcome.ok:
            assert [one.op for one in run.operators] == [text.split()[0] for text in outcome.made]


def test_xnnpack_takes_what_its_table_says() -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    unit = next(unit for unit in table_of("litert").units if unit.backend == "XNNPACK")
    bare = [probe.name for probe in probes() if not probe.change][::9]
    names = [*bare, "Conv quantized int8", "Add quantized int8"]
    tried = try_probes("litert", names, 90)
    checked = 0
    for outcome in tried.values():
        for text in outcome.made:
            if text in outcome.left:
                continue
            op, dtype, rank = text.split()
            checked += 1
            assert check_unit(unit, plain(op, dtype, (1,) * int(rank))) is None, text
    assert checked > 20


@pytest.mark.parametrize("count", [5, 6])
def test_the_inputs_of_a_concatenation_in_xnnpack(tmp_path: Path, count: int) -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    from ai_edge_litert.interpreter import Interpreter

    from edgewright.formats.tflite.typed import read_tflite_graph
    from edgewright.runtimes.litert.writer import convert_onnx

    names = [f"x{i}" for i in range(count)]
    path = write_onnx(
        tmp_path / "m.onnx",
        [node("Concat", names, ["y"], "join", axis=1)],
        [value(name, [1, 4]) for name in names],
        [value("y", [1, 4 * count])],
    )
    made = tmp_path / "m.tflite"
    made.write_bytes(convert_onnx(path, check=False).data)
    interpreter = Interpreter(str(made))
    interpreter.allocate_tensors()
    left = left_by_delegate(interpreter._get_ops_details(), ["CONCATENATION"])
    graph = read_tflite_graph(made)
    unit = next(unit for unit in table_of("litert").units if unit.backend == "XNNPACK")
    assert (check_unit(unit, make_item(graph, graph.nodes[0]).subject) is None) == (not left) == (count <= 5)


@pytest.mark.parametrize(("hidden", "computed"), [(32, False), (512, True)])
def test_a_computed_bias_in_xnnpack(tmp_path: Path, hidden: int, computed: bool) -> None:
    """The writer's products of a recurrent network: of many large ones the bias is the step's input."""
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    from ai_edge_litert.interpreter import Interpreter

    from edgewright.runtimes.litert.writer import convert_onnx

    path = write_onnx(
        tmp_path / "m.onnx",
        [node("RNN", ["x", "w", "r"], ["", "y"], "cell", hidden_size=hidden)],
        [value("x", [8, 1, 4])],
        [value("y", [1, 1, hidden])],
        [weights("w", 1, hidden, 4), weights("r", 1, hidden, hidden, seed=1)],
    )
    interpreter = Interpreter(model_content=convert_onnx(path, check="none").data)
    interpreter.allocate_tensors()
    ran = [detail["op_name"] for detail in interpreter._get_ops_details()]
    unit = next(unit for unit in table_of("litert").units if unit.backend == "XNNPACK")
    items = [make_planned_item(place, one) for place, one in enumerate(plan_file(path, {"x": (8, 1, 4)}).operators)]
    taken = [check_unit(unit, item.subject) is None for item in items]
    refused = [item.subject.op for item, good in zip(items, taken, strict=True) if not good]
    assert ("FULLY_CONNECTED" in refused) == computed
    assert count_partitions(link_operators(items), taken) == ran.count("DELEGATE")


# Rules


def plain(
    op: str, dtype: str = "float32", shape: Sequence[int | str] = (1, 8, 6, 5), **more: object
) -> CheckedOperator:
    return CheckedOperator(
        name="n", op=op, domain="", attributes=dict(more), dtypes=(dtype,), shapes=(tuple(shape),), constant=(False,)
    )


def make_table(rule: SupportRule) -> SupportTable:
    return SupportTable(schema="", runtime="r", versions={}, source="s", reads=("onnx",), operators={"Op": rule})


@pytest.mark.parametrize(
    ("rule", "subject", "kind"),
    [
        (SupportRule(), plain("Op"), None),
        (SupportRule(), plain("Other"), "operator"),
        (SupportRule(dtypes=("float32",)), plain("Op", "int64"), "dtype"),
        (SupportRule(dtypes=("float32",)), plain("Op", ""), None),
        (SupportRule(ranks=(2, 3)), plain("Op"), "rank"),
        (SupportRule(ranks=(4,)), plain("Op"), None),
        (SupportRule(constants=(0,)), plain("Op"), "constant"),
        (SupportRule(constants=(7,)), plain("Op"), None),
        (SupportRule(refuse=({"mode": "wrap"},)), plain("Op", mode="wrap"), "attribute"),
        (SupportRule(refuse=({"mode": "wrap"},)), plain("Op", mode="edge"), None),
        (SupportRule(refuse=({"mode": "wrap"},)), plain("Op"), None),
        (SupportRule(refuse=({"mode": "a", "p": 1},)), plain("Op", mode="a", p=2), None),
        (SupportRule(need=({"p": 1},)), plain("Op", p=2), "attribute"),
        (SupportRule(need=({"p": 1}, {"p": 2})), plain("Op", p=2), None),
    ],
)
def test_what_a_rule_forbids(rule: SupportRule, subject: CheckedOperator, kind: str | None) -> None:
    verdict = check_compile(make_table(rule), subject)
    assert (verdict.kind if verdict else None) == kind
    if verdict:
        assert verdict.reason
        assert verdict.source == "s"


@pytest.mark.parametrize(
    ("value", "wanted", "forbidden"),
    [
        ([2, 2], {"above": 1}, True),
        ([1, 1], {"above": 1}, False),
        ([0, 1, 2, 1], {"asymmetric": True}, True),
        ([1, 1, 1, 1], {"asymmetric": True}, False),
        (0.5, {"not": 1.0}, True),
        (1.0, {"not": 1.0}, False),
        (None, {"above": 1}, False),
    ],
)
def test_conditions(value: object, wanted: object, forbidden: bool) -> None:
    assert matches(value, wanted) is forbidden


def test_a_foreign_domain_is_rejected_by_its_name() -> None:
    subject = CheckedOperator(name="n", op="Op", domain="my.own", attributes={}, dtypes=(), shapes=(), constant=())
    verdict = check_compile(make_table(SupportRule()), subject)
    assert verdict is not None
    assert "my.own" in verdict.reason


@pytest.mark.parametrize(
    ("more", "subject", "kind"),
    [
        ({"static": True}, plain("Op", shape=(1, "n")), "dynamic shape"),
        ({"static": True}, plain("Op"), None),
        ({"quantized": True}, plain("Op"), "dtype"),
        ({"quantized": True}, plain("Op", "int8"), "dtype"),
        ({"most_axes": 3}, plain("Op"), "rank"),
        ({"operators": ("Other",)}, plain("Op"), "operator"),
        ({"refused": {"Op": "it has none"}}, plain("Op"), "operator"),
        ({"dtypes": ("float16",)}, plain("Op"), "dtype"),
    ],
)
def test_what_a_unit_forbids(more: dict[str, object], subject: CheckedOperator, kind: str | None) -> None:
    unit = UnitTable(unit="NPU", backend="b", source="s", **more)  # type: ignore[arg-type]  # the fields of the case
    verdict = check_unit(unit, subject)
    assert (verdict.kind if verdict else None) == kind
