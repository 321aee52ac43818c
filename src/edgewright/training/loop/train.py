"""A training from its job to its files, with resume from a checkpoint."""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from edgewright.errors import UsageError
from edgewright.formats.torch.program import silence_exporter
from edgewright.tasks.spec.task import Task
from edgewright.training.data.samples import Batch, TrainingSamples, set_channels_last
from edgewright.training.distillation.losses import DistillationLoss, build_distillation_loss
from edgewright.training.job import JobMessage, TrainJob, TrainReport
from edgewright.training.loop.checkpoint import digest_module, load_state, write_atomically
from edgewright.training.loop.loop import TrainingLoop, TrainingPlan, TrainingResult
from edgewright.training.loop.losses import map_outputs
from edgewright.training.loop.precision import choose_precision
from edgewright.training.slicing.sparsity import SparsityMasks

SendMessage = Callable[[JobMessage], None]


class Trainable(NamedTuple):
    """A module to train.

    Attributes:
        module: a torch module whose `forward` takes the inputs by name.
        write: writes the trained module to a folder.
    """

    module: Any
    write: Callable[[Path], None]


def run_training(job: TrainJob, send: SendMessage) -> None:
    """Train, and write `report.json` and the trained files to `job.out`. Raises UsageError, DataError,
    TrainingDiverged, OutputError, and the errors of loading a module."""
    import torch

    settings = job.settings
    if settings.threads:
        torch.set_num_threads(settings.threads)
    task = msgspec.json.decode(job.task, type=Task)
    teaching = job.teaching
    samples = TrainingSamples(
        job.data, task, settings, teaching.logits if teaching else "", teaching.views if teaching else 0
    )
    torch.manual_seed(settings.seed)
    trainable = _open_trainable(job)
    masks = SparsityMasks(trainable.module, job.thinning, _plan_steps(job, samples)) if job.thinning else None
    distillation_loss = build_distillation_loss(job, task, trainable.module, samples)
    key = _compute_fingerprint(job, task, trainable.module, samples, distillation_loss)
    memory = Path(job.memory)
    memory.mkdir(parents=True, exist_ok=True)
    state, note = load_state(memory, key)
    torch.manual_seed(settings.seed)
    if state is None:
        first = samples.read_step(0)
        # A graph's quantization steps are finer than those of bf16, and its control uses the same precision.
        graph = job.graph or job.float_graph
        wanted = "fp32" if graph and settings.precision == "auto" else settings.precision
        precision, _ = choose_precision(wanted, trainable.module, _make_first_loss(distillation_loss, first))
    else:
        precision = state["precision"]
    fabric = open_fabric(precision)
    plan = TrainingPlan(key, job.title, task, settings, _plan_steps(job, samples), precision, memory, job.code, masks)
    distillation_loss.attach(trainable.module, fabric.device, precision)
    set_channels_last(trainable.module)
    send_from_main: SendMessage = send if fabric.is_global_zero else lambda word: None
    training = TrainingLoop(fabric, trainable.module, distillation_loss, samples, plan, send_from_main)
    if state is not None:
        training.restore(state)
    ending = training.run()
    distillation_loss.detach()
    if fabric.is_global_zero:
        used = sorted(training.threads)
        mixed = (
            f"the number of threads changed during training: {' and '.join(map(str, used))}" if len(used) > 1 else ""
        )
        _write_results(
            job, trainable, plan, ending, tuple(filter(None, (note, mixed, *(masks.notes if masks else ()))))
        )


def _plan_steps(job: TrainJob, samples: TrainingSamples) -> int:
    return max(1, round(job.settings.epochs * samples.steps_per_epoch))


def _open_trainable(job: TrainJob) -> Trainable:
    """Open the job's module on the CPU for training."""
    if job.graph or job.float_graph:
        from edgewright.training.qat import build_float_module, build_qat_module

        source = Path(job.float_graph) if job.float_graph else None
        if job.graph:
            graph = build_qat_module(Path(job.graph), source, job.shapes)
        else:
            graph = build_float_module(Path(job.float_graph), job.shapes)
        return Trainable(graph, lambda folder: graph.write(folder / "model.onnx"))
    if job.module is None:
        raise UsageError("there is nothing to train", "the job has no module", "give a module")
    from edgewright.training.source import export_module, load_module

    module = load_module(job.module, job.settings.seed).train()

    def write(folder: Path) -> None:
        write_atomically(folder / "weights.safetensors", lambda file: file.write(pack_weights(module)))
        export_module(module, job.shapes, folder / "model.onnx", job.outputs)

    return Trainable(module, write)


def pack_weights(module: Any) -> bytes:
    """Return the module's state as safetensors; tied tensors are stored twice."""
    from safetensors.torch import save

    packed: bytes = save({name: one.detach().contiguous().clone() for name, one in module.state_dict().items()})
    return packed


def _compute_fingerprint(
    job: TrainJob, task: Task, module: Any, samples: TrainingSamples, distillation_loss: DistillationLoss
) -> str:
    """Return a fingerprint of everything that determines a training, by content and without paths."""
    plain = msgspec.structs.replace(task, metric=Path(task.metric).name)
    if getattr(task.output, "labels", ""):
        plain = msgspec.structs.replace(plain, output=msgspec.structs.replace(task.output, labels=""))
    settings = msgspec.structs.replace(job.settings, checkpoint_s=0.0, threads=0)
    teaching = job.teaching
    if teaching is not None:
        teaching = msgspec.structs.replace(teaching, logits="", teacher=None)
    shapes = sorted(job.shapes.items())
    whole = sha256(msgspec.json.encode((plain, settings, teaching, job.thinning, shapes)))
    whole.update(f"{samples.fingerprint()} {digest_module(module)} {distillation_loss.fingerprint()}".encode())
    return whole.hexdigest()


def _make_first_loss(distillation_loss: DistillationLoss, batch: Batch) -> Callable[[Any], Any]:
    """Return the first loss as a function of the module."""

    def loss(module: Any) -> Any:
        device = next(module.parameters()).device
        outputs = map_outputs(module(**{name: tensor.to(device) for name, tensor in batch.inputs.items()}))
        return distillation_loss.first_loss({name: tensor.cpu() for name, tensor in outputs.items()}, batch)

    return loss


def open_fabric(precision: str) -> Any:
    """Open Lightning's Fabric on the machine's devices, without its messages."""
    with silence_exporter():
        from lightning_fabric import Fabric

        fabric = Fabric(precision="bf16-mixed" if precision == "bf16" else "32-true")
        fabric.launch()
    return fabric


def _write_results(
    job: TrainJob, trainable: Trainable, plan: TrainingPlan, ending: TrainingResult, notes: tuple[str, ...]
) -> None:
    import torch

    out = Path(job.out)
    out.mkdir(parents=True, exist_ok=True)
    module = trainable.module.cpu()
    for one in module.parameters():
        one.data = one.data.contiguous(memory_format=torch.contiguous_format)
    trainable.write(out)
    weights = [one.detach() for one in module.parameters()]
    report = TrainReport(
        steps=ending.steps,
        planned=plan.planned,
        precision=plan.precision,
        metric=ending.metric,
        best_step=ending.best_step,
        seconds=ending.seconds,
        resumed=ending.resumed,
        parameters=sum(one.numel() for one in weights),
        zeros=sum(int((one == 0).sum()) for one in weights),
        threads=torch.get_num_threads(),
        curves=ending.curves.to_curves(),
        notes=notes,
    )
    write_atomically(out / "report.json", lambda file: file.write(msgspec.json.encode(report)))
