"""How operators that XNNPACK ran are joined to its graph's; without ExecuTorch."""

from edgewright.runtimes.executorch.align import align_operators, kind_of
from edgewright.runtimes.executorch.description import ExecutorchOperator, Instruction, ProgramDescription
from edgewright.runtimes.executorch.rows import report_layers
from edgewright.runtimes.executorch.trace import ExecutorchEvent, ExecutorchTrace
from edgewright.schema.model import GraphNode


def made(*pairs: tuple[str, str]) -> list[ExecutorchOperator]:
    return [ExecutorchOperator(kind=kind, sources=(source,)) for kind, source in pairs]


def test_details_and_numbers_are_no_part_of_a_kind() -> None:
    assert kind_of("Convolution (NHWC, F32) IGEMM #12") == "convolution"
    assert kind_of("Static Reshape (NC) #1") == "staticreshape"


def test_a_small_convolution_is_a_fully_connected_layer_and_a_change_of_layout_is_nothing_of_the_source() -> None:
    ran = ["Transpose (ND, X32) #1", "Convolution (NHWC, F32) IGEMM #1", "Fully Connected (NC, F32) GEMM #1"]
    reported = align_operators(ran, made(("Conv2d", "a"), ("Conv2d", "b")))
    assert reported == [(), ("a",), ("b",)]


def test_what_was_fused_belongs_to_what_ran_before() -> None:
    ran = ["Convolution (NHWC, F32) IGEMM #1", "Add (ND) #1"]
    reported = align_operators(ran, made(("Conv2d", "conv"), ("Clamp", "relu"), ("Add", "sum"), ("Clamp", "last")))
    assert reported == [("conv", "relu"), ("sum", "last")]


def test_nothing_ran() -> None:
    assert align_operators([], made(("Add", "a"))) == []


def trace(*runs: tuple[ExecutorchEvent, ...], calls: tuple[Instruction, ...] = ()) -> ExecutorchTrace:
    description = ProgramDescription(inputs=("x",), outputs=("y",), calls=calls)
    return ExecutorchTrace(runs_us=tuple(10.0 for _ in runs), runs=runs, description=description)


def event(name: str, instruction: int, delegate: bool, start: float, duration: float) -> ExecutorchEvent:
    return ExecutorchEvent(name=name, instruction=instruction, delegate=delegate, start=start, duration=duration)


CALLS = (
    Instruction(
        delegate="XnnpackBackend",
        operators=(ExecutorchOperator(kind="Add", sources=("a",)), ExecutorchOperator(kind="Add", sources=("b",))),
    ),
    Instruction(delegate="", operators=(ExecutorchOperator(kind="erf.out", sources=("e",)),)),
)
GRAPH = tuple(GraphNode(name=name, op="Add", inputs=(), outputs=(name,)) for name in ("a", "b", "e"))


def one_run(times: float) -> tuple[ExecutorchEvent, ...]:
    return (
        event("Add (ND) #1", 0, True, 100, 1000 * times),
        event("Add (ND) #2", 0, True, 9000, 1000 * times),
        event("erf.out", 1, False, 8000, 4000 * times),
    )


def test_rows_have_medians_units_and_sources() -> None:
    report = report_layers(trace(one_run(1), one_run(2), one_run(9), calls=CALLS), GRAPH)
    assert [layer.median_us for layer in report.layers] == [2.0, 2.0, 8.0]
    assert [layer.start_us for layer in report.layers] == [0.1, 9.0, 9.0]  # never back in time
    assert [layer.source_nodes for layer in report.layers] == [("a",), ("b",), ("e",)]
    assert [layer.backend for layer in report.layers] == ["XNNPACK", "XNNPACK", "portable"]
    assert report.partitions == 2
    assert report.reason == ""


def test_a_partition_that_reports_nothing_of_its_inside_is_one_row_with_all_sources() -> None:
    run = (event("partition", 0, True, 0, 5000), event("erf.out", 1, False, 6000, 1000))
    report = report_layers(trace(run, calls=CALLS), GRAPH)
    assert [layer.source_nodes for layer in report.layers] == [("a", "b"), ("e",)]
    assert "one row" in report.reason


def test_an_instruction_that_the_program_does_not_describe_claims_no_source() -> None:
    view = event("primitive", 5, False, 0, 10)
    report = report_layers(trace((view, *one_run(1)), calls=CALLS), GRAPH)
    assert [layer.source_nodes for layer in report.layers] == [(), ("a",), ("b",), ("e",)]
