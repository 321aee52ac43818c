"""Page with the graph of a run."""

import hashlib

import onnx
from msgspec.structs import replace

from edgewright.store.store import Store
from tests.web.conftest import Pages
from tests.web.records import Record, make_layers, make_model, make_run


def test_graph_of_a_run_is_colored_by_time_and_linked_with_its_layers(pages: Pages, store: Store) -> None:
    first = onnx.helper.make_node("Relu", ["x"], ["m"], name="first")
    nodes = [first, onnx.helper.make_node("Neg", ["m"], ["y"], name="last")]
    ports = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [4]) for name in "xy"]
    graph = onnx.helper.make_graph(nodes, "g", ports[:1], ports[1:])
    content = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)]).SerializeToString()
    model_id = hashlib.sha256(content).hexdigest()
    layers = tuple(
        replace(layer, source_nodes=(name,), median_us=us)
        for layer, name, us in zip(make_layers(2), ("first", "last"), (30.0, 10.0), strict=True)
    )
    model = replace(make_model(), sha256=model_id, bytes=len(content))
    run = replace(make_run(model=model), layers=layers)
    run = replace(run, outputs=(store.put_bytes(run.id, content, role="model", model_id=model_id),))
    store.record([run])
    found = pages.get(f"/runs/{run.id}/graph.json").json()
    assert found["answer"] == "Share of the time of an inference: most in first 75.0%, last 25.0%."
    page, part = pages.get(f"/runs/{run.id}/graph").text, pages.get(f"/runs/{run.id}/graph", hx_request="true").text
    assert f'href="/runs/{run.id}#layer-0" data-layer="0"' in page
    assert 'href="#layer-0"' in part
    assert "<html" not in part
    assert "Show the graph" in pages.get(f"/runs/{run.id}").text


def test_a_run_without_a_stored_file_has_no_graph(pages: Pages, record: Record) -> None:
    assert pages.get(f"/runs/{record.third.id}/graph").status == 400
