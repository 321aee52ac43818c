"""Conversion of OpenVINO's counters to layer rows joined to the source graph; runs in the parent."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from edgewright.runtimes.openvino.join import find_source_nodes
from edgewright.runtimes.openvino.profiler import RAN, ExecutedOperator, OpenvinoProfile
from edgewright.schema.model import GraphNode
from edgewright.schema.ranks import compute_median_bounds
from edgewright.schema.run import Layer, LayerReport
from edgewright.schema.vocabulary import Unit

UNITS: dict[str, Unit] = {"CPU": "CPU", "GPU": "GPU", "NPU": "NPU"}


def report_layers(folder: Path, graph: Sequence[GraphNode]) -> LayerReport:
    """Read `ran.json` of the profiling pass. Start times are not reported, so `start_us` is None."""
    ran = msgspec.json.decode((folder / RAN).read_bytes(), type=OpenvinoProfile)
    sources = find_source_nodes(ran.executed, ran.operators, graph)
    rows = [
        _layer_row(position, one, nodes, ran.device)
        for position, (one, nodes) in enumerate(zip(ran.executed, sources, strict=True))
    ]
    return LayerReport(
        layers=tuple(rows),
        via="profiler",
        whole_us=float(np.median(ran.wholes_us)) if ran.wholes_us else 0.0,
        partitions=1 if rows else 0,
        asked=_name_backend(ran.asked),
    )


def _layer_row(position: int, one: ExecutedOperator, nodes: tuple[str, ...], device: str) -> Layer:
    samples = one.samples_us or (0.0,)
    low, high = compute_median_bounds(samples)
    return Layer(
        position=position,
        name=one.name,
        op=_name_operator(one),
        source_nodes=nodes,
        unit=UNITS.get(device.split(".")[0], "UNKNOWN"),
        backend=_name_backend(device),
        evidence="measured",
        start_us=None,
        median_us=float(np.median(samples)),
        p90_us=float(np.percentile(samples, 90)),
        low_us=low,
        high_us=high,
    )


def _name_operator(one: ExecutedOperator) -> str:
    """Return the operator with its kernel and precision, if OpenVINO reports one: `Convolution
    (brgconv_avx512_f32)`.
    """
    unknown = not one.primitive or one.primitive.startswith(("unknown", "undef"))
    return one.kind if unknown else f"{one.kind} ({one.primitive})"


def _name_backend(device: str) -> str:
    return f"OpenVINO {device.split('.')[0]}"
