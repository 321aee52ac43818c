"""Inspection of a module: its graph with the names of its parameters, its weights, and their importance.

Writes `named.onnx`, `weights.safetensors`, `inspected.json`, and `importance.npz` on request.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from edgewright.errors import UsageError
from edgewright.formats.onnx.editable import EditableGraph
from edgewright.formats.torch.weights import save_weights
from edgewright.pruning.groups import find_groups
from edgewright.quantization.job import StageProgress
from edgewright.schema.arrays import Array
from edgewright.tasks.spec.task import Task
from edgewright.training.data.samples import TrainingSamples, split_into_chunks
from edgewright.training.distillation.student import make_student
from edgewright.training.job import InspectJob, JobMessage
from edgewright.training.loop.losses import compute_label_loss, map_outputs
from edgewright.training.modules import evaluation_mode, get_named_tensors
from edgewright.training.slices import write_slices
from edgewright.training.slicing.named import export_named
from edgewright.training.slicing.sliceable import SizeAttribute, find_sliceable_groups
from edgewright.training.source import load_module

SendMessage = Callable[[JobMessage], None]


class InspectionReport(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Properties of a module.

    Attributes:
        parameters: number of parameter elements, tied ones counted once.
        macs: multiply-accumulates of one sample; None if a part of the graph is unknown.
        shapes: of parameters and buffers, by name.
        inputs, outputs: names and shapes.
        modules: class of each submodule, by its path.
        sliceable: names of the groups of `named.onnx` that can be sliced in the module, on request.
        refused: the reason by name of the other groups.
        numbers: by group, module attributes that change with it.
        student: parameters of the student, or 0; `widths` by group the number of kept and of all units.
    """

    parameters: int
    macs: int | None
    shapes: dict[str, tuple[int, ...]]
    inputs: dict[str, tuple[int, ...]]
    outputs: dict[str, tuple[int, ...]]
    modules: dict[str, str]
    sliceable: tuple[str, ...] = ()
    refused: dict[str, str] = {}
    numbers: dict[str, tuple[SizeAttribute, ...]] = {}
    student: int = 0
    widths: dict[str, tuple[int, int]] = {}


def run_inspect(job: InspectJob, send: SendMessage) -> None:
    """Inspect a module. Raises the errors of `load_module` and `export_named`, UsageError if Taylor scores have no
    data, GateFailed if no student is small enough."""
    import torch

    out = Path(job.out)
    steps = 2 + job.groups + (job.student > 0)
    send(StageProgress(stage="inspect", done=0, of=steps))
    if job.settings.threads:
        torch.set_num_threads(job.settings.threads)
    module = load_module(job.module, job.settings.seed)
    named = out / "named.onnx"
    loaded = export_named(module, job.shapes, named)
    save_weights(module, out / "weights.safetensors")
    report = InspectionReport(
        parameters=sum(one.numel() for one in module.parameters()),
        macs=_count(named),
        shapes={name: tuple(one.shape) for name, one in get_named_tensors(module).items()},
        inputs={one.name: one.shape for one in loaded.inputs},
        outputs={one.name: one.shape for one in loaded.outputs},
        modules={path: type(part).__name__ for path, part in module.named_modules() if path},
    )
    send(StageProgress(stage="inspect", done=1, of=steps))
    if job.groups:
        model = EditableGraph.open(named)
        found = find_sliceable_groups(module, model, job.shapes, find_groups(model, job.shapes))
        report = replace(report, sliceable=found.groups, refused=found.refused, numbers=found.numbers)
        send(StageProgress(stage="inspect", done=2, of=steps))
    if job.taylor:
        np.savez(out / "importance.npz", **_compute_taylor_scores(module, job, send))  # type: ignore[arg-type]  # numpy takes names
    if job.student:
        student = make_student(module, job.module, job.shapes, job.student, out)
        write_slices(student.slices, out / "student.slices.json")
        report = replace(report, student=student.parameters, widths=student.widths)
    (out / "inspected.json").write_bytes(msgspec.json.encode(report) + b"\n")
    send(StageProgress(stage="inspect", done=steps, of=steps))


def _count(path: Path) -> int | None:
    from edgewright.formats.costs import measure_costs
    from edgewright.formats.onnx.typed import read_onnx_graph

    return measure_costs(read_onnx_graph(path)).macs


def _compute_taylor_scores(module: Any, job: InspectJob, send: SendMessage) -> dict[str, Array]:
    """Return, by parameter name, the squared product of weight and gradient of a batch's mean loss, summed over batches
    (Molchanov et al. 2019, https://arxiv.org/abs/1906.10771), in evaluation mode.
    """
    import torch

    if job.data is None or not job.data.fit or not job.data.labels:
        raise UsageError(
            "Taylor importance requires labeled samples", "there are none", "give --data, or choose another importance"
        )
    task = msgspec.json.decode(job.task, type=Task)
    samples = TrainingSamples(job.data, task, job.settings)
    places = samples.fit[: job.taylor_samples]
    parts = list(split_into_chunks(places, job.settings.batch))
    sums = {name: torch.zeros_like(one) for name, one in module.named_parameters()}
    with evaluation_mode(module), torch.enable_grad():
        for done, chunk in enumerate(parts, 1):
            batch = samples.read(chunk)
            module.zero_grad(set_to_none=True)
            compute_label_loss(task, map_outputs(module(**batch.inputs)), batch.labels).backward()
            for name, one in module.named_parameters():
                if one.grad is not None:
                    sums[name] += (one.detach() * one.grad).square()
            send(StageProgress(stage="importance", done=done, of=len(parts)))
    by_tensor = {id(one): sums[name] for name, one in module.named_parameters()}
    every = module.named_parameters(remove_duplicate=False)
    return {name: by_tensor[id(one)].numpy() for name, one in every}
