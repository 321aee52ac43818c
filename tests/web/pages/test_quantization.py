"""Quantization reports as charts and pages, with hostile names and extreme values."""

from html.parser import HTMLParser

import msgspec
import pytest

from edgewright.flows.evaluate.report import MetricRow
from edgewright.flows.quantize.report import FinetuneReport, MetricWithReference, QuantizedRow, QuantizeReport, Speedup
from edgewright.quantization.job import FidelityReport, QuantizationReport, TensorReport, WeightNodeReport
from edgewright.report.charts.quantization import OperatorNoise, draw_operator_bars, draw_value_histogram
from edgewright.schema.run import PART_OF
from edgewright.web.pages.quantization import REPORT_ROLE, make_quantization_context, render_quantization
from tests.web.conftest import Pages
from tests.web.records import SCRIPT, make_run


def make_site(name: str, db: float | None, kept: str = "") -> WeightNodeReport:
    return WeightNodeReport(
        node=name, op="Conv", precision="fp32" if kept else "w8a8", kept=kept, sqnr_db=db, weights_db=db, input_db=db,
        agreement=0.98, weight_bytes=288,
    )  # fmt: skip


def make_tensor(name: str, clipped: float = 0.1, high: float = 2.0) -> TensorReport:
    return TensorReport(
        name=name, method="mse", low=0.0, high=high, seen_low=0.0, seen_high=4.0, clipped=clipped, scale=0.01,
        zero_point=0, dtype="uint8", histogram=(90, 9, 0, 1),
    )  # fmt: skip


def make_report(*, text: str = "") -> QuantizationReport:
    fidelity = FidelityReport(sqnr_db=31.5, agreement=0.96, expected_flips=0.03)
    return QuantizationReport(
        precision="w8a8",
        fitted_on=75,
        checked_on=25,
        first=msgspec.structs.replace(fidelity, sqnr_db=12.25),
        final=fidelity,
        sites=(
            make_site(f"quiet{text}", 60.0),
            make_site(f"loud{text}", 15.0),
            make_site(f"spared{text}", 9.0, f"found by search{text}"),
            make_site(f"unknown{text}", None),
        ),
        tensors=(make_tensor(f"whole{text}", 0.0, 4.0), make_tensor(f"cut{text}")),
        integer_operators=3,
        operators=5,
    )


def make_whole(*, text: str = "", quantization: bool = True) -> QuantizeReport:
    row = QuantizedRow(
        runtime="litert", precision="w8a8", path="out/a.tflite", bytes=49_480, bytes_ratio=2.38,
        metric=MetricWithReference(name="top1", value=0.97, low=0.95, high=0.99, reference=0.98), agreement=0.99,
        sqnr_db=38.9, speedup=Speedup(ratio=2.14, low=2.11, high=2.15, verdict="faster"), int8_share=0.85, kept=(),
        state="ok", reason="",
    )  # fmt: skip
    bare = msgspec.structs.replace(
        row, runtime="onnxruntime", path=None, bytes=None, bytes_ratio=None, metric=None, agreement=None, sqnr_db=None,
        speedup=None, int8_share=None, state="refused", reason=f"it drops{text}",
    )  # fmt: skip
    return QuantizeReport(
        source=f"/home/ann/secret/net{text}.onnx", source_sha256="a" * 64, precision="w8a8", why="asked for",
        graph=None, recipe=None, calibrated_on=100, evaluated_on=439, seconds=31.6, reference=None,
        artifacts=(row, bare),
        quantization=make_report(text=text) if quantization else None,
    )  # fmt: skip


class Tags(HTMLParser):
    """Names of all tags, and what they would fetch."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.addresses: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action")]


def test_the_file_needs_nothing_else() -> None:
    page = render_quantization(make_whole())
    tags = Tags(page)
    assert "script" not in tags.names
    assert [one for one in tags.addresses if not one.startswith("#")] == []
    assert page.count("<svg") >= 3
    assert "secret" not in page  # the folder of the source
    for words in ("49.5 kB", "2.38", "0.98", "38.9 dB", "2.14", "it drops", "75 samples", "12.2 dB", "found by search"):
        assert words in page, words


def test_a_table_of_the_graph_before_fine_tuning_is_marked() -> None:
    metric = MetricRow(name="top1", value=0.9, low=0.8, high=0.95, n=100, better="higher")
    tuned = FinetuneReport(
        before=metric, after=metric, control=None, recovered=None, trained_on=90, held_out=10, steps=5, seconds=1.0,
        precision="fp32", curves=(),
    )  # fmt: skip
    line = "describes the graph before fine-tuning"
    page = render_quantization(msgspec.structs.replace(make_whole(), tuning=tuned))
    assert page.index("Quantization-aware training") < page.index(line) < page.index(">operator<")
    assert line not in render_quantization(make_whole())


def test_what_is_not_known_is_no_number() -> None:
    page = render_quantization(make_whole(quantization=False))
    assert 'id="quantization"' not in page
    assert "nan" not in page.lower()


def test_every_name_is_escaped() -> None:
    page = render_quantization(make_whole(text=SCRIPT))
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;" in page


def test_kept_operators_come_first_then_the_loudest_and_the_most_clipped() -> None:
    context = make_quantization_context(make_report())
    assert [site.node for site in context["sites"]] == ["spared", "loud", "quiet", "unknown"]
    assert [one.name for one, _ in context["tensors"]] == ["cut", "whole"]
    assert context["bars"].count('class="bar kept"') == 1
    assert context["bars"].count('class="bar"') == 2


def test_what_a_range_clips_is_marked() -> None:
    cut = draw_value_histogram("t", (90, 9, 0, 1), (0.0, 4.0), (0.0, 2.0))
    assert cut.count("bar clipped") == 1
    assert cut.count('class="bar"') == 2  # the empty bin has no bar
    assert draw_value_histogram("t", (90, 9, 0, 1), (0.0, 4.0), (0.0, 4.0)).count("clipped") == 0
    both = draw_value_histogram("t", (1, 5, 5, 1), (-2.0, 2.0), (-1.0, 1.0))
    assert both.count("bar clipped") == 2


@pytest.mark.parametrize("absurd", [float("nan"), float("inf"), -1e308])
def test_absurd_numbers_are_not_drawn(absurd: float) -> None:
    assert draw_value_histogram("t", (1, 2), (0.0, 1.0), (absurd, 1.0)) == ""
    assert draw_value_histogram("t", (0, 0), (0.0, 1.0), (0.0, 1.0)) == ""
    assert draw_value_histogram("t", (), (0.0, 1.0), (0.0, 1.0)) == ""
    assert "<svg" in draw_value_histogram("t", (5,), (1.0, 1.0), (0.0, 1.0))  # it never changed
    assert "nan" not in draw_operator_bars(
        [OperatorNoise("a", "a", absurd, kept=False), OperatorNoise("b", "b", 3.0, kept=False)]
    )
    assert draw_operator_bars([]) == ""


def add_run(pages: Pages, content: bytes) -> str:
    run = msgspec.structs.replace(make_run(samples=0, layers=0), kind="quantize", series=())
    pages.store.begin(msgspec.structs.replace(run, state="running", metrics=(), warnings=(), finished_at=None))
    output = pages.store.put_bytes(run.id, content, role=REPORT_ROLE)
    pages.store.finish(msgspec.structs.replace(run, outputs=(output,)))
    return run.id


def test_the_page_of_a_run_shows_it(pages: Pages) -> None:
    run_id = add_run(pages, msgspec.json.encode(make_report(text=SCRIPT)))
    page = pages.get(f"/runs/{run_id}")
    assert page.status == 200
    assert "Quantization error" in page.text
    assert "bar clipped" in page.text
    assert "<script>alert" not in page.text
    assert "Quantization error" in pages.get(f"/runs/{run_id}/report.html").text


def test_the_page_of_a_run_says_what_quantization_cost(pages: Pages) -> None:
    run = msgspec.structs.replace(make_run(samples=0, layers=0), kind="quantize", series=(), metrics=())
    output = pages.store.put_bytes(run.id, msgspec.json.encode(make_whole(quantization=False)), role="quantize")
    step = msgspec.structs.replace(make_run(), tags={PART_OF: run.id})
    pages.store.record([msgspec.structs.replace(run, outputs=(output,)), step])
    page = pages.get(f"/runs/{run.id}").text
    answer = pages.get(f"/runs/{run.id}.json").json()["answer"]
    assert "2.38× smaller (118 kB → 49.5 kB) · 2.14× faster in LiteRT" in answer
    assert page.index("2.38× smaller") < page.index("<h2>Before and after<") < page.index(f'href="/runs/{step.id}"')
    assert "No layer times" not in page


def test_figures_of_the_choice_and_of_the_result_have_their_own_words() -> None:
    """Predictions on validation samples are not the agreement on held-out data, operators not a share of a profile."""
    page = render_quantization(make_whole())
    assert "Expected while choosing, on 25 validation samples: SQNR" in page
    assert "in the graph, 3 of 5 operators have integer inputs" in page
    assert "in integer arithmetic, by the runtime's profile" in page


def test_a_report_that_is_none_costs_nothing_else(pages: Pages) -> None:
    for content in (b"no json", b"{}", b"[" * 100_000):
        page = pages.get(f"/runs/{add_run(pages, content)}")
        assert page.status == 200
        assert "Quantization error" not in page.text
