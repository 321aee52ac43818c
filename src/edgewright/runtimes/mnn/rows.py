"""Conversion of MNN's trace to layer rows joined to the source graph; runs in the parent."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from edgewright.runtimes.inference import choose_inference
from edgewright.runtimes.mnn.join import MnnKernel, find_source_nodes
from edgewright.runtimes.mnn.profiler import TRACE, MnnOperatorTimes, MnnTrace
from edgewright.schema.model import GraphNode
from edgewright.schema.ranks import compute_median_bounds
from edgewright.schema.run import Layer, LayerReport
from edgewright.schema.vocabulary import Evidence, Unit

UNITS: dict[str, Unit] = {"CPU": "CPU", "OpenCL": "GPU", "Vulkan": "GPU"}


def report_layers(folder: Path, graph: Sequence[GraphNode]) -> LayerReport:
    """Read `trace.json` of the profiling pass.

    A session on the CPU runs nowhere else, so its unit counts as measured. One on a GPU may silently run an operator on
    the CPU, so its unit counts as assigned.
    """
    trace = msgspec.json.decode((folder / TRACE).read_bytes(), type=MnnTrace)
    sources = find_source_nodes([MnnKernel(ran.name, _kind_of(ran.op)) for ran in trace.ran], trace.operators, graph)
    rows = [layer_row(i, ran, names, trace) for i, (ran, names) in enumerate(zip(trace.ran, sources, strict=True))]
    return LayerReport(
        layers=tuple(rows),
        via="callback",
        whole_us=float(np.median(trace.runs_us)) if trace.runs_us else 0.0,
        partitions=1 if rows else 0,
        asked=trace.asked,
        inference=choose_inference([one.starts_us for one in trace.ran], [one.times_us for one in trace.ran]),
    )


def _kind_of(op: str) -> str:
    """Return the operator in `Convolution [ DT_INT8 ] `, MNN's name of an integer operator."""
    return op.partition(" [")[0]


def layer_row(position: int, ran: MnnOperatorTimes, sources: tuple[str, ...], trace: MnnTrace) -> Layer:
    low, high = compute_median_bounds(ran.times_us)
    evidence: Evidence = "measured" if trace.backend == "CPU" else "assigned"
    return Layer(
        position=position,
        name=ran.name,
        op=ran.op.strip(),
        source_nodes=sources,
        unit=UNITS.get(trace.backend, "UNKNOWN"),
        backend=trace.backend,
        evidence=evidence,
        start_us=float(np.median(ran.starts_us)),
        median_us=float(np.median(ran.times_us)),
        p90_us=float(np.percentile(ran.times_us, 90)),
        low_us=low,
        high_us=high,
    )
