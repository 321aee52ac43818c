"""Exports of a run's layers for Perfetto and Model Explorer.

Source: Model Explorer's custom node data (0.1.34): top-level `results` apply to the open graph, with a value by the id
of a node or by the name of one of its output tensors. The TFLite adapter uses operator numbers as ids, the ONNX adapter
(0.4.2) uses node names.
"""

import re
from typing import Any

from edgewright.adaptive.exporters import TraceSpan, make_trace
from edgewright.bench.summary import read_inference
from edgewright.report.charts.timeline import UNITS, make_timeline
from edgewright.schema.run import Layer, Run

# from low to high, readable on white and on black
GRADIENT = ({"stop": 0, "bgColor": "#fff7e6"}, {"stop": 0.5, "bgColor": "#f5a623"}, {"stop": 1, "bgColor": "#c0392b"})
NUMBERED_OPERATOR = re.compile(r".*#(\d+)", re.DOTALL)  # an operator of a TFLite file: type and number


def make_chrome_trace(run: Run) -> dict[str, Any]:
    """Return a trace of one inference with a thread per unit. `otherData` says whether start times were measured."""
    timeline = make_timeline(run.layers, read_inference(run))
    layers = {layer.position: layer for layer in run.layers}
    tracks = {unit: position for position, unit in enumerate(UNITS)}
    name = f"{run.model.name if run.model else run.id} in {run.runtime}"
    spans = [
        TraceSpan(
            name=span.name,
            category=span.op,
            thread=tracks.get(span.lane, len(tracks)),
            start_us=span.start_us,
            length_us=span.length_us,
            values=_describe_layer(layers[span.position]),
        )
        for span in timeline.spans
    ]
    estimated = "estimated: the medians of the layers follow each other"
    other = {"run": run.id, "starts": "measured" if timeline.is_real else estimated}
    return make_trace(name, dict(enumerate(UNITS)), spans, other)


def _describe_layer(layer: Layer) -> dict[str, Any]:
    return {
        "op": layer.op,
        "backend": layer.backend,
        "evidence": layer.evidence,
        "source_nodes": list(layer.source_nodes),
    }


def make_node_data(run: Run) -> dict[str, Any]:
    """Return microseconds by source node; the time of a layer is divided equally among its nodes."""
    times: dict[str, float] = {}
    is_tflite = run.model is not None and run.model.format == "tflite"

    def node_id(name: str) -> str:
        position = NUMBERED_OPERATOR.fullmatch(name) if is_tflite else None
        return position[1] if position else name

    for layer in run.layers:
        names = layer.source_nodes or (layer.name,)
        for name in map(node_id, names):
            if layer.median_us == layer.median_us:
                times[name] = times.get(name, 0.0) + layer.median_us / len(names)
    results = {name: {"value": round(value, 6)} for name, value in times.items()}
    return {"name": f"µs in {run.runtime}", "results": results, "gradient": list(GRADIENT)}
