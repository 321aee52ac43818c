"""Pages with results of pruning and distillation, with hostile names."""

from xml.etree import ElementTree

import msgspec
import pytest

from edgewright.flows.distill.report import DistillReport
from edgewright.flows.evaluate.report import MetricRow
from edgewright.flows.experiment.report import MetricDelta, NetworkReport, SeedRow, WidthRow
from edgewright.flows.prune.report import PruneReport, list_targets
from edgewright.flows.quantize.report import Speedup
from edgewright.report.charts.curves import draw_curves
from edgewright.schema.plan import PrunePlan
from edgewright.training.job import Curve
from edgewright.web.pages.training import render_training
from tests.web.conftest import Pages
from tests.web.records import SCRIPT, make_run

PLAN = PrunePlan(
    source="net.py:build", task={}, val="val.zip", target_speedup=1.5, target_bytes="2x", max_drop=2.0,
)  # fmt: skip


def make_side(name: str, value: float, *, seeds: int = 1) -> NetworkReport:
    return NetworkReport(
        name=name, parameters=391_834, zeros=195_917 if name == "pruned" else 0, macs=59_646_912, bytes=1_629_079,
        packed_bytes=1_462_192, latency_us=1341.2,
        metric=MetricRow(name="top1", value=value, low=value - 0.01, high=value + 0.01, n=500, better="higher"),
        mean=0.7531,
        seeds=tuple(
            SeedRow(seed=seed, metric=value, held_out=None, steps=5, seconds=1.0, precision="fp32", resumed=0)
            for seed in range(seeds)
        ),
    )  # fmt: skip


def make_curves(epochs: int) -> tuple[Curve, ...]:
    steps = tuple(range(1, 41))
    held_out = tuple(40 * place // epochs for place in range(1, epochs + 1))
    return (
        Curve(name="loss", unit="", steps=steps, values=tuple(1 / step for step in steps)),
        Curve(name="held-out.top1", unit="", steps=held_out, values=tuple(0.5 + place / 9 for place in range(epochs))),
    )


def make_prune(*, text: str = "", seeds: int = 1, epochs: int = 1, control: bool = True) -> PruneReport:
    names = ("control", "pruned") if control else ("pruned",)
    return PruneReport(
        source=f"/home/ann/secret/net{text}.py:build", source_sha256="a" * 64, method="structured",
        importance=f"taylor{text}", runtime="onnxruntime", model=None, module=None, weights=None, trained_on=900,
        held_out=100, evaluated_on=500,
        networks=(make_side("source", 0.9, seeds=0), *(make_side(name, 0.8, seeds=seeds) for name in names)),
        against=(MetricDelta(against="source", value=-1.0, low=None, high=None, over="samples", n=1, unit="points"),),
        speedup=Speedup(ratio=1.67, low=1.64, high=1.76, verdict="faster"),
        widths=(WidthRow(name=f"layers.0.conv1{text}", kind="channels", before=24, after=16, layers=("layers.0",)),),
        fixed={f"fc{text}": f"an output{text}"}, curves={name: make_curves(epochs) for name in names},
        notes=(f"a note{text}",), state="ok", reason="", seconds=9.0,
    )  # fmt: skip


def make_distil(*, text: str = "") -> DistillReport:
    return DistillReport(
        teacher=f"/home/ann/secret/big{text}.py:build", teacher_sha256="a" * 64, student=f"auto:5x{text}",
        runtime="onnxruntime", model=None, module=None, weights=None, temperature=4.0, alpha=0.9, transfer="features",
        views=0, labeled=True, trained_on=900, held_out=100, evaluated_on=500,
        networks=(make_side("teacher", 0.9, seeds=0), make_side("control", 0.7), make_side("student", 0.8)), against=(),
        speedup=None, widths=(), curves={name: make_curves(2) for name in ("control", "student")}, notes=(),
        state="ok", reason="", seconds=9.0,
    )  # fmt: skip


def test_the_report_of_prune_shows_source_method_and_target() -> None:
    page = render_training(msgspec.structs.replace(make_prune(), targets=list_targets(PLAN)))
    for words in ("net.py:build, pruned", "structured: channels", "importance</dt><dd>taylor", "target-speedup 1.5"):
        assert words in page, words
    assert "target-bytes 2x · max-drop 2" in page
    assert "target-macs" not in page
    assert "secret" not in page
    assert "<dt>target</dt>" not in render_training(make_prune())  # a report of an earlier version without targets


def test_the_report_of_distill_shows_teacher_student_and_settings() -> None:
    page = render_training(make_distil())
    for words in (
        "auto:5x, distilled from big.py:build",
        "temperature 4, alpha 0.9",
        "teacher runs on each batch",
        "features",
    ):
        assert words in page, words
    assert "4 per sample" in render_training(msgspec.structs.replace(make_distil(), views=4))


def test_targets_of_single_weights() -> None:
    thin = msgspec.structs.replace(PLAN, method="unstructured", target_speedup=None, target_bytes="")
    assert list_targets(thin) == {"sparsity": "0.8", "scope": "global", "max-drop": "2"}
    assert list_targets(msgspec.structs.replace(thin, pattern="2:4")) == {"pattern": "2:4", "max-drop": "2"}


def test_figures_read_as_on_the_console() -> None:
    page = render_training(make_prune())
    for words in (">59.6 M<", ">391,834<", ">50.0%<", "<wbr>conv1"):
        assert words in page, words
    assert "0.7531" not in page  # no mean for one seed
    assert "0.7531" in render_training(make_prune(seeds=2))
    assert "Comparison with the control" in page
    assert "Comparison with the control" not in render_training(make_prune(control=False))


def test_the_held_out_metric_of_one_epoch_is_seen() -> None:
    page = render_training(make_prune(epochs=1))
    assert "held-out.top1 over the steps. pruned ends at 0.5" in page
    assert page.index("held-out.top1") < page.index("<strong>loss<")


def test_the_control_is_dashed_and_drawn_last() -> None:
    root = ElementTree.fromstring(
        draw_curves("lr", "", {"control": ((1, 2), (0.1, 0.0)), "pruned": ((1, 2), (0.1, 0.0))})
    )
    assert [one.attrib["class"] for one in root.iter("path")] == ["curve network", "curve control"]
    words = [one.text for one in root.iter("text")]
    assert [one for one in words if one in ("steps", "pruned", "control")] == ["steps", "pruned", "control"]
    assert "0.5" not in words  # there are no half steps
    assert len(list(root.iter("circle"))) == 4


@pytest.mark.parametrize("values", [(), (float("nan"),), (float("inf"), float("nan"))])
def test_what_is_no_number_is_no_curve(values: tuple[float, ...]) -> None:
    assert draw_curves("loss", "", {"pruned": (tuple(range(len(values))), values)}) == ""


@pytest.mark.parametrize("report", [make_prune(text=SCRIPT), make_distil(text=SCRIPT)], ids=["prune", "distil"])
def test_every_name_is_escaped(report: PruneReport | DistillReport) -> None:
    page = render_training(report)
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;img" in page


def test_a_runs_page_takes_the_targets_from_the_plan(pages: Pages) -> None:
    run = make_run(samples=0, layers=0)
    run = msgspec.structs.replace(run, kind="prune", series=(), plan=msgspec.to_builtins(PLAN))
    pages.store.begin(msgspec.structs.replace(run, state="running", metrics=(), warnings=(), finished_at=None))
    output = pages.store.put_bytes(run.id, msgspec.json.encode(make_prune()), role="prune")
    pages.store.finish(msgspec.structs.replace(run, outputs=(output,)))
    text = pages.get(f"/runs/{run.id}").text
    assert "target-speedup 1.5 · target-bytes 2x" in text
    assert "Curves of the first seed" in text
