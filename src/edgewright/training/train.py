"""A training from its job to its files: open what is trained, go on from a checkpoint, write what comes out."""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from edgewright.errors import UsageError
from edgewright.formats.torch_program import quiet
from edgewright.tasks.contract import Task
from edgewright.training.checkpoint import digest_module, load_state, write_whole
from edgewright.training.job import TrainJob, TrainReport, Word
from edgewright.training.loop import Ending, Plan, Training
from edgewright.training.losses import name_made
from edgewright.training.precision import choose_precision
from edgewright.training.samples import Batch, Samples, last_channels
from edgewright.training.teach import Lesson, open_lesson
from edgewright.training.thin import Thin

Say = Callable[[Word], None]


class Trainable(NamedTuple):
    """What a loop trains.

    Attributes:
        module: a torch module whose `forward` takes the inputs by name.
        write: leaves the trained one in a folder.
    """

    module: Any
    write: Callable[[Path], None]


def run_train(job: TrainJob, say: Say) -> None:
    """Train, and leave `report.json` and the files of what was trained in `job.out`. UsageError, DataError,
    TrainingDiverged, OutputError, and those of loading a module."""
    import torch

    settings = job.settings
    if settings.threads:
        torch.set_num_threads(settings.threads)
    task = msgspec.json.decode(job.task, type=Task)
    teaching = job.teaching
    samples = Samples(job.data, task, settings, teaching.logits if teaching else "", teaching.views if teaching else 0)
    torch.manual_seed(settings.seed)
    trainable = open_trainable(job)
    thinner = Thin(trainable.module, job.thinning, plan_steps(job, samples)) if job.thinning else None
    lesson = open_lesson(job, task, trainable.module, samples)
    key = fingerprint(job, task, trainable.module, samples, lesson)
    memory = Path(job.memory)
    memory.mkdir(parents=True, exist_ok=True)
    state, note = load_state(memory, key)
    torch.manual_seed(settings.seed)
    if state is None:
        first = samples.of_step(0)
        # The rounding of a graph is finer than that of bf16, and its control trains as it does.
        graph = job.graph or job.float_graph
        wanted = "fp32" if graph and settings.precision == "auto" else settings.precision
        precision, _ = choose_precision(wanted, trainable.module, probe_of(lesson, first))
    else:
        precision = state["precision"]
    fabric = open_fabric(precision)
    plan = Plan(key, job.title, task, settings, plan_steps(job, samples), precision, memory, job.code)
    lesson.attach(trainable.module, fabric.device, precision)
    last_channels(trainable.module)
    speak: Say = say if fabric.is_global_zero else lambda word: None
    training = Training(fabric, trainable.module, lesson, samples, plan, speak, thinner)
    if state is not None:
        training.restore(state)
    ending = training.run()
    lesson.detach()
    if fabric.is_global_zero:
        used = sorted(training.threads)
        mixed = f"its parts were trained with {' and '.join(map(str, used))} threads" if len(used) > 1 else ""
        leave(job, trainable, plan, ending, tuple(filter(None, (note, mixed, *(thinner.notes if thinner else ())))))


def plan_steps(job: TrainJob, samples: Samples) -> int:
    return max(1, round(job.settings.epochs * samples.each_epoch))


def open_trainable(job: TrainJob) -> Trainable:
    """What the job names, on the processor, ready to be trained."""
    if job.graph or job.float_graph:
        from edgewright.training.qat import float_module, qat_module

        source = Path(job.float_graph) if job.float_graph else None
        if job.graph:
            graph = qat_module(Path(job.graph), source, job.shapes)
        else:
            graph = float_module(Path(job.float_graph), job.shapes)
        return Trainable(graph, lambda folder: graph.write(folder / "model.onnx"))
    if job.module is None:
        raise UsageError("there is nothing to train", "the job names no module", "name one")
    from edgewright.training.source import export_module, load_module

    module = load_module(job.module, job.settings.seed).train()

    def write(folder: Path) -> None:
        write_whole(folder / "weights.safetensors", lambda file: file.write(pack_weights(module)))
        export_module(module, job.shapes, folder / "model.onnx", job.outputs)

    return Trainable(module, write)


def pack_weights(module: Any) -> bytes:
    """The module's state as safetensors, each tensor by itself: tied ones twice."""
    from safetensors.torch import save

    packed: bytes = save({name: one.detach().contiguous().clone() for name, one in module.state_dict().items()})
    return packed


def fingerprint(job: TrainJob, task: Task, module: Any, samples: Samples, lesson: Lesson) -> str:
    """What decides the course of a training, by content: another machine may keep it under other paths."""
    plain = msgspec.structs.replace(task, metric=Path(task.metric).name)
    if getattr(task.output, "labels", ""):
        plain = msgspec.structs.replace(plain, output=msgspec.structs.replace(task.output, labels=""))
    settings = msgspec.structs.replace(job.settings, checkpoint_s=0.0, threads=0)
    teaching = job.teaching
    if teaching is not None:
        teaching = msgspec.structs.replace(teaching, logits="", teacher=None)
    shapes = sorted(job.shapes.items())
    whole = sha256(msgspec.json.encode((plain, settings, teaching, job.thinning, shapes)))
    whole.update(f"{samples.fingerprint()} {digest_module(module)} {lesson.fingerprint()}".encode())
    return whole.hexdigest()


def probe_of(lesson: Lesson, batch: Batch) -> Callable[[Any], Any]:
    """The first loss as a function of the module."""

    def loss(module: Any) -> Any:
        device = next(module.parameters()).device
        outputs = name_made(module(**{name: tensor.to(device) for name, tensor in batch.inputs.items()}))
        return lesson.first_loss({name: tensor.cpu() for name, tensor in outputs.items()}, batch)

    return loss


def open_fabric(precision: str) -> Any:
    """Lightning's Fabric on what the machine has; it keeps quiet."""
    with quiet():
        from lightning_fabric import Fabric

        fabric = Fabric(precision="bf16-mixed" if precision == "bf16" else "32-true")
        fabric.launch()
    return fabric


def leave(job: TrainJob, trainable: Trainable, plan: Plan, ending: Ending, notes: tuple[str, ...]) -> None:
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
        curves=ending.curves.told(),
        notes=notes,
    )
    write_whole(out / "report.json", lambda file: file.write(msgspec.json.encode(report)))
