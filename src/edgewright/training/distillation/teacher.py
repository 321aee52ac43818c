"""A teacher's outputs: the distilled ones, and a file of them for all samples."""

import os
from collections.abc import Callable, Mapping
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec
import numpy as np

from edgewright.errors import OutputError, UsageError
from edgewright.quantization.job import StageProgress
from edgewright.tasks.spec.task import Boxes, Task
from edgewright.training.data.samples import (
    Batch,
    TrainingSamples,
    prefetch_batches,
    set_channels_last,
    split_into_chunks,
)
from edgewright.training.job import JobMessage, ModuleSource, TeacherJob
from edgewright.training.loop.checkpoint import digest_module, sync_folder
from edgewright.training.loop.losses import map_outputs, select_output
from edgewright.training.loop.precision import choose_precision

MAX_FLOAT32_OUTPUTS = 4096  # outputs of up to this many numbers are stored as float32, longer ones as float16
_PROGRESS_INTERVAL_S = 0.5


def select_distilled_outputs(task: Task, outputs: Mapping[str, Any]) -> list[Any]:
    """Return the outputs that are distilled: the task's, or all of them for boxes."""
    return list(outputs.values()) if isinstance(task.output, Boxes) else [select_output(task, outputs)]


def load_teacher(source: ModuleSource, seed: int) -> Any:
    from edgewright.training.source import load_module

    teacher = load_module(source, seed).eval().requires_grad_(False)
    set_channels_last(teacher)
    return teacher


def fold_normalization(teacher: Any, run: Callable[[Any], Any]) -> Any:
    """Return a faster copy whose batch normalizations are folded into its convolutions, or the teacher itself.

    Args:
        run: computes a module's outputs for some samples, in float32.
    """
    import torch
    from torch.fx.experimental.optimization import fuse

    try:
        with torch.no_grad():
            folded = fuse(teacher)
            set_channels_last(folded)
            same = torch.allclose(run(folded), run(teacher), rtol=1e-3, atol=1e-3)
    except Exception:  # the user's code may not be traceable and may raise any error
        return teacher
    return folded if same else teacher  # they differ if a convolution has several normalizations


def run_teacher_job(job: TeacherJob, send: Callable[[JobMessage], None]) -> None:
    """Write the teacher's outputs for each view of each sample of `fit`; an interrupted file is resumed.

    Raises UsageError, OutputError and the errors of loading a module.
    """
    import torch

    if job.settings.threads:
        torch.set_num_threads(job.settings.threads)
    task = msgspec.json.decode(job.task, type=Task)
    if job.views > 1 and task.augment is None:
        raise UsageError(f"all {job.views} views would be the same", "the task has no [augment] table", "use 1 view")
    samples = TrainingSamples(job.data, task, job.settings)
    teacher = load_teacher(job.teacher, job.settings.seed)
    teacher.to("cuda" if torch.cuda.is_available() else "cpu")
    sample_batch = samples.read(np.arange(min(job.settings.batch, samples.count)))

    def compute(module: Any, batch: Batch) -> Any:
        device = next(module.parameters()).device
        made = select_distilled_outputs(
            task, map_outputs(module(**{name: one.to(device) for name, one in batch.inputs.items()}))
        )
        if len(made) > 1:
            raise UsageError(f"the teacher has {len(made)} outputs", "only one can be stored", "run it during training")
        return made[0].float()

    precision, _ = choose_precision(
        job.settings.precision, teacher, lambda module: compute(module, sample_batch).abs().mean()
    )
    folded = fold_normalization(teacher, lambda module: compute(module, sample_batch))

    def run(batch: Batch) -> Any:
        device = next(folded.parameters()).device.type
        with torch.no_grad(), torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            return compute(folded, batch).cpu().numpy()

    one = run(sample_batch)[0]
    kind = np.dtype(np.float32 if one.size <= MAX_FLOAT32_OUTPUTS else np.float16)
    key = sha256(f"{job.views} {precision} {task.augment} {samples.fingerprint()} {digest_module(teacher)}".encode())
    part = Path(f"{job.out}.{key.hexdigest()[:16]}.part")
    size = job.settings.batch
    rows = len(samples.fit) * job.views
    try:
        with part.open("ab") as file:
            head = _write_head(file, kind, (job.views, len(samples.fit), *one.shape))
            done = (file.tell() - head) // (kind.itemsize * one.size)
            file.truncate(head + done * kind.itemsize * one.size)
            began, last_report, start = monotonic(), 0.0, done
            for batch in prefetch_batches(samples.read_rows, split_into_chunks(np.arange(done, rows), size)):
                file.write(run(batch).astype(kind).tobytes())
                done += len(batch.places)
                if (now := monotonic()) - last_report > _PROGRESS_INTERVAL_S or done == rows:
                    file.flush()
                    last_report = now
                    left = (now - began) / (done - start) * (rows - done)
                    send(StageProgress(stage="running the teacher", done=done, of=rows, left_s=round(left, 1)))
            file.flush()
            os.fsync(file.fileno())
        part.replace(job.out)
        sync_folder(part.parent)
    except OSError as error:
        name, hint = Path(job.out).name, "free some space, then run the same command again: the file is resumed"
        raise OutputError(f"{name} cannot be written", error.strerror or str(error), hint) from None


def _write_head(file: Any, kind: Any, shape: tuple[int, ...]) -> int:
    """Write the header of a `.npy` if it is missing. Return its length."""
    head = BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": kind.str, "fortran_order": False, "shape": shape})
    if file.tell() < len(head.getvalue()):
        file.truncate(0)
        file.write(head.getvalue())
    return len(head.getvalue())
