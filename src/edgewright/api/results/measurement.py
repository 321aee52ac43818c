"""Results of benchmarks and comparisons."""

from collections.abc import Sequence
from contextlib import closing
from typing import Any

from edgewright.api.results.base import Result, Table, to_plain
from edgewright.api.user_store import open_user_store
from edgewright.flows.benchmark.answer import answer_evaluations, format_confidence, format_verdict
from edgewright.flows.benchmark.comparison import EvaluationComparison, find_differences, get_session_id
from edgewright.flows.benchmark.report import BenchmarkReport, BenchmarkRow, make_report
from edgewright.schema.run import Comparison, Run
from edgewright.schema.units import UNKNOWN, show_bytes, show_range, show_ratio, show_us

HEADERS = (
    "model", "runtime", "precision", "size", "p50", "interval", "p90", "peak memory", "cold start", "verdict", "run",
)  # fmt: skip
DROPPABLE = ("cold start", "peak memory", "p90", "size", "precision")
SCHEMA = "edgewright.compare/1"


class StoredRunsResult(Result):
    """A result that consists of stored runs.

    Attributes:
        runs: as they are stored.
    """

    def __init__(self, report: Any, runs: Sequence[Run]) -> None:
        super().__init__(report)
        self.runs = tuple(runs)

    @property
    def run_ids(self) -> tuple[str, ...]:
        return tuple(run.id for run in self.runs)

    def _render(self) -> str:
        from edgewright.web.pages.comparison import MAX_RUNS
        from edgewright.web.pages.reports import render_one_file

        if len(self.runs) > MAX_RUNS:
            return super()._render()
        with closing(open_user_store()) as store:
            return render_one_file(self.runs, store)


class BenchmarkResult(StoredRunsResult):
    """The runs of one benchmark, and the verdicts against the first."""

    report: BenchmarkReport

    @property
    def rows(self) -> Sequence[BenchmarkRow]:
        return self.report.runs

    @property
    def comparisons(self) -> Sequence[Comparison]:
        return self.report.comparisons

    @property
    def verdicts(self) -> tuple[str, ...]:
        """Return of each run after the first whether it is `faster`, `slower`, `no difference` or `inconclusive`."""
        found = {one.b: one.verdict for one in self.comparisons}
        return tuple(found.get(run.id, "inconclusive") for run in self.runs[1:])

    @property
    def answer(self) -> str:
        """Return the median times with their intervals, or how each run compares with the first."""
        return str(self.report.answer)

    def table(self) -> Table:
        verdicts = {comparison.b: format_verdict(comparison) for comparison in self.comparisons}
        rows = [_make_row(row, verdicts) for row in self.rows]
        if len({row.device for row in self.rows}) < 2:
            return Table(HEADERS, rows, DROPPABLE, ("run",))
        named = [(row.device, *cells) for row, cells in zip(self.rows, rows, strict=True)]
        return Table(("device", *HEADERS), named, DROPPABLE, ("run",))

    def _draw(self) -> Sequence[str]:
        """Draw the medians of the processes of all runs, or the distribution of a single run."""
        from edgewright.web.pages.comparison import MAX_RUNS, draw_process_medians
        from edgewright.web.pages.figures import draw_distribution

        return [draw_process_medians(self.runs[:MAX_RUNS]), *map(draw_distribution, self.runs[:1])]


class CompareResult(BenchmarkResult):
    """The comparisons of stored or newly measured runs with the first: by their times, or sample by sample.

    Attributes:
        evaluations: the comparisons sample by sample, of runs of `evaluate`; empty for benchmarks.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        comparisons: Sequence[Comparison] = (),
        evaluations: Sequence[EvaluationComparison] = (),
    ) -> None:
        self.evaluations = tuple(evaluations)
        super().__init__(make_report([] if evaluations else runs, comparisons), runs)

    @property
    def rows(self) -> Sequence[Any]:
        return self.evaluations or self.comparisons

    def to_dict(self) -> dict[str, Any]:
        plain = {**super().to_dict(), "schema": SCHEMA, "answer": self.answer}
        return plain | ({"evaluations": to_plain(self.evaluations)} if self.evaluations else {})

    @property
    def verdicts(self) -> tuple[str, ...]:
        """Return the verdicts as of a benchmark; of evaluations `better`, `worse` or `inconclusive`."""
        if not self.evaluations:
            return super().verdicts
        return tuple(
            name_difference(one.low, one.high, higher_is_better=one.better == "higher") for one in self.evaluations
        )

    @property
    def answer(self) -> str:
        if self.evaluations:
            return answer_evaluations(self.runs, self.evaluations)
        return super().answer

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what may explain a difference: other sessions and machines, and differences of plans and systems."""
        if self.evaluations:
            return ()
        first, notes = (
            self.runs[0],
            [f"{run.id} is imported: it was measured on another machine." for run in self.runs if run.imported],
        )
        for run in self.runs[1:]:
            if get_session_id(run) != get_session_id(first):
                beyond = "a verdict requires an interval that is completely beyond 5 %."
                notes.append(f"{run.id} is from another session: {beyond}")
            for name, (before, after) in find_differences(first, run).items():
                notes.append(f"{run.id} differs in {name}: {before} → {after}")
        return tuple(notes)

    def _name_runs(self) -> dict[str, str]:
        """Return a name for each run: its id, model and runtime."""
        return {run.id: f"{run.id} {run.model.name if run.model else ''} in {run.runtime}" for run in self.runs}

    def table(self) -> Table:
        names = self._name_runs()
        if self.evaluations:
            headers = ("reference", "compared", "metric", "samples", "difference (95 % interval)", "p")
            return Table(headers, [_make_evaluation_row(one, names) for one in self.evaluations])
        return make_comparison_table(self.comparisons, names)


def make_comparison_table(comparisons: Sequence[Comparison], names: dict[str, str]) -> Table:
    rows = []
    for one in comparisons:
        ratio = show_ratio(one.ratio, one.low, one.high) + format_confidence(one)
        rows.append((names[one.a], names[one.b], ratio, one.verdict))
    return Table(("reference", "compared", "time ratio (99 % interval)", "verdict"), rows)


def _make_evaluation_row(one: EvaluationComparison, names: dict[str, str]) -> tuple[str, ...]:
    difference = f"{one.difference:+.4f} ({one.low:+.4f} to {one.high:+.4f})"
    return (names[one.a], names[one.b], one.metric, str(one.n), difference, f"{one.p:.2g}")


def _make_row(row: BenchmarkRow, verdicts: dict[str, str]) -> tuple[str, ...]:
    verdict = row.state if row.state != "done" else verdicts.get(row.run_id, "reference")
    return (row.model, row.runtime, row.precision, *format_figures(row), verdict, row.run_id)


def format_figures(row: BenchmarkRow) -> tuple[str, str, str, str, str, str]:
    """Return size, p50, its interval, p90, peak memory and cold start as text."""
    timing, cold = row.latency_us, row.cold_start_us
    known = cold.load is not None and cold.first_inference is not None
    return (
        show_bytes(row.memory_bytes.file),
        show_us(timing.p50 if timing else None),
        show_range(timing.p50_low, timing.p50_high) if timing else UNKNOWN,
        show_us(timing.p90 if timing else None),
        show_bytes(row.memory_bytes.peak),
        show_us((cold.load or 0.0) + (cold.first_inference or 0.0) if known else None),
    )


def name_difference(low: float, high: float, *, higher_is_better: bool) -> str:
    """Return whether a metric is shown to be better or worse by the interval of its difference."""
    if low <= 0 <= high:
        return "inconclusive"
    return "better" if (low > 0) == higher_is_better else "worse"
