"""Exports for other tools: node data checked with Model Explorer's code (0.1.34)."""

import math
import re

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from edgewright.schema.run import Run
from edgewright.web.pages.traces import make_node_data
from tests.web.records import make_layers, make_model, make_run


class Result(Struct, forbid_unknown_fields=True):
    value: float
    bgColor: str | None = None
    textColor: str | None = None


class Stop(Struct, forbid_unknown_fields=True):
    stop: float
    bgColor: str | None = None
    textColor: str | None = None


class NodeData(Struct, forbid_unknown_fields=True):
    """Of one graph; with `results` at the top it is for the graph that is open, whatever that is called."""

    results: dict[str, Result]
    name: str | None = None
    gradient: list[Stop] = []


def read(run: Run) -> NodeData:
    return msgspec.json.decode(msgspec.json.encode(make_node_data(run)), type=NodeData)


def with_sources(format_: str, *sources: tuple[str, ...]) -> Run:
    model = replace(make_model(f"net.{format_}"), format=format_)
    layers = [replace(one, source_nodes=own, median_us=4.0) for one, own in zip(make_layers(9), sources, strict=False)]
    return replace(make_run(layers=0, model=model), layers=tuple(layers))


def test_node_data_has_the_form_that_the_tool_reads() -> None:
    result = read(make_run(runtime="litert"))
    assert result.name == "µs in litert"
    assert all(math.isfinite(one.value) and one.value >= 0 for one in result.results.values())
    stops = [one.stop for one in result.gradient]
    assert (stops[0], stops[-1], stops) == (0, 1, sorted(stops))  # both ends are required
    assert all(one.bgColor and re.fullmatch("#[0-9a-f]{6}", one.bgColor) for one in result.gradient)


def test_an_operator_of_a_tflite_file_is_found_by_its_place() -> None:
    run = with_sources("tflite", ("CONV_2D#0",), ("ADD#11", "RELU#12"), ("/from/the/source",), ())
    found = {name: one.value for name, one in read(run).results.items()}
    assert found == {"0": 4.0, "11": 2.0, "12": 2.0, "/from/the/source": 4.0, "layer 3": 4.0}


def test_a_node_of_an_onnx_file_is_found_by_its_name() -> None:
    found = read(with_sources("onnx", ("conv",), ("conv", "a#3"))).results
    assert {name: one.value for name, one in found.items()} == {"conv": 6.0, "a#3": 2.0}


def test_what_is_not_known_is_left_out() -> None:
    run = with_sources("onnx", ("a",), ("b",))
    run = replace(run, layers=(replace(run.layers[0], median_us=math.nan), run.layers[1]))
    assert set(read(run).results) == {"b"}
