"""The one loop that trains: steps, checkpoints, curves, early stopping. What is trained, and by which loss, is given
to it."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from math import isfinite
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple, Protocol

import numpy as np

from edgewright.compress.job import Step
from edgewright.errors import TrainingDiverged
from edgewright.tasks.contract import Classification, Embedding, Task
from edgewright.tasks.metrics import join, judge, measure_of, settle
from edgewright.training.checkpoint import save_state
from edgewright.training.curves import Curves
from edgewright.training.job import Settings, Word
from edgewright.training.losses import name_made
from edgewright.training.optimize import make_optimizer, rate_at
from edgewright.training.samples import Array, Batch, Samples, ahead, chunks

TELL_S = 0.5
SHOWN = 16  # places of samples in an error
MOST_JUDGED = 1000  # held-out samples between epochs, where no choice depends on them


class Objective(Protocol):
    """What is made small: the whole loss of a batch, and its parts by name.

    `learned` holds what is trained besides the module, as a torch module.
    """

    learned: Any

    def __call__(self, outputs: Mapping[str, Any], batch: Batch) -> tuple[Any, dict[str, Any]]: ...


class Thinner(Protocol):
    """Masks over weights; see `thin.py`."""

    def apply(self, step: int) -> None: ...
    def sparsity(self) -> float: ...
    def settled(self, step: int) -> bool: ...
    def state(self) -> dict[str, Any]: ...
    def restore(self, state: dict[str, Any]) -> None: ...


class Plan(NamedTuple):
    """How long, how, and where it is kept.

    Attributes:
        job: fingerprint of the job that the checkpoints are for.
        planned: steps.
        memory: folder of the checkpoints.
        code: functions that the task's metric may name.
    """

    job: str
    title: str
    task: Task
    settings: Settings
    planned: int
    precision: str
    memory: Path
    code: tuple[str, ...] = ()


class Ending(NamedTuple):
    steps: int
    metric: float | None
    best_step: int
    seconds: float
    resumed: int
    curves: Curves


class Training:
    """A module on its way through the steps.

    Args:
        fabric: Lightning's, launched.
        module: a torch module whose `forward` takes the batch's inputs by name; it is trained in place.
        say: takes a `Step` now and then.
    """

    def __init__(
        self,
        fabric: Any,
        module: Any,
        objective: Objective,
        samples: Samples,
        plan: Plan,
        say: Callable[[Word], None],
        thinner: Thinner | None = None,
    ) -> None:
        import torch

        self._fabric, self._plan, self._samples, self._say = fabric, plan, samples, say
        self._objective, self._thinner = objective, thinner
        learned = [objective.learned] if any(True for _ in objective.learned.parameters()) else []
        self._module = module
        self._wrapped, self._optimizer = fabric.setup(module, make_optimizer([module, *learned], plan.settings))
        objective.learned.to(fabric.device)
        samples.part, samples.parts = fabric.global_rank, fabric.world_size
        self._curves = Curves(plan.planned)
        self._step, self._seconds, self._resumed = 0, 0.0, 0
        self._best: dict[str, Any] = {}
        self.threads = {torch.get_num_threads()}  # of all its parts
        self._began = self._saved = self._told = monotonic()

    def run(self) -> Ending:
        """Train to the end, from where it is. TrainingDiverged, OutputError."""
        self._began = self._saved = monotonic()
        self._start = self._step
        settings = self._plan.settings
        stopped = self._waited()  # before it was interrupted
        self._wrapped.train()
        for batch in ahead(self._samples.of_step, range(self._step, 0 if stopped else self._plan.planned)):
            self._take(batch)
            ended = self._step == self._plan.planned
            if ended or self._step % self._samples.each_epoch == 0:
                stopped = self._end_epoch()
                self._save()
            elif monotonic() - self._saved >= settings.checkpoint_s:
                self._save()
            self._tell()
            if stopped:
                break
        self._curves.close(self._step)
        seconds = self._spent()
        if self._best:
            self._module.load_state_dict(self._best["module"])
        metric = self._fabric.broadcast(self.judge(self._samples.held_out, exact=True))
        return Ending(self._step, metric, self._best.get("step", self._step), seconds, self._resumed, self._curves)

    def _take(self, batch: Batch) -> None:
        """One step."""
        settings = self._plan.settings
        rate = rate_at(self._step, self._plan.planned, settings)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        batch = on_device(batch, self._fabric.device)
        outputs = name_made(self._wrapped(**batch.inputs))
        loss, parts = self._objective(outputs, batch)
        self._optimizer.zero_grad(set_to_none=True)
        self._fabric.backward(loss)
        for one in self._objective.learned.parameters():  # which Fabric has not wrapped
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
        if self._thinner is not None:
            self._thinner.apply(self._step)
            values["sparsity"] = self._thinner.sparsity()
        self._curves.add(self._step, values)

    def _mean(self, tensor: Any) -> Any:
        """Over all processes."""
        return tensor if self._fabric.world_size == 1 else self._fabric.all_reduce(tensor, reduce_op="mean")

    def _diverged(self, batch: Batch, rate: float, value: float) -> TrainingDiverged:
        shown = ", ".join(map(str, batch.places[:SHOWN])) + (" …" if len(batch.places) > SHOWN else "")
        what = f"the loss is {value:g}" if not isfinite(value) else f"the loss is {value:g}, its gradient not finite"
        half = " or fp32 instead of bf16," if self._plan.precision == "bf16" else ""
        return TrainingDiverged(
            f"{what} at step {self._step + 1} of {self._plan.planned}",
            f"{self._plan.title}: learning rate {rate:.3g}, {self._plan.precision}, samples {shown}",
            f"a lower learning rate ({self._plan.settings.lr / 4:.3g}),{half} or look at these samples",
        )

    def _end_epoch(self) -> bool:
        """Judge the held-out samples; whether to stop early."""
        patience, held_out = self._plan.settings.patience, self._samples.held_out
        some = held_out if patience else held_out[:: -(-len(held_out) // MOST_JUDGED) or 1]
        metric = self._fabric.broadcast(self.judge(some))  # all stop together
        if metric is None:
            return False
        self._curves.put(f"held-out.{self._plan.task.metric}", self._step, metric)
        if not patience or (self._thinner is not None and not self._thinner.settled(self._step)):
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
        return self._waited()

    def _waited(self) -> bool:
        patience = self._plan.settings.patience
        return bool(patience and self._best and self._best["waited"] >= patience)

    def judge(self, places: Array, *, exact: bool = False) -> float | None:
        """The task's metric of these samples, computed as the training computes, or `exact`: in float32. None where
        there are none with labels."""
        samples, task = self._samples, self._plan.task
        if not samples.labelled or not len(places):
            return None
        import torch

        self._module.eval()
        parts = []
        with torch.no_grad(), nullcontext() if exact else self._fabric.autocast():
            for batch in ahead(samples.read, chunks(places, self._plan.settings.batch)):
                outputs = name_made(self._module(**on_device(batch, self._fabric.device).inputs))
                arrays = {name: tensor.float().cpu().numpy()[:, None] for name, tensor in outputs.items()}
                parts.append(judge(task, arrays, list_labels(task, samples.labels_of(batch.places)), self._plan.code))
        self._wrapped.train()
        whole = settle(task, join(parts))
        return float(measure_of(task, whole)(np.arange(len(whole.values))))

    def _tell(self) -> None:
        now = monotonic()
        if now - self._told < TELL_S and self._step < self._plan.planned:
            return
        self._told = now
        left = (now - self._began) / (self._step - self._start) * (self._plan.planned - self._step)
        self._say(Step(stage=self._plan.title, done=self._step, of=self._plan.planned, left_s=round(left, 1)))

    def _spent(self) -> float:
        return self._seconds + monotonic() - self._began

    def _save(self) -> None:
        if self._fabric.is_global_zero:
            save_state(self._plan.memory, self.state())
        self._saved = monotonic()

    def state(self) -> dict[str, Any]:
        import torch

        return {
            "job": self._plan.job,
            "precision": self._plan.precision,
            "step": self._step,
            "seconds": self._spent(),
            "resumed": self._resumed,
            "threads": sorted(self.threads),
            "module": self._module.state_dict(),
            "learned": self._objective.learned.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "random": torch.get_rng_state(),
            "random_gpu": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "curves": self._curves.state(),
            "best": self._best,
            "masks": {} if self._thinner is None else self._thinner.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        import torch

        self._step, self._seconds, self._resumed = state["step"], state["seconds"], state["resumed"] + 1
        self.threads |= set(state.get("threads", ()))  # which older checkpoints do not tell
        self._best = state["best"]
        self._module.load_state_dict(state["module"])
        self._objective.learned.load_state_dict(state["learned"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._curves.restore(state["curves"])
        if self._thinner is not None:
            self._thinner.restore(state["masks"])
        torch.set_rng_state(state["random"])
        if state["random_gpu"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state["random_gpu"])


def on_device(batch: Batch, device: Any) -> Batch:
    if device.type == "cpu":
        return batch
    inputs = {name: tensor.to(device) for name, tensor in batch.inputs.items()}
    labels, taught = (None if one is None else one.to(device) for one in (batch.labels, batch.taught))
    return Batch(batch.places, inputs, labels, taught)


def list_labels(task: Task, labels: Any) -> list[Any]:
    """As `tasks.metrics` takes them: whole numbers of classes, arrays of all else."""
    classes = isinstance(task.output, Classification | Embedding) and labels.ndim == 1
    return [int(one) for one in labels] if classes else list(labels)
