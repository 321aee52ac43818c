"""Results of `prune` and `distill`."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from edgewright.api.results.base import Result, Table
from edgewright.flows.distill.report import DistillReport
from edgewright.flows.experiment.report import NetworkReport
from edgewright.flows.prune.report import PruneReport
from edgewright.schema.units import show_bytes

HEADERS = (
    "network", "metric", "interval", "mean of seeds", "size", "packed", "parameters", "zeros", "MACs", "latency",
)  # fmt: skip
DROPPABLE = ("mean of seeds", "interval", "packed", "parameters")


class TrainedModel(NamedTuple):
    """The ONNX file of a trained network; `path` is None if a gate rejected it."""

    path: str | None
    runtime: str
    reason: str
    bytes: int | None
    precision: str = "fp32"


class ExperimentResult(Result):
    """A network that was made smaller, with its source and the control."""

    report: PruneReport | DistillReport

    @property
    def rows(self) -> Sequence[NetworkReport]:
        return self.report.networks

    @property
    def artifacts(self) -> Sequence[TrainedModel]:
        path = self.report.model
        size = Path(path).stat().st_size if path and Path(path).is_file() else None
        return [TrainedModel(path, "onnxruntime", self.report.reason, size)]

    @property
    def verdicts(self) -> tuple[str, ...]:
        """Return `ok`, or `refused` by a gate."""
        return (self.report.state,)

    @property
    def answer(self) -> str:
        """Return what changed: the metric, the size and the speed; and the gate."""
        return self.report.answer

    def table(self) -> Table:
        return Table(HEADERS, list(map(_make_row, self.rows)), DROPPABLE)

    def _draw(self) -> Sequence[str]:
        """Draw the training curves, the validation metric first."""
        from edgewright.web.pages.training import draw_all_curves

        return [drawing for _, drawing in draw_all_curves(self.report)]

    def _render(self) -> str:
        from edgewright.web.pages.training import render_training

        return render_training(self.report)


class PruneResult(ExperimentResult):
    """A pruned network, compared with its source and with the control."""

    report: PruneReport


class DistillResult(ExperimentResult):
    """A student, compared with its teacher and with the control."""

    report: DistillReport


def _make_row(network: NetworkReport) -> tuple[str, ...]:
    metric = network.metric
    return (
        network.name,
        f"{metric.name} {metric.value:.4f}" if metric else "–",
        f"{metric.low:.4f}–{metric.high:.4f}" if metric else "–",
        f"{network.mean:.4f}" if network.mean is not None and len(network.seeds) > 1 else "–",
        show_bytes(network.bytes),
        show_bytes(network.packed_bytes),
        f"{network.parameters:,}" if network.parameters is not None else "–",
        f"{network.zeros / network.parameters:.0%}" if network.zeros and network.parameters else "–",
        f"{network.macs / 1e6:.2f} M" if network.macs else "–",
        f"{network.latency_us:.0f} µs" if network.latency_us else "–",
    )
