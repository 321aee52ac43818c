"""Look into a module: its graph under the names of its own parameters, its weights, and what they matter for the loss.

Leaves `named.onnx`, `weights.safetensors`, `inspected.json`, and `importance.npz` where that was asked for.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from edgewright.compress.job import Step
from edgewright.compress.pruning.groups import find_groups
from edgewright.errors import UsageError
from edgewright.formats.torch_weights import save_weights
from edgewright.tasks.contract import Task
from edgewright.training.job import InspectJob, Word
from edgewright.training.losses import label_loss, name_made
from edgewright.training.named import export_named
from edgewright.training.samples import Samples, chunks
from edgewright.training.sliceable import Number, find_sliceable
from edgewright.training.slices import write_slices
from edgewright.training.source import evaluating, load_module, tensors
from edgewright.training.student import make_student

Array = NDArray[Any]
Say = Callable[[Word], None]


class Inspected(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A module in figures.

    Attributes:
        parameters: elements of all parameters, tied ones counted once.
        macs: multiply-accumulates of one sample; None where a part of the graph does not tell.
        shapes: of parameters and buffers, by name.
        inputs, outputs: names and shapes.
        modules: class of each part, by its path.
        sliceable: names of the groups of `named.onnx` that the module can do without some of, where that was asked.
        refused: why not, by name of the others.
        numbers: by group, attributes of modules that have to be set with it.
        student: parameters of the student; `widths` by group what is left of how many. 0 where none was asked for.
    """

    parameters: int
    macs: int | None
    shapes: dict[str, tuple[int, ...]]
    inputs: dict[str, tuple[int, ...]]
    outputs: dict[str, tuple[int, ...]]
    modules: dict[str, str]
    sliceable: tuple[str, ...] = ()
    refused: dict[str, str] = {}
    numbers: dict[str, tuple[Number, ...]] = {}
    student: int = 0
    widths: dict[str, tuple[int, int]] = {}


def run_inspect(job: InspectJob, say: Say) -> None:
    """Raises what `load_module` and `export_named` raise, UsageError where Taylor's scores have no
    data, GateFailed where no student is small enough."""
    import onnx
    import torch

    out = Path(job.out)
    steps = 2 + job.groups + (job.student > 0)
    say(Step(stage="inspect", done=0, of=steps))
    if job.settings.threads:
        torch.set_num_threads(job.settings.threads)
    module = load_module(job.module, job.settings.seed)
    named = out / "named.onnx"
    loaded = export_named(module, job.shapes, named)
    save_weights(module, out / "weights.safetensors")
    told = Inspected(
        parameters=sum(one.numel() for one in module.parameters()),
        macs=count(named),
        shapes={name: tuple(one.shape) for name, one in tensors(module).items()},
        inputs={one.name: one.shape for one in loaded.inputs},
        outputs={one.name: one.shape for one in loaded.outputs},
        modules={path: type(part).__name__ for path, part in module.named_modules() if path},
    )
    say(Step(stage="inspect", done=1, of=steps))
    if job.groups:
        model = onnx.load(str(named))
        found = find_sliceable(module, model, job.shapes, find_groups(model, job.shapes))
        told = replace(told, sliceable=found.groups, refused=found.refused, numbers=found.numbers)
        say(Step(stage="inspect", done=2, of=steps))
    if job.taylor:
        np.savez(out / "importance.npz", **score(module, job, say))  # type: ignore[arg-type]  # numpy takes names
    if job.student:
        student = make_student(module, job.module, job.shapes, job.student, out)
        write_slices(student.slices, out / "student.slices.json")
        told = replace(told, student=student.parameters, widths=student.widths)
    (out / "inspected.json").write_bytes(msgspec.json.encode(told) + b"\n")
    say(Step(stage="inspect", done=steps, of=steps))


def count(path: Path) -> int | None:
    from edgewright.formats.costs import measure_costs
    from edgewright.formats.onnx_graph import read_onnx_graph

    return measure_costs(read_onnx_graph(path)).macs


def score(module: Any, job: InspectJob, say: Say) -> dict[str, Array]:
    """By name of a parameter the squared product of weight and gradient, each of a batch's mean loss, summed over the
    batches (Molchanov et al. 2019, https://arxiv.org/abs/1906.10771), in evaluation mode.
    """
    import torch

    if job.data is None or not job.data.fit or not job.data.labels:
        raise UsageError(
            "Taylor's scores need samples with labels", "the job has none", "--data, or another importance"
        )
    task = msgspec.json.decode(job.task, type=Task)
    samples = Samples(job.data, task, job.settings)
    places = samples.fit[: job.taylor_samples]
    parts = list(chunks(places, job.settings.batch))
    sums = {name: torch.zeros_like(one) for name, one in module.named_parameters()}
    with evaluating(module), torch.enable_grad():
        for done, chunk in enumerate(parts, 1):
            batch = samples.read(chunk)
            module.zero_grad(set_to_none=True)
            label_loss(task, name_made(module(**batch.inputs)), batch.labels).backward()
            for name, one in module.named_parameters():
                if one.grad is not None:
                    sums[name] += (one.detach() * one.grad).square()
            say(Step(stage="importance", done=done, of=len(parts)))
    by_tensor = {id(one): sums[name] for name, one in module.named_parameters()}
    every = module.named_parameters(remove_duplicate=False)
    return {name: by_tensor[id(one)].numpy() for name, one in every}
