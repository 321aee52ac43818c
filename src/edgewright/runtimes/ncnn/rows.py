"""Conversion of ncnn's layer times to layer rows joined to the source graph; runs in the parent."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from edgewright.runtimes.inference import choose_inference
from edgewright.runtimes.ncnn.naming import join_rows
from edgewright.runtimes.ncnn.param import ParamRow
from edgewright.runtimes.ncnn.profiler import TRACE, NcnnTrace, ProfiledLayer
from edgewright.schema.model import GraphNode
from edgewright.schema.ranks import compute_median_bounds
from edgewright.schema.run import Layer, LayerReport

VIA = "extractor"


def report_layers(folder: Path, graph: Sequence[GraphNode]) -> LayerReport:
    """Read `trace.json` of the profiling pass."""
    trace = msgspec.json.decode((folder / TRACE).read_bytes(), type=NcnnTrace)
    rows = [ParamRow(layer.op, layer.name, layer.bottoms, layer.tops, {}) for layer in trace.layers]
    sources = join_rows(rows, graph)
    layers = tuple(_as_layer(place, *pair) for place, pair in enumerate(zip(trace.layers, sources, strict=True)))
    return LayerReport(
        layers=layers,
        via=VIA,
        whole_us=float(np.median(trace.runs_us)) if trace.runs_us else 0.0,
        partitions=1 + sum(a.backend != b.backend for a, b in itertools.pairwise(layers)),
        asked=trace.asked,
        inference=choose_inference([one.starts_us for one in trace.layers], [one.times_us for one in trace.layers]),
    )


def _as_layer(place: int, ran: ProfiledLayer, sources: tuple[str, ...]) -> Layer:
    """Return a report row. Layers on the CPU are observed; of Vulkan only ncnn's plan is known."""
    low, high = compute_median_bounds(ran.times_us)
    return Layer(
        position=place,
        name=ran.name,
        op=ran.op,
        source_nodes=sources,
        unit="GPU" if ran.vulkan else "CPU",
        backend="Vulkan" if ran.vulkan else "ncnn",
        evidence="assigned" if ran.vulkan else "measured",
        start_us=float(np.median(ran.starts_us)) if ran.starts_us else None,
        median_us=float(np.median(ran.times_us)) if ran.times_us else 0.0,
        p90_us=float(np.percentile(ran.times_us, 90)) if ran.times_us else 0.0,
        memory_bytes=ran.bytes or None,
        low_us=low,
        high_us=high,
    )
