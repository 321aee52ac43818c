"""`edgewright prune`, `distill` and `quantize --qat` on the CIFAR-10 teacher, compared with their controls.

25,000 images are training data, a tenth of them the validation set. The 5,000 of `val5k` evaluate everything; no choice
is made on them. Parts: `prune` (half the bytes and 1.5 times the speed), `peer` (Torch-Pruning's own recipe to the same
MACs with the same epochs), `zeros` (80 % of the weights), `distil` (a student with a fifth of the parameters, three
seeds), `qat` (ResNet-8 with INT4 weights), `chain` (pruned, distilled, INT8). Speed is that of ONNX Runtime on one
thread, interleaved. With `--out` all results are kept, and a second start resumes.
"""

import argparse
import subprocess
import sys
from contextlib import closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any

import msgspec

from benchmarks.matrix import make_table
from benchmarks.measuring import MOBILENET, describe_machine
from benchmarks.torch_pruning_once import Job as PeerJob
from benchmarks.torch_pruning_once import PeerResult
from edgewright.flows.compile.sources import prepare_source
from edgewright.flows.devices.names import open_device
from edgewright.flows.distill.flow import distill
from edgewright.flows.distill.report import DistillReport
from edgewright.flows.experiment.control import EvaluationContext, compare_speed, evaluate_networks
from edgewright.flows.experiment.dataset_cache import cache_dataset
from edgewright.flows.experiment.report import MetricDelta, NetworkReport
from edgewright.flows.prune.flow import prune
from edgewright.flows.prune.report import PruneReport
from edgewright.flows.quantize.flow import quantize
from edgewright.flows.quantize.report import QuantizeReport, Speedup
from edgewright.flows.workspace import Workspace
from edgewright.formats.onnx.prepare import remove_file_exporter_metadata
from edgewright.schema.plan import CompilePlan, DistillPlan, PrunePlan, QuantizePlan
from edgewright.store.store import open_store
from edgewright.tasks.data.dataset import open_dataset
from edgewright.tasks.spec.file import read_task
from edgewright.tasks.spec.task import Augment

ROOT = Path(__file__).parents[1]
SHARED = MOBILENET.parents[1]
PARTS = ("prune", "peer", "zeros", "distil", "qat", "chain")
FACTORY, WEIGHTS = f"{SHARED}/models/cifar10_teacher.py:build", f"{SHARED}/models/cifar10_teacher.pt"
TRAIN, VAL = f"{SHARED}/cifar10/train25k.zip", f"{SHARED}/cifar10/val5k.zip"
TASK = msgspec.structs.replace(
    read_task(ROOT / "docs/examples/cifar10_teacher.toml"), augment=Augment(flip=True, shift=4)
)
WORDS = msgspec.to_builtins(TASK)
RESNET8 = f"{SHARED}/models/resnet8_cifar10.onnx"
RESNET8_WORDS = msgspec.to_builtins(
    msgspec.structs.replace(read_task(ROOT / "docs/examples/resnet8_cifar10.toml"), augment=Augment(flip=True, shift=4))
)
PRUNE, VIEWS = {"epochs": 12.0, "lr": 0.05}, 12  # a new view in each epoch
ZEROS = {"epochs": 4.0, "lr": 0.02}
DISTIL = {"epochs": 6.0, "lr": 0.1}
CHAIN, CHAIN_VIEWS = {"epochs": 10.0, "lr": 0.05}, 8
HEADS = ("network", "top-1 on val5k", "of each seed", "bytes", "packed", "parameters", "MACs", "µs")


class Bench:
    """The parts, each stored as JSON in `out`."""

    def __init__(self, out: Path, device: Any, store: Any, seeds: int) -> None:
        self._out, self._seeds = out, seeds
        self.workspace = Workspace(device, store, self.progress)
        self._began = monotonic()

    def kept(self, name: str, kind: Any, make: Any) -> Any:
        path = self._out / f"{name}.json"
        if not path.is_file():
            report, error = make()
            print(f"{name}: {error or 'passed its gate'}", flush=True)
            path.write_bytes(msgspec.json.encode(report))
        return msgspec.json.decode(path.read_bytes(), type=kind)

    def progress(self, text: str) -> None:
        print(f"{monotonic() - self._began:8.1f} s  {text}", file=sys.stderr)

    def prune(self) -> PruneReport:
        plan = PrunePlan(
            source=FACTORY, weights=WEIGHTS, task=WORDS, data=TRAIN, val=VAL, target_bytes="2x", target_speedup=1.5,
            settings=PRUNE, seeds=self._seeds, views=VIEWS,
        )  # fmt: skip
        found: PruneReport = self.kept("prune", PruneReport, lambda: prune(plan, self._out / "prune", self.workspace))
        return found

    def zeros(self) -> PruneReport:
        plan = PrunePlan(
            source=FACTORY, weights=WEIGHTS, task=WORDS, data=TRAIN, val=VAL, method="unstructured", settings=ZEROS
        )
        found: PruneReport = self.kept("zeros", PruneReport, lambda: prune(plan, self._out / "zeros", self.workspace))
        return found

    def peer(self, macs: float) -> tuple[float, int, Speedup, PeerResult]:
        """Return accuracy, bytes, speed and cost of Torch-Pruning's recipe at the same MACs."""
        out = self._out / "peer"
        out.mkdir(exist_ok=True)
        dataset = cache_dataset(
            partial(open_dataset, TRAIN, TASK), out / "data", held_out=0.1, seed=0, progress=self.progress
        )
        job = PeerJob(
            factory=FACTORY, weights=WEIGHTS, task=str(ROOT / "docs/examples/cifar10_teacher.toml"), dataset=dataset,
            shape=(1, 3, 32, 32), macs=macs, epochs=int(PRUNE["epochs"]), out=str(out),
        )  # fmt: skip
        if not (out / "result.json").is_file():
            (out / "job.json").write_bytes(msgspec.json.encode(job))
            command = [sys.executable, "-m", "benchmarks.torch_pruning_once", str(out / "job.json")]
            subprocess.run(command, cwd=ROOT, check=True)
        peer = msgspec.json.decode((out / "result.json").read_bytes(), type=PeerResult)
        context = EvaluationContext(WORDS, VAL, "onnxruntime", 1, 600.0, self.workspace)
        remove_file_exporter_metadata(out / "model.onnx")  # as ours are
        rows = evaluate_networks({"peer": out / "model.onnx"}, context)
        metric = rows["peer"].metric
        speed_comparison = compare_speed(self.source(), out / "model.onnx", context, {})
        return metric.value if metric else 0.0, (out / "model.onnx").stat().st_size, speed_comparison.speedup, peer

    def source(self) -> Path:
        """Return the teacher as ONNX."""
        path = self._out / "source.onnx"
        if not path.is_file():
            self.export(path)
        return path

    def export(self, to: Path) -> None:
        with TemporaryDirectory() as folder:
            plan = CompilePlan(source=FACTORY, weights=WEIGHTS, cells=(), shapes={"x": (1, 3, 32, 32)})
            prepared = prepare_source(plan, Path(folder), self.workspace.device, bare=True)
            to.write_bytes(Path(prepared.files["onnx"]).read_bytes())

    def distil(self) -> DistillReport:
        plan = DistillPlan(
            teacher=FACTORY, teacher_weights=WEIGHTS, student="auto:5x", task=WORDS, data=TRAIN, val=VAL,
            settings=DISTIL, seeds=3,
        )  # fmt: skip
        found: DistillReport = self.kept(
            "distil",
            DistillReport,
            lambda: distill(plan, self._out / "distil", self.workspace),
        )
        return found

    def qat(self) -> QuantizeReport:
        plan = QuantizePlan(
            source=RESNET8, runtimes=("onnxruntime",), precision="w4a8", task=RESNET8_WORDS, data=TRAIN, eval_data=VAL,
            max_drop=100.0, measure=False, qat={"epochs": 2.0},
        )  # fmt: skip
        found: QuantizeReport = self.kept(
            "qat", QuantizeReport, lambda: quantize(plan, self._out / "qat", self.workspace)
        )
        return found

    def chain(self) -> tuple[DistillReport, QuantizeReport, Speedup, int]:
        """Distill the pruned network from the teacher, then quantize to INT8; compare with the teacher in fp32."""
        cut = PrunePlan(
            source=FACTORY, weights=WEIGHTS, task=WORDS, data=TRAIN, val=VAL, target_bytes="2.45x", target_speedup=1.6,
            settings={**CHAIN, "epochs": 2.0}, control=False, max_drop=100.0,
        )  # fmt: skip
        pruned: PruneReport = self.kept(
            "chain-prune",
            PruneReport,
            lambda: prune(cut, self._out / "chain", self.workspace),
        )
        plan = DistillPlan(
            teacher=FACTORY, teacher_weights=WEIGHTS, student=pruned.module or "", student_weights=pruned.weights,
            task=WORDS, data=TRAIN, val=VAL, settings=CHAIN, views=CHAIN_VIEWS, control=False,
        )  # fmt: skip
        distilled: DistillReport = self.kept(
            "chain-distil",
            DistillReport,
            lambda: distill(plan, self._out / "chain", self.workspace),
        )
        small = QuantizePlan(
            source=distilled.model or "",
            runtimes=("onnxruntime",),
            task=WORDS,
            data=TRAIN,
            eval_data=VAL,
            max_drop=100.0,
        )
        done: QuantizeReport = self.kept(
            "chain-quantize", QuantizeReport,
            lambda: quantize(small, self._out / "chain", self.workspace),
        )  # fmt: skip
        whole = self.source()
        made = Path(done.artifacts[0].path or "")
        context = EvaluationContext(WORDS, VAL, "onnxruntime", 1, 600.0, self.workspace)
        speed_comparison = compare_speed(whole, made, context, {})
        return distilled, done, speed_comparison.speedup, whole.stat().st_size


def zstd_bytes(path: Path) -> int:
    """Return the bytes after `zstd -19`."""
    import zstandard

    return len(zstandard.ZstdCompressor(level=19).compress(path.read_bytes()))


def show_sides(sides: tuple[NetworkReport, ...]) -> str:
    rows = [
        (
            side.name,
            f"{side.mean:.2%}" if side.mean is not None else "–",
            ", ".join(f"{one.metric:.2%}" for one in side.seeds if one.metric is not None) or "–",
            f"{side.bytes:,}",
            f"{side.packed_bytes:,}",
            f"{side.parameters:,}" if side.parameters else "–",
            f"{side.macs:,}" if side.macs else "–",
            f"{side.latency_us:.0f}" if side.latency_us else "–",
        )
        for side in sides
    ]
    return make_table(HEADS, rows)


def print_delta(against: tuple[MetricDelta, ...]) -> None:
    for one in against:
        reach = f" ({one.low:+.2f} to {one.high:+.2f} over {one.over})" if one.low is not None else ""
        print(f"against {one.against}: {one.value:+.2f} {one.unit}{reach}")


def say_speed(one: Speedup | None) -> None:
    if one is not None:
        print(f"speed-up: {one.ratio:.2f} ({one.low}–{one.high})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--seeds", type=int, default=3, help="of prune; one for its time")
    parser.add_argument("--out", type=Path, default=None)
    given = parser.parse_args()
    print(describe_machine())
    with TemporaryDirectory() as folder:
        out = (given.out or Path(folder)).absolute()
        out.mkdir(parents=True, exist_ok=True)
        with closing(open_device("local")) as device, closing(open_store(out / "record")) as store:
            run(Bench(out, device, store, given.seeds), set(given.parts))


def run(bench: Bench, parts: set[str]) -> None:
    for name in ("prune", "zeros", "distil"):
        if name in parts:
            report: PruneReport | DistillReport = getattr(bench, name)()
            print(f"\n{name}, {report.seconds:.0f} s\n{show_sides(report.networks)}")
            print_delta(report.against)
            say_speed(report.speedup)
            if name == "zeros" and isinstance(report, PruneReport) and report.model:
                sizes = [zstd_bytes(path) for path in (bench.source(), Path(report.model))]
                print(f"zstd: {sizes[0]:,} to {sizes[1]:,} bytes, {sizes[0] / sizes[1]:.2f} times fewer")
    if "peer" in parts:
        sides = {side.name: side for side in bench.prune().networks}
        accuracy, size, speed, peer = bench.peer((sides["source"].macs or 0) / (sides["pruned"].macs or 1))
        print(f"\nTorch-Pruning: {accuracy:.2%}, {size:,} bytes, {peer.parameters:,} parameters, {peer.seconds:.0f} s")
        say_speed(speed)
    if "qat" in parts:
        tuned = bench.qat()
        if (one := tuned.tuning) is not None and tuned.reference is not None:
            print(f"\nw4a8: float {tuned.reference.value:.2%}, rounded {one.before.value:.2%}")
            if one.control is not None:
                print(f"float, trained for the same steps: {one.control.value:.2%}")
            print(f"trained: {one.after.value:.2%}, recovered {one.recovered}; {one.steps} steps, {one.seconds:.0f} s")
    if "chain" in parts:
        distilled, done, speed, whole = bench.chain()
        row = done.artifacts[0]
        print(f"\nchain: {show_sides(distilled.networks)}")
        print(
            f"INT8: {row.metric.value if row.metric else 0:.2%}, {row.bytes:,} bytes, "
            f"{whole / (row.bytes or 1):.2f} times smaller"
        )
        say_speed(speed)


if __name__ == "__main__":
    main()
