"""Layer rows from stored traces: three models on real hardware, and what a trace may hold besides."""

from collections.abc import Sequence

import msgspec
import pytest

from edgewright.runtimes import litert
from edgewright.runtimes.litert.profiling.rows import grouped_quantile, nearest_quantile, report_layers
from edgewright.runtimes.litert.profiling.trace import CutOut, LiteRtEvent, LiteRtTrace, ProfiledRun, read_trace
from edgewright.schema.model import GraphNode
from edgewright.schema.run import LayerReport
from tests.paths import ROOT

GOLDEN = ROOT / "tests" / "fixtures/litert"
TRACES = ("resnet8_fp32", "resnet8_int8", "resnet8_int8_builtin", "mobilenet_v2_uint8")


def golden_graph(name: str) -> tuple[GraphNode, ...]:
    return msgspec.json.decode((GOLDEN / name / "graph.json").read_bytes(), type=tuple[GraphNode, ...])


def golden_report(name: str) -> LayerReport:
    return litert.layers(GOLDEN / name, golden_graph(name))


def sum_us(report: LayerReport) -> float:
    return sum(layer.median_us for layer in report.layers)


@pytest.mark.parametrize("name", TRACES)
def test_rows_are_in_order_and_their_sum_stays_within_the_whole(name: str) -> None:
    report = golden_report(name)
    assert [layer.position for layer in report.layers] == list(range(len(report.layers)))
    assert 0.7 * report.whole_us < sum_us(report) < report.whole_us
    assert all(layer.median_us <= layer.p90_us for layer in report.layers)
    assert all(layer.evidence == "measured" and layer.unit == "CPU" for layer in report.layers)
    assert report.via == "c-api"


@pytest.mark.parametrize("name", TRACES)
def test_every_operator_of_the_file_stands_behind_a_row(name: str) -> None:
    report = golden_report(name)
    assert all(layer.source_nodes for layer in report.layers)
    assert {source for layer in report.layers for source in layer.source_nodes} == {n.name for n in golden_graph(name)}


def test_a_float_model_is_one_partition() -> None:
    report = golden_report("resnet8_fp32")
    assert (len(report.layers), report.partitions, report.fallbacks()) == (20, 1, ())
    rows = {layer.name: layer for layer in report.layers}
    assert rows["ADD#3/Clamp"].source_nodes == ("ADD#3",)
    assert rows["FULLY_CONNECTED#14"].op == "Fully Connected (NC, F32) GEMM"
    assert rows["FULLY_CONNECTED#14/Static Reshape"].source_nodes == ("FULLY_CONNECTED#14",)
    assert {layer.backend for layer in report.layers} == {"XNNPACK"}


def test_int8_pooling_and_softmax_fall_back() -> None:
    report = golden_report("resnet8_int8")
    assert report.partitions == 4
    assert [layer.name for layer in report.fallbacks()] == ["AVERAGE_POOL_2D#12", "SOFTMAX#15"]
    assert [layer.backend for layer in report.fallbacks()] == ["builtin", "builtin"]
    assert report.asked == "XNNPACK"


def test_without_the_delegate_nothing_is_a_fallback() -> None:
    report = golden_report("resnet8_int8_builtin")
    assert (report.asked, report.partitions, report.fallbacks()) == ("builtin", 1, ())
    assert [layer.name for layer in report.layers] == [n.name for n in golden_graph("resnet8_int8_builtin")]


def test_pointwise_convolutions_that_run_as_matrix_products_are_joined() -> None:
    report = golden_report("mobilenet_v2_uint8")
    assert (len(report.layers), report.partitions, len(report.fallbacks())) == (68, 3, 3)
    kinds = {layer.name: layer.op.split(" (")[0] for layer in report.layers if layer.name.startswith("CONV_2D")}
    assert kinds.pop("CONV_2D#1") == "Convolution"
    assert list(kinds.values()) == ["Fully Connected"] * 35


def test_another_graph_is_not_joined_to_the_rows() -> None:
    report = litert.layers(GOLDEN / "resnet8_fp32", golden_graph("mobilenet_v2_uint8"))
    assert len(report.layers) == 20
    assert not any(layer.source_nodes for layer in report.layers)
    assert len({layer.name for layer in report.layers}) == 20


def test_starts_follow_each_other() -> None:
    starts = [layer.start_us for layer in golden_report("resnet8_fp32").layers]
    assert starts == sorted(starts, key=lambda start: start or 0.0)
    assert starts[0] is not None


# Made traces

TAGS = ("Invoke", "ADD", "Add (ND)", "DELEGATE", "WHILE")


def event(tag: str, kind: int, elapsed_us: int, place: int = 0, *, subgraph: int = 0, start_us: int = 0) -> LiteRtEvent:
    return LiteRtEvent(
        tag=TAGS.index(tag),
        kind=kind,
        start_us=start_us,
        elapsed_us=elapsed_us,
        metadata1=place,
        metadata2=subgraph,
        source=0,
    )


def made_trace(
    *runs: Sequence[LiteRtEvent], operators: tuple[str, ...] = ("ADD",), delegate: str = "xnnpack"
) -> LiteRtTrace:
    return LiteRtTrace(
        via="c-api",
        version="0",
        delegate=delegate,
        threads=1,
        operators=operators,
        tags=TAGS,
        runs=tuple(ProfiledRun(whole_ns=9000, events=tuple(events)) for events in runs),
    )


def test_the_event_around_a_partition_is_not_counted_twice() -> None:
    trace = made_trace([event("DELEGATE", 2, 50, place=1), event("Add (ND)", 4, 40)])
    report = report_layers(trace, ())
    assert [layer.op for layer in report.layers] == ["Add (ND)"]


def test_a_partition_that_reports_nothing_of_its_inside_is_one_row() -> None:
    report = report_layers(made_trace([event("DELEGATE", 2, 50, place=1)]), ())
    assert [(layer.op, layer.backend, layer.source_nodes) for layer in report.layers] == [("DELEGATE", "XNNPACK", ())]


def test_operators_of_other_subgraphs_are_part_of_the_operator_that_calls_them() -> None:
    inside = [event("ADD", 2, 20, subgraph=1), event("Add (ND)", 8, 10, subgraph=1)]
    trace = made_trace([event("WHILE", 2, 50), *inside], operators=("WHILE",))
    assert [layer.op for layer in report_layers(trace, ()).layers] == ["WHILE"]


def test_runs_that_branched_otherwise_are_left_out() -> None:
    usual, other = [event("ADD", 2, 5)], [event("ADD", 2, 500), event("Add (ND)", 8, 1)]
    report = report_layers(made_trace(usual, usual, other), ())
    assert len(report.layers) == 1
    assert report.layers[0].median_us < 10


def test_the_whole_is_our_own_clock_where_the_trace_reports_none() -> None:
    assert report_layers(made_trace([event("ADD", 2, 5)]), ()).whole_us == 9.0
    reported = made_trace([event("Invoke", 1, 7), event("ADD", 2, 5)])
    assert report_layers(reported, ()).whole_us == 7.5


def test_partitions_that_stand_side_by_side_are_distinguished() -> None:
    trace = made_trace([event("Add (ND)", 8, 1, 0), event("Add (ND)", 8, 1, 1), event("Add (ND)", 8, 1, 0)])
    assert report_layers(trace, ()).partitions == 2


def test_cut_outs_are_marked_as_such() -> None:
    trace = LiteRtTrace(
        via="cut-out",
        reason="the C API's process was ended by SIGSEGV",
        version="0",
        delegate="xnnpack",
        threads=1,
        operators=("ADD", "WHILE", "SOFTMAX"),
        runs=(ProfiledRun(whole_ns=9000, events=()),),
        cut_outs=(
            CutOut(position=0, delegated=True, times_ns=(1000, 3000, 2000)),
            CutOut(position=2, delegated=False, times_ns=(4000,)),
        ),
    )
    report = report_layers(trace, ())
    assert report.via == "cut-out"
    assert [(x.name, x.median_us, x.p90_us, x.start_us) for x in report.layers] == [
        ("ADD#0", 2.0, 3.0, None),
        ("SOFTMAX#2", 4.0, 4.0, None),
    ]
    assert [layer.evidence for layer in report.layers] == ["assigned", "assigned"]
    assert [layer.name for layer in report.fallbacks()] == ["SOFTMAX#2"]
    assert (report.partitions, report.whole_us) == (2, 9.0)


# Quantiles


def test_grouped_quantiles_take_a_value_for_its_whole_microsecond() -> None:
    assert grouped_quantile([3], 0.5) == 3.5
    assert grouped_quantile([0, 0, 0, 1], 0.5) == pytest.approx(2 / 3)
    assert grouped_quantile([0, 0, 0, 1], 1.0) == 2.0
    assert grouped_quantile([3], 0.5, width=0.2) == pytest.approx(3.1)


def test_rounding_up_stays_within_what_the_inference_has_time_for() -> None:
    """A hundred operators of far less than a microsecond cannot all be half of one."""
    events = [event("Invoke", 1, 20), *(event("Add (ND)", 8, 0, place) for place in range(100))]
    assert sum_us(report_layers(made_trace(events), ())) == pytest.approx(20.0)


def test_nearest_quantile_is_one_of_the_values() -> None:
    assert nearest_quantile([5.0, 1.0, 3.0], 0.5) == 3.0
    assert nearest_quantile([float(i) for i in range(1, 11)], 0.9) == 9.0


def test_stored_traces_are_small() -> None:
    assert all(path.stat().st_size < 60_000 for path in GOLDEN.rglob("*.json"))
    assert {path.parent.name for path in GOLDEN.rglob("trace.json")} == set(TRACES)
    assert all(len(read_trace(GOLDEN / name).runs) == 10 for name in TRACES)
