"""What the layers of a run compute: kinds, shapes and multiply-accumulates from stored files with their nodes."""

import msgspec

from edgewright.flows.demo.flow import get_digits_folder
from edgewright.flows.layer_costs import NodeCost, describe_layers, group_kinds, load_node_costs
from edgewright.formats.files import read_model
from edgewright.schema.run import Layer, Run, RunOutput
from edgewright.store.store import Store
from tests.web.records import make_model, make_run

DIGITS = get_digits_folder() / "digits.onnx"
# Name, time and source nodes of four layers, the last one without any.
LAYERS = (
    ("CONV_2D#0", 1.0, ("stem/conv/Conv", "stem/relu/Relu")),
    ("DEPTHWISE_CONV_2D#5", 6.0, ("down/depthwise/conv/Conv",)),
    ("down/pointwise/conv/Conv", 2.0, ("down/pointwise/conv/Conv",)),
    ("FULLY_CONNECTED#9", 0.5, ("classify/Gemm",)),
    ("reorder", 0.5, ()),
)


def make_layers() -> tuple[Layer, ...]:
    return tuple(
        Layer(
            position=place, name=name, op="Reorder" if not nodes else "Convolution (NHWC)", source_nodes=nodes,
            unit="CPU", backend="b", evidence="measured", start_us=None, median_us=us, p90_us=us,
        )
        for place, (name, us, nodes) in enumerate(LAYERS)
    )  # fmt: skip


def record(store: Store) -> Run:
    """Store the digits, an artifact made from it, and a benchmark of the artifact."""
    source = read_model(DIGITS)
    first = msgspec.structs.replace(make_run(samples=0, layers=0), model=source, series=())
    output = store.put_file(first.id, DIGITS, role="model", model_id=source.sha256)
    made = make_model("digits.tflite", "d")
    artifact = RunOutput(role="artifact:digits.tflite", sha256="d" * 64, bytes=9, model_id=made.sha256)
    compiled = msgspec.structs.replace(make_run(samples=0, layers=0), kind="compile", model=source, series=())
    measured = msgspec.structs.replace(make_run(layers=0), model=made, layers=make_layers())
    first = msgspec.structs.replace(first, outputs=(output,))
    store.record([first, msgspec.structs.replace(compiled, outputs=(artifact,)), measured])
    return measured


def test_layers_of_an_artifact_have_the_costs_of_its_source(store: Store) -> None:
    run = record(store)
    rows = describe_layers(run.layers, load_node_costs(run, store))
    assert [(row.kind, row.shape, row.macs) for row in rows] == [
        ("3×3 conv", (1, 32, 8, 8), 18_432),
        ("depthwise 3×3", (1, 32, 4, 4), 4_608),
        ("1×1 conv", (1, 64, 4, 4), 32_768),
        ("matmul", (1, 10), 640),
        ("Reorder", (), None),
    ]
    assert [row.gmacs_per_s for row in rows] == [18.432, 0.768, 16.384, 1.28, None]
    # a third of the median rate, 8.832: the depthwise convolution has 60 % of the time; the product is below it too
    assert [row.is_slow for row in rows] == [False, True, False, True, False]
    kinds = group_kinds(rows, 2)
    assert [(one.kind, round(one.share, 2)) for one in kinds] == [
        ("depthwise 3×3", 0.6), ("1×1 conv", 0.2), ("other", 0.2),
    ]  # fmt: skip


def test_without_a_stored_file_layers_have_their_operators(store: Store) -> None:
    run = msgspec.structs.replace(make_run(layers=0), layers=make_layers())
    store.record([run])
    rows = describe_layers(run.layers, load_node_costs(run, store))
    assert {row.kind for row in rows} == {"Convolution", "Reorder"}
    assert all(row.macs is None and not row.is_slow for row in rows)
    assert describe_layers((), {}) == []


def test_a_node_of_several_layers_counts_once() -> None:
    layers = make_layers()[:2]
    shared = tuple(msgspec.structs.replace(layer, source_nodes=("n",)) for layer in layers)
    rows = describe_layers(shared, {"n": NodeCost(kind="matmul", shape=(1,), macs=100)})
    assert [row.macs for row in rows] == [None, 100]
