"""Counters of a server in the text format of Prometheus."""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
TIMES = ("queue", "inference")


class ServerCounters:
    """Requests by model and status, and histograms of the time in the queue and in the model. Its size is fixed."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, int]] = Counter()
        self._buckets: dict[tuple[str, str], list[int]] = {}
        self._sums: defaultdict[tuple[str, str], float] = defaultdict(float)

    def count(self, model: str, status: int) -> None:
        self._requests[model, status] += 1

    def time(self, model: str, what: str, seconds: float) -> None:
        """Add a time of the queue or of the inference."""
        buckets = self._buckets.setdefault((model, what), [0] * (len(BUCKETS_S) + 1))
        buckets[bisect_left(BUCKETS_S, seconds)] += 1
        self._sums[model, what] += seconds

    def render(self, waiting: dict[str, int]) -> str:
        """Return the text of all counters; `waiting` is the length of each model's queue."""
        return "\n".join((*self._list_lines(waiting), ""))

    def _list_lines(self, waiting: dict[str, int]) -> Iterator[str]:
        yield "# TYPE edgewright_requests_total counter"
        for (model, status), number in sorted(self._requests.items()):
            yield f'edgewright_requests_total{{model="{_escape(model)}",status="{status}"}} {number}'
        yield "# TYPE edgewright_waiting_requests gauge"
        for model, number in waiting.items():
            yield f'edgewright_waiting_requests{{model="{_escape(model)}"}} {number}'
        for what in TIMES:
            name = f"edgewright_{what}_seconds"
            yield f"# TYPE {name} histogram"
            for model, buckets in [(key[0], value) for key, value in sorted(self._buckets.items()) if key[1] == what]:
                label, below = f'model="{_escape(model)}"', 0
                for bound, number in zip((*BUCKETS_S, "+Inf"), buckets, strict=True):
                    below += number
                    yield f'{name}_bucket{{{label},le="{bound}"}} {below}'
                yield f"{name}_sum{{{label}}} {self._sums[model, what]:.6f}"
                yield f"{name}_count{{{label}}} {below}"


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
