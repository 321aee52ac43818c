"""Torch-Pruning's own recipe on one torch model: its group-norm pruner to a share of the MACs, then its fine-tuning.

`python -m benchmarks.torch_pruning_once JOB.json`, in its own process. Pruning: GroupNormPruner's importance (L2,
global), in steps to the given MACs (the `--speed-up` of its CIFAR benchmark). Fine-tuning with its defaults: SGD,
momentum 0.9, learning rate 0.01 divided by 10 at 60 and 80 % of the epochs, weight decay 5e-4, batch 128; its crops and
flips. Epochs are those of the other networks. Writes `model.onnx` and `result.json`.
"""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from time import monotonic, process_time
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from edgewright.tasks.spec.file import read_task
from edgewright.tasks.spec.task import Augment, Task
from edgewright.training.data.augment import augment
from edgewright.training.job import CachedDataset


class Job(Struct, frozen=True, kw_only=True):
    """`macs` is the reduction factor; `epochs` and `dataset` are those of the other networks."""

    factory: str
    weights: str
    task: str
    dataset: CachedDataset
    shape: tuple[int, ...]
    macs: float
    epochs: int
    out: str
    seed: int = 0


class PeerResult(Struct, frozen=True, kw_only=True):
    parameters: int
    seconds: float
    cpu_seconds: float


def main(path: str) -> None:
    import torch
    import torch_pruning as pruning

    job = msgspec.json.decode(Path(path).read_bytes(), type=Job)
    torch.manual_seed(job.seed)
    began, cpu = monotonic(), process_time()
    module = load(job)
    example = torch.zeros(job.shape)
    steps = 200
    pruner = pruning.pruner.BasePruner(
        module,
        example,
        importance=pruning.importance.GroupMagnitudeImportance(p=2),
        iterative_steps=steps,
        pruning_ratio=1.0,
        global_pruning=True,
        ignored_layers=[one for one in module.modules() if isinstance(one, torch.nn.Linear) and one.out_features == 10],
    )
    whole, _ = pruning.utils.count_ops_and_params(module, example)
    for _ in range(steps):
        pruner.step(interactive=False)
        now, _ = pruning.utils.count_ops_and_params(module, example)
        if whole / now >= job.macs:
            break
    tune(module, job)
    module.eval()
    names = {"input_names": ["x"], "output_names": ["output"]}
    program = torch.onnx.export(module, (example,), dynamo=True, verbose=False, **names)
    program.save(str(Path(job.out) / "model.onnx"))
    result = PeerResult(
        parameters=sum(one.numel() for one in module.parameters()),
        seconds=monotonic() - began,
        cpu_seconds=process_time() - cpu,
    )
    (Path(job.out) / "result.json").write_bytes(msgspec.json.encode(result))


def load(job: Job) -> Any:
    import torch

    file, _, name = job.factory.rpartition(":")
    spec = spec_from_file_location("subject", file)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{file} is no Python file")
    code = module_from_spec(spec)
    sys.modules["subject"] = code
    spec.loader.exec_module(code)
    module = getattr(code, name)()
    module.load_state_dict(torch.load(job.weights, weights_only=True))
    return module


def tune(module: Any, job: Job) -> None:
    import torch

    task = read_task(Path(job.task))
    images = np.load(next(iter(job.dataset.inputs.values())), mmap_mode="r")
    labels = np.load(job.dataset.labels)
    fit = np.array(job.dataset.fit)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    milestones = [round(0.6 * job.epochs), round(0.8 * job.epochs)]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, 0.1)
    draw = np.random.default_rng(job.seed)
    module.train().to(memory_format=torch.channels_last)
    for epoch in range(job.epochs):
        order = draw.permutation(fit)
        for start in range(0, len(order) - 127, 128):
            places = np.sort(order[start : start + 128])
            seen = view(task, images[places], epoch, places)
            x = torch.from_numpy(seen).to(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16):
                loss = torch.nn.functional.cross_entropy(module(x), torch.from_numpy(labels[places]))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        schedule.step()


def view(task: Task, images: Any, epoch: int, places: Any) -> Any:
    wide = msgspec.structs.replace(task, augment=Augment(flip=True, shift=4))
    return augment(wide, {task.inputs[0].name: images}, np.full(len(places), epoch, np.uint64), places)[
        task.inputs[0].name
    ]


if __name__ == "__main__":
    main(sys.argv[1])
