"""The jobs of a training process, its messages and its results."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from edgewright.quantization.job import JobError, JobFinished, StageProgress
from edgewright.schema.vocabulary import AdapterMethod, TransferLoss


class ModuleSource(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A torch module.

    Attributes:
        factory: `FILE.py:FACTORY`.
        weights: path of its weights (`.safetensors`, or a `.pt` without code); None keeps those of the factory.
        slices: path of `slices.json` (see `slices.py`) with the kept indices of weights: applied to the module that
            `factory` builds and, with `whole_weights`, to its weights too.
        whole_weights: whether `weights` are those of the original module, not of the sliced one.
        fresh: whether to initialize the weights from the seed (a student that starts untrained).
    """

    factory: str
    weights: str | None = None
    slices: str | None = None
    whole_weights: bool = False
    fresh: bool = False


class CachedDataset(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Samples as files, read by memory map.

    Attributes:
        inputs: by name of the model's input, a `.npy` of [samples, …] without the batch of 1.
        labels: a `.npy` of [samples] (int64 classes) or [samples, k] (numbers); empty without labels.
        fit, held_out: indices of the training samples and of the validation samples (early stopping, search).
        indices: of the samples in their dataset, by index here; unreadable samples are missing.
    """

    inputs: dict[str, str]
    labels: str
    fit: tuple[int, ...]
    held_out: tuple[int, ...]
    indices: tuple[int, ...] = ()


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Training settings.

    Attributes:
        epochs: passes over `fit`; may be fractional.
        batch: samples per step.
        lr: highest learning rate.
        schedule: `cosine` and `one-cycle` end near 0.
        warmup: share of the steps with a rising rate (cosine, constant).
        optimizer: SGD with Nesterov momentum, or AdamW.
        momentum, weight_decay: weight decay excludes biases and normalization.
        label_smoothing: of cross entropy with labels.
        clip: maximum norm of the gradient; 0 disables clipping.
        precision: `auto` uses bf16 if the processor (or GPU) supports it natively and the loss agrees.
        patience: epochs without a better validation metric until training stops; 0 disables early stopping.
        checkpoint_s: seconds between checkpoints.
        threads: torch's threads; 0 uses torch's default, or an equal share for parallel trainings.
        seed: of order, augmentation and initial weights.
    """

    epochs: Annotated[float, Meta(gt=0, le=1e6)] = 10.0
    batch: Annotated[int, Meta(ge=2, le=1 << 20)] = 128  # normalization over one sample has no variance
    lr: Annotated[float, Meta(gt=0, le=1e6)] = 0.05
    schedule: Literal["cosine", "one-cycle", "constant"] = "cosine"
    warmup: Annotated[float, Meta(ge=0, le=1)] = 0.05
    optimizer: Literal["sgd", "adamw"] = "sgd"
    momentum: Annotated[float, Meta(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Meta(ge=0, le=1e6)] = 5e-4
    label_smoothing: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    clip: Annotated[float, Meta(ge=0, le=1e9)] = 5.0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    patience: Annotated[int, Meta(ge=0)] = 0
    checkpoint_s: Annotated[float, Meta(ge=0)] = 60.0
    threads: Annotated[int, Meta(ge=0, le=4096)] = 0
    seed: Annotated[int, Meta(ge=0, lt=1 << 32)] = 0


class DistillationSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Distillation settings.

    Attributes:
        logits: a `.npy` of [views, fit, …], the teacher's outputs for each view of each sample of `fit` (see
            `augment.py`); empty if `teacher` runs during training.
        views: number of views.
        teacher: a torch module that runs during training; required for features and attention.
        temperature: divisor of both logits (Hinton et al. 2015).
        alpha: weight of the teacher loss; 1 − alpha is that of the label loss. 1 requires no labels.
        transfer: `features` compares outputs of the stages after a learned 1 × 1 projection (Romero et al. 2015),
            `attention` their normalized maps of squared channels (Zagoruyko and Komodakis 2017).
        transfer_weight: weight of the transfer loss.
    """

    logits: str = ""
    views: int = 0
    teacher: ModuleSource | None = None
    temperature: float = 4.0
    alpha: float = 0.9
    transfer: TransferLoss = "none"
    transfer_weight: float = 1.0


class SparsitySettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of unstructured pruning during training.

    Attributes:
        sparsity: final share of zeros in the weights of convolutions and matrix products.
        scope: whether the smallest weights are chosen over all layers or per layer.
        pattern: `N:M` keeps the N largest of each M along the input channels; empty for no pattern.
        until: share of the steps after which the masks are fixed (cubic rise before, Zhu and Gupta 2017).
    """

    sparsity: float = 0.8
    scope: Literal["global", "layer"] = "global"
    pattern: str = ""
    until: float = 0.5


class TrainJob(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="train"):
    """A training.

    Attributes:
        title: title of its progress lines, for example `pruned, seed 1 of 3`.
        module: a torch module; None if a graph is trained.
        graph: path of a QDQ ONNX graph for quantization-aware training.
        float_graph: path of its float ONNX graph, whose weights are the initial ones; without `graph` it is trained
            itself, with folded batch normalizations as in `graph`.
        shapes: of the inputs, with the batch of 1.
        task: `edgewright.task/1` as JSON.
        code: functions that the metric may name because the user allowed them.
        data, settings: training data and settings.
        teaching, thinning: settings of distillation and unstructured pruning, or None.
        outputs: names of a module's outputs in `model.onnx`, in order; empty keeps torch's names.
        out: folder for `weights.safetensors` (module) or nothing (graph), `model.onnx` and `report.json`.
        memory: folder of checkpoints; the same job resumes from the last one.
    """

    title: str
    module: ModuleSource | None = None
    graph: str = ""
    float_graph: str = ""
    shapes: dict[str, tuple[int, ...]]
    task: str
    code: tuple[str, ...] = ()
    data: CachedDataset
    settings: Settings
    teaching: DistillationSettings | None = None
    thinning: SparsitySettings | None = None
    outputs: tuple[str, ...] = ()
    out: str
    memory: str


class InspectJob(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="inspect"):
    """An inspection of a module for a search.

    Attributes:
        module, shapes, task, data, settings: as in `TrainJob`; `settings` for batch, precision and seed.
        taylor: whether to write `importance.npz` from `taylor_samples` of `data.fit`: by parameter name the squared
            product of weight and gradient, summed over batches, with the parameter's shape (Molchanov et al. 2019).
        groups: whether to find out which groups of channels, neurons and heads can be sliced.
        student: factor of fewer parameters of a student, written as `student.slices.json`; 0 for none.
        out: folder for `named.onnx` (the module's graph before any optimization: parameters and buffers are
            initializers with their names in the module, normalization is not folded), `weights.safetensors` (its
            state), and `inspected.json`.
    """

    module: ModuleSource
    shapes: dict[str, tuple[int, ...]]
    task: str
    data: CachedDataset | None = None
    settings: Settings = Settings()
    taylor: bool = False
    taylor_samples: int = 1024
    groups: bool = False
    student: float = 0.0
    out: str


class TeacherJob(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="ask"):
    """A run of a teacher for every view of every training sample.

    Attributes:
        teacher: as a torch module.
        out: path of the `.npy` of [views, fit, …] (float16 or float32), written under another name until it is
            complete; an incomplete file is resumed.
    """

    teacher: ModuleSource
    shapes: dict[str, tuple[int, ...]]
    task: str
    data: CachedDataset
    settings: Settings
    views: int
    out: str


class AdapterSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an adaptation trains (see `adapters/layers.py`), and how it keeps to the original module.

    Attributes:
        rank: of low-rank updates.
        replay: replayed samples for each sample of the user's.
        weight: weight of the loss of replayed samples, the divergence from the original module's outputs.
        temperature: divisor of both logits in it.
    """

    method: AdapterMethod = "lora"
    rank: Annotated[int, Meta(ge=1, le=4096)] = 4
    replay: Annotated[int, Meta(ge=0, le=1000)] = 3
    weight: Annotated[float, Meta(ge=0, le=1e6)] = 6.0
    temperature: Annotated[float, Meta(gt=0, le=1e3)] = 2.0


class PersonalJob(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="personalize"):
    """A training for one user.

    Attributes:
        title, module, shapes, task, code, settings: as in `TrainJob`.
        data: of the user; `fit` is trained on.
        val: other samples of the user; `fit` is evaluated.
        replay: `fit` is replayed without its labels.
        public: `held_out` is evaluated.
        out: folder for `adapter.safetensors`, `weights.safetensors` and `model.onnx` of the module with the adapter
            merged into its weights, and `report.json`.
    """

    title: str = "personal model"
    module: ModuleSource
    shapes: dict[str, tuple[int, ...]]
    task: str
    code: tuple[str, ...] = ()
    data: CachedDataset
    val: CachedDataset
    replay: CachedDataset
    public: CachedDataset
    adapter: AdapterSettings
    settings: Settings
    out: str


class ApplyJob(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="apply"):
    """A module with an adapter merged into its weights, as in `PersonalJob.out`."""

    module: ModuleSource
    adapter: str
    out: str


WorkerJob = TrainJob | InspectJob | TeacherJob | PersonalJob | ApplyJob


class Curve(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One quantity over the steps: `loss`, `lr`, `held-out.METRIC`, `loss.labels`, `loss.teacher`, `sparsity` …"""

    name: str
    unit: str
    steps: tuple[int, ...]
    values: tuple[float, ...]


class TrainReport(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The result of a training.

    Attributes:
        steps: number of steps; `planned` is the planned number.
        precision: compute precision.
        threads: number of threads at the end; a note lists others.
        metric: of the validation samples at the end; None without labels.
        best_step: step of the written weights: the last one, or with `patience` that of the best validation metric.
        seconds: duration of the loop, including earlier attempts.
        resumed: number of resumes from a checkpoint.
        parameters: of the module; `zeros` of them are zero.
        notes: notes for the user, such as an unusable checkpoint or layers that were not pruned.
    """

    schema: str = "edgewright.training/1"
    steps: int
    planned: int
    precision: str
    metric: float | None
    best_step: int
    seconds: float
    resumed: int
    parameters: int
    zeros: int
    threads: int = 0
    curves: tuple[Curve, ...]
    notes: tuple[str, ...] = ()


class PersonalReport(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The result of a training for one user: the task's metric before and after, and the cost of a step.

    Attributes:
        trained: number of trained parameters.
        replayed: number of samples that were replayed from.
        step_ms: mean time of a step.
        peak_memory_bytes: of the whole process.
    """

    user_before: float
    user_after: float
    public_before: float
    public_after: float
    parameters: int
    trained: int
    replayed: int
    steps: int
    step_ms: float
    peak_memory_bytes: int
    threads: int
    curves: tuple[Curve, ...]


JobMessage = StageProgress | JobError | JobFinished
