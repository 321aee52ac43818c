"""The model of a client, or of the server: trained parameters as arrays, a few epochs on a client's samples."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edgewright.errors import DataError, TrainingDiverged
from edgewright.federated.job import LocalModel, RoundSettings
from edgewright.federated.updates import Arrays
from edgewright.system.files import write_atomically
from edgewright.tasks.spec.task import Task
from edgewright.training.adapters.layers import insert_adapter, list_adapted, merge_adapter
from edgewright.training.data.samples import TrainingSamples, set_channels_last
from edgewright.training.job import CachedDataset, Settings
from edgewright.training.loop.loop import TrainingPlan, evaluate_module
from edgewright.training.loop.losses import (
    check_labels_fit,
    check_labels_have_loss,
    compute_label_loss,
    map_outputs,
    select_output,
)
from edgewright.training.loop.optimizer import make_optimizer
from edgewright.training.source import load_module

EVALUATION_BATCH = 256


class LocalTrainer:
    """One model on one machine; in a simulation all clients train it in turn.

    Args:
        data: samples whose `fit` the first batch is taken from.

    Attributes:
        arrays: the initial values of the trained parameters.
        parameters: number of all parameters.
    """

    def __init__(self, model: LocalModel, settings: RoundSettings, data: CachedDataset) -> None:
        import torch

        if settings.threads:
            torch.set_num_threads(settings.threads)
        self._settings, self._model = settings, model
        self.task = msgspec.json.decode(model.task, type=Task)
        torch.manual_seed(settings.seed)
        self._module = load_module(model.module, settings.seed).eval()
        self.parameters = sum(one.numel() for one in self._module.parameters())
        samples = self._open(data, 0)
        check_labels_have_loss(self.task)
        if not samples.labeled:
            raise DataError("the data has no labels", "federated training needs them", "give labeled data")
        batch = samples.read(samples.fit[:1])
        with torch.no_grad():
            output = select_output(self.task, map_outputs(self._module(**batch.inputs)))
        check_labels_fit(self.task, samples.labels_of(samples.fit), output)
        insert_adapter(self._module, settings.method, settings.rank, batch.inputs)
        set_channels_last(self._module)
        self._tensors = list_adapted(self._module)
        self.arrays = self.get_arrays()

    def _open(self, data: CachedDataset, seed: int) -> TrainingSamples:
        own = self._settings
        settings = Settings(
            batch=max(2, own.batch), lr=own.lr, momentum=own.momentum, weight_decay=0.0, seed=(own.seed + seed) % 2**32
        )
        return TrainingSamples(data, self.task, settings)

    def get_arrays(self) -> Arrays:
        """Return copies of the trained parameters, in the order of the module."""
        return [
            np.array(one.detach().cpu().numpy(), np.float32, copy=True, order="C") for one in self._tensors.values()
        ]

    def set_arrays(self, arrays: Sequence[Any]) -> None:
        import torch

        with torch.no_grad():
            for one, array in zip(self._tensors.values(), arrays, strict=True):
                one.copy_(torch.from_numpy(np.array(array, np.float32)))

    def train(self, arrays: Arrays, data: CachedDataset, seed: int, epochs: float | None = None) -> Arrays:
        """Train from `arrays` on `fit` of the data, and return the change. Raises TrainingDiverged."""
        import torch

        settings = self._settings
        self.set_arrays(arrays)
        start = [one.detach().clone() for one in self._tensors.values()]
        samples = self._open(data, seed)
        optimizer = make_optimizer(
            [self._module], Settings(lr=settings.lr, momentum=settings.momentum, weight_decay=0.0)
        )
        wanted = settings.epochs if epochs is None else epochs
        self._module.train()
        for step in range(max(1, round(wanted * samples.steps_per_epoch))):
            batch = samples.read_step(step)
            loss = compute_label_loss(self.task, map_outputs(self._module(**batch.inputs)), batch.labels)
            if settings.strategy == "fedprox" and epochs is None:
                distance = sum(
                    (one - old).square().sum() for one, old in zip(self._tensors.values(), start, strict=True)
                )
                loss = loss + settings.prox / 2 * distance
            if not torch.isfinite(loss):
                raise TrainingDiverged(f"the loss is {float(loss):g} at step {step + 1}", "", "use a lower --lr")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(list(self._tensors.values()), 5.0)
            optimizer.step()
        return [new - old for new, old in zip(self.get_arrays(), arrays, strict=True)]

    def make_evaluation(self, data: CachedDataset) -> Callable[[Sequence[Any]], float]:
        """Return a function that gives the task's metric of the arrays on `fit` of the data."""
        samples = self._open(data, 0)
        settings = Settings(batch=EVALUATION_BATCH)
        plan = TrainingPlan("", "", self.task, settings, 0, "fp32", Path(), self._model.code)

        def evaluate(arrays: Sequence[Any]) -> float:
            self.set_arrays(arrays)
            metric = evaluate_module(self._module, samples, samples.fit, plan)
            if metric is None:
                raise DataError("the validation data has no labels", "", "give labeled data with --val")
            return metric

        return evaluate

    def write(self, arrays: Sequence[Any], path: Path) -> None:
        """Write all weights, with the arrays merged, as safetensors. The trainer cannot be used afterwards."""
        from safetensors.torch import save

        self.set_arrays(arrays)
        merge_adapter(self._module)
        state = {name: one.detach().contiguous().clone() for name, one in self._module.state_dict().items()}
        write_atomically(path, save(state))
