"""One training as a process of its own: what it is handed, what it tells, and what it leaves."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from edgewright.quantization.job import JobError, JobFinished, StageProgress


class ModuleSource(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A torch module.

    Attributes:
        factory: `FILE.py:FACTORY`.
        weights: path of its weights (`.safetensors`, or a `.pt` that holds no code); None leaves those of the factory.
        slices: path of `slices.json` (see `slices.py`), which says which indices of which weights are kept: applied to
            the module that `factory` builds and, where `whole_weights`, to its weights too.
        whole_weights: whether `weights` are those of the whole module, from which the kept ones are still to be cut;
            else they fit the sliced one.
        fresh: draw the weights anew from the seed (a student that begins at nothing).
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
        labels: a `.npy` of [samples] (int64 classes) or [samples, k] (numbers); empty where there are none.
        fit, held_out: places of the samples that are trained on, and of those that steer (early stopping, search).
        indices: of the samples in their data set, by place; samples that could not be read are missing.
    """

    inputs: dict[str, str]
    labels: str
    fit: tuple[int, ...]
    held_out: tuple[int, ...]
    indices: tuple[int, ...] = ()


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How it is trained.

    Attributes:
        epochs: passes over `fit`; a part of one is allowed.
        batch: samples of one step.
        lr: highest learning rate.
        schedule: `cosine` and `one-cycle` end at nearly nothing.
        warmup: share of the steps in which the rate rises (cosine, constant).
        optimizer: SGD with Nesterov momentum, or AdamW.
        momentum, weight_decay: weight decay leaves out biases and normalisation.
        label_smoothing: of cross entropy with labels.
        clip: largest norm of the gradient; 0 does not clip.
        precision: `auto` takes bf16 where the processor (or GPU) computes it natively and the loss agrees.
        patience: epochs without a better held-out metric until it stops; 0 never stops early.
        checkpoint_s: seconds between checkpoints.
        threads: that torch computes with; 0 leaves it to torch, or to the share of what is trained side by side.
        seed: of order, augmentation and fresh weights.
    """

    epochs: Annotated[float, Meta(gt=0, le=1e6)] = 10.0
    batch: Annotated[int, Meta(ge=2, le=1 << 20)] = 128  # normalisation over one sample has no variance
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
    """What a student is taught by, besides the labels.

    Attributes:
        logits: a `.npy` of [views, fit, …], the teacher's outputs for each view of each sample of `fit` (see
            `augment.py`: a view is an augmentation that its number and the sample decide); empty where `teacher` is
            asked meanwhile.
        views: how many there are.
        teacher: a torch module that is asked in the loop; needed for features and attention.
        temperature: both logits are divided by it (Hinton et al. 2015).
        alpha: weight of the teacher's loss; 1 − alpha is that of the labels. 1 needs no labels.
        transfer: `features` brings outputs of the stages together by a learned 1 × 1 projection (Romero et al. 2015),
            `attention` their normalised maps of squared channels (Zagoruyko and Komodakis 2017).
        transfer_weight: of that loss.
    """

    logits: str = ""
    views: int = 0
    teacher: ModuleSource | None = None
    temperature: float = 4.0
    alpha: float = 0.9
    transfer: Literal["none", "features", "attention"] = "none"
    transfer_weight: float = 1.0


class SparsitySettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Weights that are set to zero one by one, while it trains.

    Attributes:
        sparsity: share of the weights of convolutions and matrix products that is zero in the end.
        scope: whether the smallest are chosen over all layers or in each.
        pattern: `N:M` keeps the N largest of each M along the input channels; empty is free.
        until: share of the steps after which the masks stay (cubic rise until then, Zhu and Gupta 2017).
    """

    sparsity: float = 0.8
    scope: Literal["global", "layer"] = "global"
    pattern: str = ""
    until: float = 0.5


class TrainJob(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="train"):
    """Train a module, and leave it.

    Attributes:
        title: what progress is told under, as `pruned, seed 1 of 3`.
        module: a torch module; None where a graph is trained.
        graph: path of a QDQ ONNX graph whose weights are trained under its own rounding (quantisation-aware).
        float_graph: path of the float ONNX graph it was made from, whose weights are started from; without `graph` it
            is trained itself, with its batch normalisations folded, as those of `graph` are.
        shapes: of the inputs, with the batch of 1.
        task: `edgewright.task/1` as JSON.
        code: functions that its metric may name: the user allowed them to run.
        data, settings: what with and how.
        teaching, thinning: None where there is none.
        outputs: names that `model.onnx` gives a module's outputs, in their order; empty leaves torch's.
        out: folder for `weights.safetensors` (module) or nothing (graph), `model.onnx` and `report.json`.
        memory: folder of checkpoints; the same job goes on from the last one.
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
    """Load a module, and leave what a search needs.

    Attributes:
        module, shapes, task, data, settings: as in `TrainJob`; `settings` for batch, precision and seed.
        taylor: whether gradients on `taylor_samples` of `data.fit` are to be left too: `importance.npz`, by name of a
            parameter the squared product of weight and gradient, summed over batches, of the parameter's shape
            (Molchanov et al. 2019).
        groups: whether to try which groups of channels, neurons and heads the module can do without some of.
        student: a student of this many times fewer parameters is made too, as `student.slices.json`; 0 makes none.
        out: folder for `named.onnx` (the module's graph before any optimisation: parameters and buffers are
            initializers under their names in the module, normalisation stays apart), `weights.safetensors` (its state),
            and `inspected.json`.
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
    """Let a teacher answer for every view of every sample that is learnt from.

    Attributes:
        teacher: as a torch module.
        out: path of the `.npy` of [views, fit, …] (float16 or float32), written under another name until whole;
            an unfinished one goes on where it was.
    """

    teacher: ModuleSource
    shapes: dict[str, tuple[int, ...]]
    task: str
    data: CachedDataset
    settings: Settings
    views: int
    out: str


WorkerJob = TrainJob | InspectJob | TeacherJob


class Curve(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One quantity over the steps: `loss`, `lr`, `held-out.METRIC`, `loss.labels`, `loss.teacher`, `sparsity` …"""

    name: str
    unit: str
    steps: tuple[int, ...]
    values: tuple[float, ...]


class TrainReport(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a training went.

    Attributes:
        steps: taken; `planned` were to be.
        precision: that it computed in.
        threads: that its last part computed with, on processors; a note tells of others.
        metric: of the held-out samples in the end; None where they have no labels.
        best_step: whose weights were left: the last one's, or with `patience` those of the best held-out metric.
        seconds: of the loop; resumed parts are added.
        resumed: how often it went on from a checkpoint.
        parameters: of the module; `zeros` of them are zero.
        notes: what should be known: a checkpoint that could not be used, layers that were left alone.
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


JobMessage = StageProgress | JobError | JobFinished
