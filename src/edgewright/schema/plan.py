"""Plans: everything that determines a result. Stored with the run, printed by --dry-run, read by --plan."""

from hashlib import sha256
from typing import Any, Literal

import msgspec
from msgspec import Struct, field

from edgewright.schema.vocabulary import ImportanceCriterion, Precision, TransferLoss

THRESHOLD = 0.02  # smallest relative difference of times that is reported as one
TIMEOUT_S = 120.0  # longest time without a message from a worker
# Fields of plans whose option has another name, by option.
OPTION_FIELDS = {
    "timeout": "timeout_s",
    "on": "device",
    "shape": "shapes",
    "fix": "fixed",
    "sustain": "sustain_seconds",
}


class Candidate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model file in a runtime with its options."""

    model: str
    runtime: str
    options: dict[str, str] = {}
    model_sha256: str = ""
    threads: int | None = None


class BenchmarkPlan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that determines a benchmark.

    Attributes:
        candidates: measured alternately; the first is the reference of the verdicts.
        threads: threads that each runtime may use for one inference.
        affinity: processors that the worker is bound to; empty leaves the choice to the system.
        cores: `big`, `little`, `all`, or processors as `0-3`, of the device; they become `affinity`.
        runs: timed inferences per process; None measures for `seconds` (between 10 and 1,000).
        seconds: duration of the steady part of one process if `runs` is None.
        processes: fresh processes per candidate.
        interleave: `chunks` keeps the candidates of one round loaded and alternates between short chunks of samples;
            `processes` runs one process after the other, for devices without memory for two.
        shapes: sizes for dynamic dimensions.
        fixed: values of inputs that are not generated: one for all elements, or one for each.
        inputs: path of an .npz with one array per input; None generates seeded inputs.
        seed: of the generated inputs.
        warmup_seconds: maximum duration of a process's warm-up.
        timeout_s: longest time without a message from a worker.
        layers: whether a separate pass profiles the layers.
        layer_runs: profiled inferences.
        threshold: the smallest relative difference that is significant.
        power_w: power that the user states for this device, for an energy estimate.
        sustain_seconds: duration of a sustained load after the measurement; 0 for none.
        rate: inferences per second of the sustained load; None for as many as possible.
        cool_below: temperature in °C below which the device must be before the measurement and the sustained load.
        phase_task: task of the samples on which the phases of an inference are timed; None for none.
        phase_data: these samples: files, no function.
    """

    schema: str = "edgewright.plan/1"
    candidates: tuple[Candidate, ...]
    device: str = "local"
    threads: int = 1
    affinity: tuple[int, ...] = ()
    cores: str = ""
    runs: int | None = None
    seconds: float = 0.2
    processes: int = 15
    interleave: Literal["chunks", "processes"] = "chunks"
    shapes: dict[str, tuple[int, ...]] = {}
    fixed: dict[str, tuple[int | float, ...]] = {}
    inputs: str | None = None
    inputs_sha256: str = ""
    seed: int = 0
    warmup_seconds: float = 2.0
    timeout_s: float = TIMEOUT_S
    layers: bool = True
    layer_runs: int = 30
    threshold: float = THRESHOLD
    power_w: float | None = None
    sustain_seconds: float = 0.0
    rate: float | None = None
    cool_below: float | None = None
    phase_task: dict[str, Any] | None = None
    phase_data: str = ""


def encode_plan(plan: Struct) -> bytes:
    """Return the plan as canonical JSON: equal plans give equal bytes."""
    return msgspec.json.encode(plan, order="sorted")


def hash_plan(plan: Struct) -> str:
    """Return the hash of a plan of any kind, with content hashes instead of the paths that they belong to."""
    bare = msgspec.to_builtins(plan)
    _drop_paths(bare)
    return sha256(msgspec.json.encode(bare, order="sorted")).hexdigest()


def _drop_paths(bare: dict[str, Any]) -> None:
    """Replace the paths in a plan, and in plans that are part of it, by content hashes."""
    for candidate in bare.get("candidates", ()):
        candidate["model"] = candidate["model_sha256"] or candidate["model"]
    for name, value in bare.items():
        if f"{name}_sha256" in bare or bare.get(f"{name}_fingerprint"):
            bare[name] = None
        elif name in ("timing", "evaluation") and value is not None:
            _drop_paths(value)
    if "source_sha256" in bare:
        bare["weights"] = None  # part of the source's hash


class CompileCell(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One requested artifact."""

    runtime: str
    precision: Precision
    options: dict[str, str] = {}


class ModelMetadata(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Metadata for apps, for formats that can store it.

    Attributes:
        labels: names of the classes along the last axis of the first output.
        mean: per channel of the first input, or one for all: the model's input is (v − mean) / std.
        std: of the same length as `mean`.
    """

    labels: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


class CompilePlan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that determines a compile.

    Attributes:
        source: path of the model; `FILE.py:FACTORY` for a torch model.
        weights: path of the weights of a torch factory's model.
        cells: in compile order.
        shapes: sizes of inputs.
        sizes: `shapes` for each of several artifacts of a cell, which form a set; otherwise empty.
        fixed: values of inputs that become constants: one for all elements, or one for each.
        device: on which the artifacts are run.
        check: whether the artifacts are run and compared with the source.
        samples: number of seeded inputs for the comparison.
        inputs: path of an .npz with one array per input, instead of seeded inputs.
        seed: of the generated inputs.
        timeout_s: longest time without a message from a worker.
        metadata: stored in the artifact if its format supports it.
        custom_ops: folder of custom operators.
    """

    schema: str = "edgewright.compile-plan/1"
    source: str
    source_sha256: str = ""
    device: str = "local"
    weights: str | None = None
    cells: tuple[CompileCell, ...]
    shapes: dict[str, tuple[int, ...]] = {}
    sizes: tuple[dict[str, tuple[int, ...]], ...] = ()
    fixed: dict[str, tuple[int | float, ...]] = {}
    check: bool = True
    samples: int = 8
    inputs: str | None = None
    inputs_sha256: str = ""
    seed: int = 0
    timeout_s: float = 600.0
    metadata: ModelMetadata | None = None
    custom_ops: str | None = None
    custom_ops_sha256: str = ""


class EvaluatePlan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that determines an evaluation.

    Attributes:
        candidates: the first is the reference of agreement and of the paired differences.
        task: `edgewright.task/1` as plain values.
        code: functions that `data` and the task's metric may use: the user allowed them to run.
        data: as the user named it.
        data_fingerprint: of its content, if it has one.
        samples: evaluate the samples that `tasks.data.split` selects; None evaluates all.
        leave_out: evaluate all samples except those, for example after a calibration on them.
        indices: evaluate these, in this order.
        fixed: values of inputs that the task does not have: one for all elements, or one for each.
        seed: of the selection.
        threads: threads that each runtime may use for one inference.
        timeout_s: longest time without a message from a worker.
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
    fixed: dict[str, tuple[int | float, ...]] = {}
    seed: int = 0
    threads: int = 1
    timeout_s: float = TIMEOUT_S


class QuantizePlan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that determines a quantization.

    Attributes:
        source: path of the model; `FILE.py:FACTORY` for a torch model.
        weights: path of the weights of a torch factory's model.
        device: on which the artifacts are run.
        runtimes: for which the quantized graph is compiled, evaluated and timed.
        precision: of the result; `auto` chooses by architecture.
        task: `edgewright.task/1` as plain values.
        code: functions that `data` and the task's metric may use: the user allowed them to run.
        data: as the user named it: `samples` of it are calibration data, the rest is the test set.
        eval_data: a separate test set.
        samples: number of calibration samples, used without their labels.
        seed: of their selection.
        shapes: sizes of inputs; by default those of the task.
        fixed: values of inputs that become constants: one for all elements, or one for each.
        recipe: as TOML; empty to create one.
        max_drop: allowed drop of the metric, in points of a share, else in its own unit; None allows 1 point of a share
            and 1 % of any other metric.
        report: whether the error of each operator alone is measured for the report.
        measure: whether the artifacts are timed against float ones.
        force: keep artifacts that are slower than float.
        integer_io: whether artifacts have integer inputs and outputs, if the converter supports it.
        qat: settings of quantization-aware training, with the names of `training.job.Settings`; None keeps the rounded
            weights. It uses all of `data` except the share `held_out`.
        control: whether the float model is trained for the same steps, as a baseline.
        timeout_s: longest time without a message from a worker.
    """

    schema: str = "edgewright.quantize-plan/1"
    source: str
    source_sha256: str = ""
    device: str = "local"
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
    fixed: dict[str, tuple[int | float, ...]] = {}
    recipe: str = ""
    max_drop: float | None = None
    report: bool = False
    measure: bool = True
    force: bool = False
    integer_io: bool = False
    qat: dict[str, Any] | None = None
    held_out: float = 0.1
    control: bool = True
    timeout_s: float = 600.0


class PrunePlan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that determines a pruning.

    Attributes:
        source: path of the model; `FILE.py:FACTORY` for a torch model.
        weights: path of the weights of a torch factory's model.
        runtime: in which it is timed and evaluated.
        task: `edgewright.task/1` as plain values.
        code: functions that `data` and the task's metric may use: the user allowed them to run.
        data: fine-tuning data, as the user named it; empty without fine-tuning.
        val: the test set.
        method: `structured` (channels, heads, neurons) or `unstructured` (single weights).
        importance: criterion for the units to remove.
        target_speedup: time in the runtime before over after.
        target_bytes, target_macs: as the user wrote it: an amount (`800kB`, `15M`), or a factor (`2x` less).
        max_drop: allowed drop of the metric, in points of a share, else in its own unit. Without a target it is the
            budget.
        sparsity, scope, pattern: of single weights: the share that is zero, over all layers or in each, and `N:M`.
        multiple: channel counts are multiples of it if possible.
        rounds: steps to the target, each trained for `round_epochs`.
        settings: of the training, with the names of `training.job.Settings`; missing ones have their defaults.
        held_out: share of `data` that is the validation set for search and early stopping.
        seeds: repetitions of the last training.
        distill: whether pruned network and control are distilled from the source.
        views: augmentations of each sample for which the source's outputs are computed.
        temperature, alpha: see `training.job.DistillationSettings`. Without labels alpha is 1.
        control: whether the unpruned network is trained for the same steps.
        threads: of the timed inferences.
        shapes: of a torch model's inputs; by default those of the task.
        timeout_s: longest time without a message from a worker.
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
    importance: ImportanceCriterion = "taylor"
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
    distill: bool = field(default=True, name="teach")
    views: int = 4
    temperature: float = 4.0
    alpha: float = 0.9
    control: bool = True
    threads: int = 1
    shapes: dict[str, tuple[int, ...]] = {}
    timeout_s: float = 600.0


class DistillPlan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that determines a distillation.

    Attributes:
        teacher: `FILE.py:FACTORY`, or a model file or artifact that one of the runtimes runs.
        teacher_weights: path of the weights of a torch teacher.
        student: `FILE.py:FACTORY`; or `auto:Nx`, a network of the teacher's family with N times fewer parameters.
        student_weights: path of the initial weights; None trains from scratch.
        runtime: in which teacher (if it is a file), student and control are evaluated and timed.
        task, code, data, val, settings, held_out, seeds, threads, shapes, timeout_s: as in `PrunePlan`.
        temperature, alpha, transfer, transfer_weight: see `training.job.DistillationSettings`. Without labels alpha is
            1.
        views: augmentations of each sample for which the teacher's outputs are computed, once for all epochs and seeds.
        control: whether the same student is trained without the teacher for the same steps.
        max_drop: allowed drop of the metric against the control; exit 3 if it is exceeded.
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
    transfer: TransferLoss = "none"
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


class GatePlan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that determines a check against a baseline.

    Attributes:
        timing: how the model, its only candidate, is measured.
        evaluation: how it is evaluated; None without data.
        baseline: path of the baseline file.
        goals: in the grammar of `schema.goals`.
        undecided: whether the gate passes if a goal is not shown.
    """

    schema: str = "edgewright.gate-plan/1"
    timing: BenchmarkPlan
    evaluation: EvaluatePlan | None = None
    baseline: str
    baseline_sha256: str = ""
    goals: str
    undecided: Literal["pass", "fail"] = "pass"
