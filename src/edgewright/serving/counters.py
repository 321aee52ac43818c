"""Counters of a server: requests by model and status, times in the queue and in the model."""

from collections import Counter

from edgewright.adaptive.exporters import Histogram, MetricFamily, render_prometheus

TIMES = ("queue", "inference")


class ServerCounters:
    """Requests by model and status, and histograms of the time in the queue and in the model. Its size is fixed."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, int]] = Counter()
        self._times: dict[tuple[str, str], Histogram] = {}

    def count(self, model: str, status: int) -> None:
        self._requests[model, status] += 1

    def time(self, model: str, what: str, seconds: float) -> None:
        """Add a time of the queue or of the inference."""
        self._times.setdefault((model, what), Histogram()).add(seconds)

    def render(self, waiting: dict[str, int]) -> str:
        """Return the text of all counters for Prometheus; `waiting` is the length of each model's queue."""
        requests = [
            ({"model": model, "status": str(status)}, number)
            for (model, status), number in sorted(self._requests.items())
        ]
        queues = [({"model": model}, number) for model, number in waiting.items()]
        return render_prometheus(
            [
                MetricFamily("edgewright_requests_total", "counter", requests),
                MetricFamily("edgewright_waiting_requests", "gauge", queues),
                *map(self._make_family, TIMES),
            ]
        )

    def _make_family(self, what: str) -> MetricFamily:
        samples = [({"model": model}, times) for (model, kind), times in sorted(self._times.items()) if kind == what]
        return MetricFamily(f"edgewright_{what}_seconds", "histogram", samples)
