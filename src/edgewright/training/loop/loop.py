"""The one loop that trains: steps, checkpoints, curves, early stopping. What is trained, and by which loss, is given
to it."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from math import isfinite
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple, Protocol

import numpy as np

from edgewright.errors import TrainingDiverged
from edgewright.quantization.job import StageProgress
from edgewright.schema.arrays import Array
from edgewright.tasks.metrics.metrics import make_metric
from edgewright.tasks.metrics.samples import evaluate_samples, finalize_results, join
from edgewright.tasks.spec.task import Classification, Embedding, Task
from edgewright.training.data.samples import Batch, TrainingSamples, prefetch_batches, split_into_chunks
from edgewright.training.job import JobMessage, Settings
from edgewright.training.loop.checkpoint import save_state
from edgewright.training.loop.curves import Curves
from edgewright.training.loop.losses import map_outputs
from edgewright.training.loop.optimizer import compute_learning_rate, make_optimizer

PROGRESS_INTERVAL_S = 0.5
MAX_SHOWN_SAMPLES = 16  # number of sample indices in an error
MAX_EVALUATED_SAMPLES = 1000  # validation samples between epochs if no decision depends on them


class Objective(Protocol):
    """The loss to minimize: the total of a batch, and its terms by name.

    `auxiliary` is a torch module that is trained with the module.
    """

    auxiliary: Any

    def __call__(self, outputs: Mapping[str, Any], batch: Batch) -> tuple[Any, dict[str, Any]]: ...


class WeightMasks(Protocol):
    """Masks over weights; see `sparsity.py`."""

    def apply(self, step: int) -> None: ...
    def sparsity(self) -> float: ...
    def is_final(self, step: int) -> bool: ...
    def state(self) -> dict[str, Any]: ...
    def restore(self, state: dict[str, Any]) -> None: ...


class TrainingPlan(NamedTuple):
    """Duration, settings and checkpoint folder of a training.

    Attributes:
        job: fingerprint of the job in its checkpoints.
        planned: number of steps.
        checkpoint_folder: folder of the checkpoints.
        code: functions that the task's metric may name.
    """

    job: str
    title: str
    task: Task
    settings: Settings
    planned: int
    precision: str
    checkpoint_folder: Path
    code: tuple[str, ...] = ()
    masks: WeightMasks | None = None


class TrainingResult(NamedTuple):
    steps: int
    metric: float | None
    best_step: int
    seconds: float
    resumed: int
    curves: Curves


class TrainingLoop:
    """The training loop of a module.

    Args:
        fabric: Lightning's, launched.
        module: a torch module whose `forward` takes the batch's inputs by name; it is trained in place.
        send: receives messages with the progress.
    """

    def __init__(
        self,
        fabric: Any,
        module: Any,
        objective: Objective,
        samples: TrainingSamples,
        plan: TrainingPlan,
        send: Callable[[JobMessage], None],
    ) -> None:
        import torch

        self._fabric, self._plan, self._samples, self._send = fabric, plan, samples, send
        self._objective, self._masks = objective, plan.masks
        auxiliary = [objective.auxiliary] if any(True for _ in objective.auxiliary.parameters()) else []
        self._module = module
        self._wrapped, self._optimizer = fabric.setup(module, make_optimizer([module, *auxiliary], plan.settings))
        objective.auxiliary.to(fabric.device)
        samples.part, samples.parts = fabric.global_rank, fabric.world_size
        self._curves = Curves(plan.planned)
        self._step, self._seconds, self._resumed = 0, 0.0, 0
        self._best: dict[str, Any] = {}
        self.threads = {torch.get_num_threads()}  # of all attempts
        self._began = self._saved = self._last_report = monotonic()

    def run(self) -> TrainingResult:
        """Train from the current step to the end. Raises TrainingDiverged and OutputError."""
        self._began = self._saved = monotonic()
        self._start = self._step
        settings = self._plan.settings
        stopped = self._is_out_of_patience()  # before the interruption
        self._wrapped.train()
        for batch in prefetch_batches(self._samples.read_step, range(self._step, 0 if stopped else self._plan.planned)):
            self._run_step(batch)
            ended = self._step == self._plan.planned
            if ended or self._step % self._samples.steps_per_epoch == 0:
                stopped = self._end_epoch()
                self._save()
            elif monotonic() - self._saved >= settings.checkpoint_s:
                self._save()
            self._report_progress()
            if stopped:
                break
        self._curves.close(self._step)
        seconds = self._elapsed()
        if self._best:
            self._module.load_state_dict(self._best["module"])
        metric = self._fabric.broadcast(self.evaluate(self._samples.held_out, exact=True))
        return TrainingResult(
            self._step, metric, self._best.get("step", self._step), seconds, self._resumed, self._curves
        )

    def _run_step(self, batch: Batch) -> None:
        """Train on one batch."""
        settings = self._plan.settings
        rate = compute_learning_rate(self._step, self._plan.planned, settings)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        batch = _move_to_device(batch, self._fabric.device)
        outputs = map_outputs(self._wrapped(**batch.inputs))
        loss, parts = self._objective(outputs, batch)
        self._optimizer.zero_grad(set_to_none=True)
        self._fabric.backward(loss)
        for one in self._objective.auxiliary.parameters():  # which Fabric has not wrapped
            one.grad = self._mean(one.grad)
        value, norm = float(self._mean(loss.detach())), 0.0
        if settings.clip and isfinite(value):
            clip, tensor = self._fabric.clip_gradients, self._wrapped
            norm = float(clip(tensor, self._optimizer, max_norm=settings.clip, error_if_nonfinite=False))
        if not (isfinite(value) and isfinite(norm)):
            raise self._diverged(batch, rate, value)
        self._optimizer.step()
        self._step += 1
        values = {"loss": value, "lr": rate} | {f"loss.{name}": float(part.detach()) for name, part in parts.items()}
        if self._masks is not None:
            self._masks.apply(self._step)
            values["sparsity"] = self._masks.sparsity()
        self._curves.add(self._step, values)

    def _mean(self, tensor: Any) -> Any:
        """Return the mean over all processes."""
        return tensor if self._fabric.world_size == 1 else self._fabric.all_reduce(tensor, reduce_op="mean")

    def _diverged(self, batch: Batch, rate: float, value: float) -> TrainingDiverged:
        shown = ", ".join(map(str, batch.places[:MAX_SHOWN_SAMPLES])) + (
            " …" if len(batch.places) > MAX_SHOWN_SAMPLES else ""
        )
        what = (
            f"the loss is {value:g}"
            if not isfinite(value)
            else f"the loss is {value:g}, but its gradient is not finite"
        )
        half = " or fp32 instead of bf16," if self._plan.precision == "bf16" else ""
        return TrainingDiverged(
            f"{what} at step {self._step + 1} of {self._plan.planned}",
            f"{self._plan.title}: learning rate {rate:.3g}, {self._plan.precision}, samples {shown}",
            f"use a lower learning rate ({self._plan.settings.lr / 4:.3g}),{half} or check these samples",
        )

    def _end_epoch(self) -> bool:
        """Evaluate the validation samples. Return whether to stop early."""
        patience, held_out = self._plan.settings.patience, self._samples.held_out
        some = held_out if patience else held_out[:: -(-len(held_out) // MAX_EVALUATED_SAMPLES) or 1]
        metric = self._fabric.broadcast(self.evaluate(some))  # all processes stop together
        if metric is None:
            return False
        self._curves.put(f"held-out.{self._plan.task.metric}", self._step, metric)
        if not patience or (self._masks is not None and not self._masks.is_final(self._step)):
            return False
        better = self._plan.task.higher_is_better
        if not self._best or (metric > self._best["metric"] if better else metric < self._best["metric"]):
            self._best = {
                "step": self._step,
                "metric": metric,
                "waited": 0,
                "module": {name: tensor.detach().clone() for name, tensor in self._module.state_dict().items()},
            }
        else:
            self._best["waited"] += 1
        return self._is_out_of_patience()

    def _is_out_of_patience(self) -> bool:
        patience = self._plan.settings.patience
        return bool(patience and self._best and self._best["waited"] >= patience)

    def evaluate(self, places: Array, *, exact: bool = False) -> float | None:
        """Return the task's metric of these samples, computed as the training computes, or `exact`: in float32. None
        where there are none with labels."""
        with nullcontext() if exact else self._fabric.autocast():
            metric = evaluate_module(self._module, self._samples, places, self._plan)
        self._wrapped.train()
        return metric

    def _report_progress(self) -> None:
        now = monotonic()
        if now - self._last_report < PROGRESS_INTERVAL_S and self._step < self._plan.planned:
            return
        self._last_report = now
        left = (now - self._began) / (self._step - self._start) * (self._plan.planned - self._step)
        self._send(StageProgress(stage=self._plan.title, done=self._step, of=self._plan.planned, left_s=round(left, 1)))

    def _elapsed(self) -> float:
        return self._seconds + monotonic() - self._began

    def _save(self) -> None:
        if self._fabric.is_global_zero:
            save_state(self._plan.checkpoint_folder, self.state())
        self._saved = monotonic()

    def state(self) -> dict[str, Any]:
        import torch

        return {
            "job": self._plan.job,
            "precision": self._plan.precision,
            "step": self._step,
            "seconds": self._elapsed(),
            "resumed": self._resumed,
            "threads": sorted(self.threads),
            "module": self._module.state_dict(),
            "learned": self._objective.auxiliary.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "random": torch.get_rng_state(),
            "random_gpu": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "curves": self._curves.state(),
            "best": self._best,
            "masks": {} if self._masks is None else self._masks.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        import torch

        self._step, self._seconds, self._resumed = state["step"], state["seconds"], state["resumed"] + 1
        self.threads |= set(state.get("threads", ()))  # absent in older checkpoints
        self._best = state["best"]
        self._module.load_state_dict(state["module"])
        self._objective.auxiliary.load_state_dict(state["learned"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._curves.restore(state["curves"])
        if self._masks is not None:
            self._masks.restore(state["masks"])
        torch.set_rng_state(state["random"])
        if state["random_gpu"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state["random_gpu"])


def evaluate_module(module: Any, samples: TrainingSamples, places: Array, plan: TrainingPlan) -> float | None:
    """Return the metric of the plan's task on these samples, and leave the module in evaluation mode. None where there
    are none with labels."""
    if not samples.labeled or not len(places):
        return None
    import torch

    task, device = plan.task, next(module.parameters()).device
    module.eval()
    parts = []
    with torch.no_grad():
        for batch in prefetch_batches(samples.read, split_into_chunks(places, plan.settings.batch)):
            outputs = map_outputs(module(**_move_to_device(batch, device).inputs))
            arrays = {name: tensor.float().cpu().numpy()[:, None] for name, tensor in outputs.items()}
            parts.append(evaluate_samples(task, arrays, _list_labels(task, samples.labels_of(batch.places)), plan.code))
    whole = finalize_results(task, join(parts))
    return float(make_metric(task, whole)(np.arange(len(whole.values))))


def _move_to_device(batch: Batch, device: Any) -> Batch:
    if device.type == "cpu":
        return batch
    inputs = {name: tensor.to(device) for name, tensor in batch.inputs.items()}
    labels, targets = (None if one is None else one.to(device) for one in (batch.labels, batch.targets))
    return Batch(batch.places, inputs, labels, targets)


def _list_labels(task: Task, labels: Any) -> list[Any]:
    """Return labels in the form of `tasks.metrics`: integers for classes, arrays for others."""
    classes = isinstance(task.output, Classification | Embedding) and labels.ndim == 1
    return [int(one) for one in labels] if classes else list(labels)
