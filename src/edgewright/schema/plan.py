"""A plan is everything that decides a result: stored with the run, printed by --dry-run, read by --plan."""

from hashlib import sha256
from typing import Any, Literal

import msgspec
from msgspec import Struct

from edgewright.schema.vocabulary import Precision

TIMEOUT_S = 120.0  # the longest silence of a worker


class Candidate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing to be measured: a model file in a runtime with that runtime's own options."""

    model: str
    runtime: str
    options: dict[str, str] = {}
    model_sha256: str = ""


class BenchmarkPlan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that decides a benchmark.

    Attributes:
        candidates: measured in turn; the first is the reference of the verdicts.
        threads: threads that each runtime may use for one inference.
        affinity: processors that the worker is bound to; empty leaves the choice to the system.
        runs: timed inferences per process; None measures `seconds` long (between 10 and 1,000).
        seconds: time of the steady part of one process where `runs` is None.
        processes: fresh processes per candidate.
        interleave: `chunks` lets the candidates of one round live side by side and takes turns between short chunks
            of their samples; `processes` runs one process after the other, for devices where two do not fit.
        shapes: sizes for inputs whose shape is free.
        inputs: path of an .npz with one array per input; None makes seeded inputs.
        seed: of the made inputs.
        warmup_seconds: the warm-up of one process ends here even if it is not steady.
        timeout_s: the longest silence of a worker.
        layers: whether a separate pass profiles the layers.
        layer_runs: profiled inferences.
        threshold: the smallest relative difference that counts as one.
        power_w: power that the user states for this device, for an energy estimate.
    """

    schema: str = "edgewright.plan/1"
    candidates: tuple[Candidate, ...]
    device: str = "local"
    threads: int = 1
    affinity: tuple[int, ...] = ()
    runs: int | None = None
    seconds: float = 0.2
    processes: int = 15
    interleave: Literal["chunks", "processes"] = "chunks"
    shapes: dict[str, tuple[int, ...]] = {}
    inputs: str | None = None
    inputs_sha256: str = ""
    seed: int = 0
    warmup_seconds: float = 2.0
    timeout_s: float = TIMEOUT_S
    layers: bool = True
    layer_runs: int = 30
    threshold: float = 0.02
    power_w: float | None = None


def encode_plan(plan: Struct) -> bytes:
    """The plan as canonical JSON: the same plan gives the same bytes."""
    return msgspec.json.encode(plan, order="sorted")


def hash_plan(plan: BenchmarkPlan) -> str:
    """Hash of what is measured: paths do not count, content hashes do."""
    candidates = tuple(msgspec.structs.replace(c, model=c.model_sha256) for c in plan.candidates)
    bare = msgspec.structs.replace(plan, candidates=candidates, inputs=None)
    return sha256(encode_plan(bare)).hexdigest()


class CompileCell(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One artifact that is wanted."""

    runtime: str
    precision: Precision
    options: dict[str, str] = {}


class ModelMetadata(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an app must know besides the model, for formats that can carry it.

    Attributes:
        labels: names of the classes along the last axis of the first output.
        mean: per channel of the first input, or one for all: the model takes (v − mean) / std.
        std: as many as `mean`.
    """

    labels: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


class CompilePlan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that decides what a compile gives.

    Attributes:
        source: path of the model; `FILE.py:FACTORY` for a torch model.
        weights: path of the weights of a torch model made by a factory.
        cells: in the order in which they are compiled.
        shapes: sizes for inputs whose shape is free.
        check: whether the artifacts are run and compared with the source.
        samples: number of seeded inputs they are compared on.
        inputs: path of an .npz with one array per input, instead of seeded inputs.
        seed: of the made inputs.
        timeout_s: the longest silence of a worker.
        metadata: what the artifact shall say of itself where its format can.
    """

    schema: str = "edgewright.compile-plan/1"
    source: str
    source_sha256: str = ""
    weights: str | None = None
    cells: tuple[CompileCell, ...]
    shapes: dict[str, tuple[int, ...]] = {}
    check: bool = True
    samples: int = 8
    inputs: str | None = None
    inputs_sha256: str = ""
    seed: int = 0
    timeout_s: float = 600.0
    metadata: ModelMetadata | None = None


class EvaluatePlan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that decides an evaluation.

    Attributes:
        candidates: the first is the reference of agreement and of the paired differences.
        task: `edgewright.task/1` as plain values.
        code: functions that `data` and the task's metric may name: the user allowed them to run.
        data: as the user named it.
        data_fingerprint: of its content, as far as it has one.
        samples: evaluate the samples that `tasks.data.split` chooses; None evaluates all.
        leave_out: evaluate all but those that it chooses, as after a calibration on them.
        indices: evaluate these, in this order.
        seed: of the choice.
        threads: threads that each runtime may use for one inference.
        timeout_s: the longest silence of a worker.
    """

    schema: str = "edgewright.evaluation/1"
    candidates: tuple[Candidate, ...]
    device: str = "local"
    task: dict[str, Any]
    code: tuple[str, ...] = ()
    data: str
    data_fingerprint: str = ""
    samples: int | None = None
    leave_out: int | None = None
    indices: tuple[int, ...] | None = None
    seed: int = 0
    threads: int = 1
    timeout_s: float = TIMEOUT_S


class QuantizePlan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that decides what a quantisation gives.

    Attributes:
        source: path of the model; `FILE.py:FACTORY` for a torch model.
        weights: path of the weights of a torch model made by a factory.
        runtimes: that the quantised graph is compiled for, evaluated and timed in.
        precision: of the result; `auto` chooses by architecture.
        task: `edgewright.task/1` as plain values.
        code: functions that `data` and the task's metric may name: the user allowed them to run.
        data: as the user named it: calibration takes `samples` of it, the rest judges the result.
        eval_data: another data set that judges instead.
        samples: calibration samples, without their labels.
        seed: of their choice.
        shapes: sizes for inputs whose shape is free; those that the task gives by default.
        recipe: as TOML; empty where one is to be made.
        max_drop: of the metric: in points of a share, else in its own unit.
        measure: whether the artifacts are timed against float ones.
        force: keep a result that is slower than float.
        integer_io: whether artifacts take and give integers, in the runtimes whose compilers know how.
        qat: settings of a fine-tuning under the graph's own rounding, by the words of `training.job.Settings`; None
            leaves the weights as they were rounded. Then all of `data` is trained on, but the share `held_out`.
        control: whether the float model is trained for the same steps, to be compared with.
        timeout_s: the longest silence of a worker.
    """

    schema: str = "edgewright.quantize-plan/1"
    source: str
    source_sha256: str = ""
    weights: str | None = None
    runtimes: tuple[str, ...]
    precision: Precision | Literal["auto"] = "w8a8"
    task: dict[str, Any]
    code: tuple[str, ...] = ()
    data: str
    data_fingerprint: str = ""
    eval_data: str | None = None
    samples: int = 100
    seed: int = 0
    shapes: dict[str, tuple[int, ...]] = {}
    recipe: str = ""
    max_drop: float = 1.0
    measure: bool = True
    force: bool = False
    integer_io: bool = False
    qat: dict[str, Any] | None = None
    held_out: float = 0.1
    control: bool = True
    timeout_s: float = 600.0


class PrunePlan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that decides what pruning gives.

    Attributes:
        source: path of the model; `FILE.py:FACTORY` for a torch model.
        weights: path of the weights of a torch model made by a factory.
        runtime: that it is timed and judged in.
        task: `edgewright.task/1` as plain values.
        code: functions that `data` and the task's metric may name: the user allowed them to run.
        data: what it is trained on again, as the user named it; empty where it is not trained.
        val: what judges the result, and nothing else.
        method: whole channels, heads and neurons; or single weights.
        importance: what tells which of them matter least.
        target_speedup: time in the runtime before over after.
        target_bytes, target_macs: as the user wrote it: an amount (`800kB`, `15M`), or a factor (`2x` less).
        max_drop: of the metric: in points of a share, else in its own unit. Without a target it is the budget.
        sparsity, scope, pattern: of single weights: the share that is zero, over all layers or in each, and `N:M`.
        multiple: channel counts are multiples of it where they can be.
        rounds: steps on the way to the target, each trained for `round_epochs`.
        settings: of the training, by the words of `training.job.Settings`; those missing have their defaults.
        held_out: share of `data` that steers search and early stopping instead of being trained on.
        seeds: how often the last training is repeated.
        teach: whether the source teaches what is trained, pruned network and control alike.
        views: augmentations of each sample that it is asked about.
        temperature, alpha: of that teaching, see `training.job.Teaching`. Without labels alpha is 1.
        control: whether the unpruned network is trained for the same steps.
        threads: of the timed inferences.
        shapes: of a torch model's inputs; those that the task gives by default.
        timeout_s: the longest silence of a worker.
    """

    schema: str = "edgewright.prune-plan/1"
    source: str
    source_sha256: str = ""
    weights: str | None = None
    runtime: str = "onnxruntime"
    task: dict[str, Any]
    code: tuple[str, ...] = ()
    data: str = ""
    data_fingerprint: str = ""
    val: str
    val_fingerprint: str = ""
    method: Literal["structured", "unstructured"] = "structured"
    importance: Literal["l1", "l2", "bn-gamma", "taylor", "latency"] = "taylor"
    target_speedup: float | None = None
    target_bytes: str = ""
    target_macs: str = ""
    max_drop: float = 1.0
    sparsity: float = 0.8
    scope: Literal["global", "layer"] = "global"
    pattern: str = ""
    multiple: int = 8
    rounds: int = 1
    round_epochs: float = 1.0
    settings: dict[str, Any] = {}
    held_out: float = 0.1
    seeds: int = 1
    teach: bool = True
    views: int = 4
    temperature: float = 4.0
    alpha: float = 0.9
    control: bool = True
    threads: int = 1
    shapes: dict[str, tuple[int, ...]] = {}
    timeout_s: float = 600.0


class DistillPlan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that decides what a student learns.

    Attributes:
        teacher: `FILE.py:FACTORY`, or a model file or artifact that one of the runtimes runs.
        teacher_weights: path of the weights of a torch teacher.
        student: `FILE.py:FACTORY`; or `auto:Nx`, a network of the teacher's family with N times fewer parameters.
        student_weights: path of the weights it starts from; None starts at nothing.
        runtime: that teacher (if it is a file), student and control are judged and timed in.
        task, code, data, val, settings, held_out, seeds, threads, shapes, timeout_s: as in `PrunePlan`.
        temperature, alpha, transfer, transfer_weight: see `training.job.Teaching`. Without labels alpha is 1.
        views: augmentations of each sample that the teacher is asked about, once for all epochs and seeds.
        control: whether the same student is trained without the teacher for the same steps.
        max_drop: of the metric against the control's; exit 3 where it is worse by more.
    """

    schema: str = "edgewright.distil-plan/1"
    teacher: str
    teacher_sha256: str = ""
    teacher_weights: str | None = None
    student: str
    student_weights: str | None = None
    runtime: str = "onnxruntime"
    task: dict[str, Any]
    code: tuple[str, ...] = ()
    data: str
    data_fingerprint: str = ""
    val: str
    val_fingerprint: str = ""
    temperature: float = 4.0
    alpha: float = 0.9
    transfer: Literal["none", "features", "attention"] = "none"
    transfer_weight: float = 1.0
    views: int = 4
    settings: dict[str, Any] = {}
    held_out: float = 0.1
    seeds: int = 1
    control: bool = True
    max_drop: float = 0.0
    threads: int = 1
    shapes: dict[str, tuple[int, ...]] = {}
    timeout_s: float = 600.0
