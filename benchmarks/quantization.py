"""`edgewright quantize` on two real convolutional networks, compared with other tools in one run.

MobileNetV2 on 500 ImageNet images: `tasks.data.split` selects 100 of them for calibration, without labels; the other
400 evaluate all tools, and no setting was chosen on them. ResNet-8 on CIFAR-10: 100 images of the validation half are
calibration data, the 5,000 of the test half evaluate. The other tools get the same calibration tensors.

Parts: `mobilenet` (8 bits in every runtime, and the peers), `readings` (the other runtimes against ONNX Runtime on the
same graph), `int4` (4-bit weights against rounding to nearest), `resnet`. Transformers: `quantize_transformer.py`.
Speed is CPU time of single inferences on one thread; the files of a runtime alternate in fresh processes. With `--out`
all results are kept, and a second start resumes. NNCF runs in its own environment, in the folder of
EDGEWRIGHT_BENCH_ENVIRONMENTS or in ~/.cache/edgewright-bench; the script prints how to create it.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any, TypeVar

import msgspec
import numpy as np
from msgspec import Struct

from benchmarks.matrix import make_table
from benchmarks.measuring import MOBILENET, describe_machine
from benchmarks.quantize_peers import Made, make_peers
from benchmarks.session_turns import take_turns
from benchmarks.turns import Share
from edgewright.errors import EdgewrightError
from edgewright.flows.compile.flow import CompileReport, compile_all
from edgewright.flows.devices.names import open_device
from edgewright.flows.evaluate.flow import evaluate
from edgewright.flows.evaluate.report import EvaluationReport
from edgewright.flows.quantize.flow import quantize
from edgewright.flows.quantize.report import QuantizedRow, QuantizeReport
from edgewright.flows.workspace import Workspace
from edgewright.quantization.recipe import Recipe, write_recipe
from edgewright.schema.plan import Candidate, CompileCell, CompilePlan, EvaluatePlan, QuantizePlan
from edgewright.store.store import open_store
from edgewright.tasks.data.dataset import open_dataset, split
from edgewright.tasks.spec.file import read_task

ROOT = Path(__file__).parents[1]
SHARED = MOBILENET.parents[1]
MAIN = ("onnxruntime", "litert", "openvino")
REST = ("ncnn", "mnn", "executorch")
PARTS = ("mobilenet", "readings", "int4", "resnet")
SEED = 0
FEW = 3  # names that stand for many
HEADS = (
    "made by", "runtime", "top-1 (95 %)", "drop, points", "agreement", "SQNR, dB", "compression",
    "speedup over fp32 (99 %)", "s (CPU s)",
)  # fmt: skip
Kind = TypeVar("Kind")


@dataclass(frozen=True)
class Subject:
    """A model with its data: `samples` of `data` for calibration, `eval_data` or the rest of it for evaluation."""

    name: str
    model: Path
    task: Path
    data: Path
    eval_data: Path | None
    samples: int


class Spent(Struct, frozen=True, kw_only=True):
    """Wall seconds and CPU seconds, including child processes."""

    wall: float
    cpu: float


class Quantization(Struct, frozen=True, kw_only=True):
    """A run of the flow; `quantizer` is the time before compilation and evaluation."""

    report: QuantizeReport
    error: str
    whole: Spent
    quantizer: Spent


class Speeds(Struct, frozen=True, kw_only=True):
    """Shares by file, the fp32 one first; `reason` if the runtime crashed."""

    shares: dict[str, Share]
    reason: str = ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="keep all that is made here, and go on from it")
    parser.add_argument("--samples", type=int, default=100, help="for calibration; fewer for a trial of this script")
    parser.add_argument("--processes", type=int, default=15, help="fresh processes for each runtime, for the speed")
    parser.add_argument("--turns", type=int, default=30, help="timed inferences of each file and process")
    arguments = parser.parse_args()
    imagenet, cifar = SHARED / "imagenet" / "imagenet_dev500.zip", SHARED / "cifar10"
    tasks = ROOT / "docs" / "examples"
    mobilenet = Subject(
        "mobilenet_v2", MOBILENET, tasks / "mobilenet_v2.toml", imagenet, None, arguments.samples
    )  # fmt: skip
    resnet = Subject(
        "resnet8", MOBILENET.with_name("resnet8_cifar10.onnx"), tasks / "resnet8_cifar10.toml",
        cifar / "val5k.zip", cifar / "test5k.zip", arguments.samples,
    )  # fmt: skip
    print(describe_machine(), flush=True)
    with TemporaryDirectory() as folder:
        for part in arguments.only:
            subject = resnet if part == "resnet" else mobilenet
            bench = Bench(subject, (arguments.out or Path(folder)).absolute() / subject.name, arguments)
            {"mobilenet": bench.report_all, "readings": bench.report_readings, "int4": bench.report_int4,
             "resnet": bench.report_resnet}[part]()  # fmt: skip


class Bench:
    """All results of one subject, each step kept in its folder."""

    def __init__(self, subject: Subject, folder: Path, arguments: argparse.Namespace) -> None:
        for path in (subject.model, subject.data, subject.eval_data or subject.data):
            if not path.is_file():
                raise SystemExit(f"{path.name} is not here")
        folder.mkdir(parents=True, exist_ok=True)
        self._subject, self._folder, self._arguments = subject, folder, arguments
        self._task = read_task(subject.task)

    # Parts

    def report_all(self) -> None:
        main, rest, peers = self._quantize("w8a8", MAIN), self._quantize_rest(), self._peers()
        evaluated = self._evaluate("peers", [("onnxruntime", self._subject.model), *self._files_of(peers)])
        lines = [*rows_of("edgewright w8a8", main, self), *rows_of("edgewright w8a8", rest, self)]
        for peer, row in zip([one for one in peers if one.path], evaluated.results[1:], strict=True):
            metric = row.metric
            exact = evaluated.results[0].metric
            lines.append(
                [
                    peer.name,
                    "onnxruntime",
                    format_metric(metric),
                    f"{(exact.value - metric.value) * 100:.2f}" if metric and exact else "–",
                    format_share(row.agreement.value if row.agreement else None),
                    format_number(row.sqnr_db, "{:.1f}"),
                    f"{self._subject.model.stat().st_size / Path(peer.path).stat().st_size:.2f}",
                    self.measure_speed("onnxruntime", peer.path),
                    f"{peer.seconds:.0f} ({peer.cpu_seconds:.0f})",
                ]
            )
        first = evaluated.results[0]
        exact_line = ["fp32, the source", "onnxruntime", format_metric(first.metric), "–", "–", "–", "1", "1", "–"]
        self._print(f"{self._subject.samples} images calibrate, {first.evaluated} evaluate", [exact_line, *lines])
        print_cost(main)
        for made in (main, rest):
            print_rejections(made)
        for one in peers:
            if one.reason:
                print(f"{one.name}: {one.reason}")
        if main.report.graph and rest.report.graph:
            same = Path(main.report.graph).read_bytes() == Path(rest.report.graph).read_bytes()
            print(f"the same recipe and data once more: {'the same bytes' if same else 'OTHER BYTES'}", flush=True)

    def report_readings(self) -> None:
        """Compare every other runtime's classes with those of ONNX Runtime, on one quantized graph."""
        files = self._artifacts()
        if "onnxruntime" not in files:
            print("readings: ONNX Runtime's artifact was kept back")
            return
        evaluated = self._evaluate("readings", list(files.items()))
        rows = [
            [
                row.runtime,
                format_share(row.agreement.value if row.agreement else None),
                format_number(row.sqnr_db, "{:.1f}"),
                self.measure_speed(row.runtime, str(files[row.runtime])),
            ]
            for row in evaluated.results[1:]
        ]
        heads = ("runtime", "argmax as ONNX Runtime's int8", "SQNR to it, dB", "speedup over its own fp32 (99 %)")
        print(f"\n{self._subject.name}, one graph read by all\n\n{make_table(heads, rows)}", flush=True)

    def report_int4(self) -> None:
        lines = []
        for precision in ("w4a8", "w4"):
            found = self._quantize(precision, ("onnxruntime",), measure=False)
            lines += rows_of(f"edgewright {precision}", found, self)
            print_cost(found)
            recipe = Recipe(precision=precision, rounding="nearest", ranges="minmax", equalize=False, search=False)
            plain = self._quantize(precision, ("onnxruntime",), measure=False, recipe=write_recipe(recipe), tag="plain")
            lines += rows_of(f"{precision}, rounded to nearest, min-max", plain, self)
        self._print("4-bit weights", lines)

    def report_resnet(self) -> None:
        found = self._quantize("w8a8", MAIN)
        self._print(
            f"{self._subject.samples} images calibrate, {found.report.evaluated_on} others evaluate",
            rows_of("edgewright w8a8", found, self),
        )
        print_cost(found)
        print_rejections(found)

    def _print(self, what: str, lines: list[list[str]]) -> None:
        print(f"\n{self._subject.name}: {what}\n\n{make_table(HEADS, lines)}", flush=True)

    # Steps, each kept

    def _quantize(
        self, precision: Any, runtimes: Sequence[str], *, measure: bool = True, recipe: str = "", tag: str = "made"
    ) -> Quantization:
        """Run the flow with a bound that rejects nothing; the gate of agreement stays."""
        subject, name = self._subject, f"{precision}-{runtimes[0]}-{tag}"
        plan = QuantizePlan(
            source=str(subject.model),
            runtimes=tuple(runtimes),
            precision=precision,
            task=msgspec.to_builtins(self._task),
            data=str(subject.data),
            eval_data=str(subject.eval_data) if subject.eval_data else None,
            samples=subject.samples,
            seed=SEED,
            recipe=recipe,
            max_drop=100.0,
            measure=measure,
        )

        def make() -> Quantization:
            watch = Stopwatch(f"{subject.name} {name}")
            with closing(open_device("local")) as device, open_store(self._folder / "home") as store:
                report, error = quantize(plan, self._folder / name, Workspace(device, store, watch))
            watch.mark()
            return Quantization(
                report=report, error=str(error or ""), whole=watch.between(0, -1), quantizer=watch.between(0, 1)
            )

        return once(self._folder / f"{name}.json", Quantization, make)

    def _quantize_rest(self) -> Quantization:
        """Quantize for the other runtimes with the recipe of the first run, without another search."""
        found = self._quantize("w8a8", MAIN).report.recipe
        recipe = Path(found).read_text(encoding="utf-8") if found else ""
        return self._quantize("w8a8", REST, measure=False, recipe=recipe, tag="again")

    def _peers(self) -> list[Made]:
        def make() -> list[Made]:
            samples = self._folder / "samples.npy"
            np.save(samples, self._calibration())
            return make_peers(self._subject.model, samples, self._folder / "peers")

        return once(self._folder / "peers.json", list[Made], make)

    def _calibration(self) -> Any:
        """Return the flow's calibration tensors, [samples, 1, …]."""
        with open_dataset(str(self._subject.data), self._task) as data:
            chosen = split(len(data), self._subject.samples, SEED)[0]
            return np.stack([next(iter(sample.feeds.values())) for sample in data.read(chosen)])

    def _files_of(self, peers: Sequence[Made]) -> list[tuple[str, Path]]:
        return [("onnxruntime", Path(one.path)) for one in peers if one.path]

    def _evaluate(self, name: str, files: Sequence[tuple[str, Path]]) -> EvaluationReport:
        """Evaluate all files on the samples that were not used for calibration; the first is the reference."""
        plan = EvaluatePlan(
            candidates=tuple(Candidate(model=str(path), runtime=runtime) for runtime, path in files),
            task=msgspec.to_builtins(self._task),
            data=str(self._subject.data),
            leave_out=self._subject.samples,
            seed=SEED,
        )

        def make() -> EvaluationReport:
            watch = Stopwatch(f"{self._subject.name} {name}")
            with closing(open_device("local")) as device, open_store(self._folder / "home") as store:
                result = evaluate(plan, Workspace(device, store, watch))
            if result.error is not None:
                print(f"{name}: {result.error}", file=sys.stderr)
            return result.report

        return once(self._folder / f"judged-{name}.json", EvaluationReport, make)

    def _artifacts(self) -> dict[str, Path]:
        """Return our artifacts by runtime, without those that a gate rejected."""
        found = self._quantize("w8a8", MAIN).report.artifacts
        if self._subject.eval_data is None:
            found += self._quantize_rest().report.artifacts
        return {row.runtime: Path(row.path) for row in found if row.path}

    def _floats(self) -> dict[str, Path]:
        runtimes = tuple(self._artifacts())
        sizes = self._calibration().shape[1:]
        plan = CompilePlan(
            source=str(self._subject.model),
            cells=tuple(CompileCell(runtime=name, precision="fp32") for name in runtimes),
            shapes={self._task.inputs[0].name: sizes},
            check=False,
        )

        def make() -> CompileReport:
            watch = Stopwatch(f"{self._subject.name} fp32")
            with closing(open_device("local")) as device, open_store(self._folder / "home") as store:
                return compile_all(plan, self._folder / "fp32", Workspace(device, store, watch))[0]

        report = once(self._folder / "fp32.json", CompileReport, make)
        return {cell.runtime: Path(cell.path) for cell in report.artifacts if cell.path}

    def measure_speed(self, runtime: str, path: str) -> str:
        speeds = self._speeds(runtime)
        share = speeds.shares.get(path)
        if share is None:
            return speeds.reason or "–"
        ends = f" ({1 / share.high:.2f}–{1 / share.low:.2f})" if share.low and share.high else ""
        return f"{1 / share.ratio:.2f}{ends}"

    def _speeds(self, runtime: str) -> Speeds:
        def make() -> Speeds:
            exact, ours = self._floats().get(runtime), self._artifacts().get(runtime)
            if exact is None:
                return Speeds(shares={}, reason="no fp32")
            files = [exact, *([ours] if ours else [])]
            if runtime == "onnxruntime" and self._subject.eval_data is None:
                files += [path for _, path in self._files_of(self._peers())]
            print(f"{self._subject.name}: timing in {runtime}", file=sys.stderr, flush=True)
            try:
                found = take_turns(
                    runtime, files, processes=self._arguments.processes, turns=self._arguments.turns
                )  # fmt: skip
            except (BrokenProcessPool, OSError, ValueError) as error:
                return Speeds(shares={}, reason=f"{type(error).__name__}: {error}")
            return Speeds(shares={str(file): share for file, share in zip(files, found, strict=True)})

        return once(self._folder / f"speed-{runtime}.json", Speeds, make)


class Stopwatch:
    """Progress callback of a flow: records the time at each reading of a source, and prints every new stage to stderr.

    A quantization reads its source first, and the quantizer's result when that is compiled.
    """

    def __init__(self, title: str) -> None:
        self._title, self._stage = title, ""
        self._marks: list[Spent] = []

    def __call__(self, text: str) -> None:
        if text.endswith(": reading"):
            self.mark()
        stage = text.partition(":")[0]
        if stage != self._stage:
            self._stage = stage
            print(f"{self._title}: {text}", file=sys.stderr, flush=True)

    def mark(self) -> None:
        usages = [getrusage(who) for who in (RUSAGE_SELF, RUSAGE_CHILDREN)]
        self._marks.append(Spent(wall=monotonic(), cpu=sum(usage.ru_utime + usage.ru_stime for usage in usages)))

    def between(self, first: int, last: int) -> Spent:
        a, b = self._marks[first], self._marks[last]
        return Spent(wall=b.wall - a.wall, cpu=b.cpu - a.cpu)


def once(path: Path, kind: type[Kind], make: Callable[[], Kind]) -> Kind:
    """Return the result of an earlier start in `path`, or that of `make`, which is stored there."""
    if not path.is_file():
        made = make()
        partial = path.with_suffix(".partial")
        partial.write_bytes(msgspec.json.encode(made))
        partial.replace(path)
    return msgspec.json.decode(path.read_bytes(), type=kind)


# Words


def rows_of(name: str, made: Quantization, bench: Bench) -> list[list[str]]:
    return [make_row(name, row, made, bench) for row in made.report.artifacts]


def make_row(name: str, row: QuantizedRow, made: Quantization, bench: Bench) -> list[str]:
    """A row that a gate rejected has all figures but the time."""
    metric = row.metric
    timed = row.path is not None and row.precision == "w8a8"
    return [
        f"**{name}**" if name.startswith("edgewright") else name,
        row.runtime,
        format_metric(metric),
        f"{(metric.reference - metric.value) * 100:.2f}" if metric else "–",
        format_share(row.agreement),
        format_number(row.sqnr_db, "{:.1f}"),
        format_number(row.bytes_ratio, "{:.2f}"),
        bench.measure_speed(row.runtime, row.path) if timed and row.path else "–",
        f"{made.quantizer.wall:.0f} ({made.quantizer.cpu:.0f})",
    ]


def format_metric(metric: Any) -> str:
    return "–" if metric is None else f"{metric.value * 100:.2f} % ({metric.low * 100:.1f}–{metric.high * 100:.1f})"


def format_share(value: float | None) -> str:
    return "–" if value is None else f"{value * 100:.2f} %"


def format_number(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def print_cost(made: Quantization) -> None:
    """Print the seconds, the operators with more precision, and the share of integer operators."""
    report = made.report
    sites = report.quantization.sites if report.quantization else ()
    kept = [f"{site.node} ({site.precision})" for site in sites if site.kept]
    named = ", ".join([*kept[:FEW], *(["…"] if len(kept) > FEW else [])]) or "none"
    shares = [f"{row.runtime} {row.int8_share:.0%}" for row in report.artifacts if row.int8_share is not None]
    runtimes = ", ".join(row.runtime for row in report.artifacts)
    print(
        f"\n{report.precision}: quantising {made.quantizer.wall:.0f} s ({made.quantizer.cpu:.0f} s of CPU), with"
        f" compiling, evaluating and timing for {runtimes} {made.whole.wall:.0f} s"
        f" ({made.whole.cpu:.0f} s of CPU); {len(kept)} of {len(sites)} layers kept better: {named};"
        f" on integers: {', '.join(shares) or 'unknown'}",
        flush=True,
    )


def print_rejections(made: Quantization) -> None:
    for row in made.report.artifacts:
        if row.reason:
            print(f"{row.runtime} {row.precision}, {row.state}: {row.reason}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except EdgewrightError as error:
        raise SystemExit(str(error)) from error
