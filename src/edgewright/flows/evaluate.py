"""How well a classifier does on labelled samples, in the runtime that will run it."""

from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from edgewright.bench.session import Tell
from edgewright.devices.contract import Device
from edgewright.errors import InputError
from edgewright.facts.model import Model
from edgewright.facts.plan import Candidate
from edgewright.facts.run import Metric, Run
from edgewright.flows.inference import infer
from edgewright.formats.artifacts import find_record
from edgewright.formats.files import read_model
from edgewright.store.ids import new_run_id
from edgewright.store.store import Store, utc_now
from edgewright.tasks.classification import Score, accuracy
from edgewright.tasks.tensors import store_as


class Samples(Struct, frozen=True, kw_only=True):
    """Labelled samples: `values` [n, …] real, each entry one input of the model; `labels` [n]."""

    values: NDArray[np.floating]
    labels: NDArray[np.integer]


def evaluate(candidate: Candidate, samples: Samples, device: Device, store: Store, tell: Tell) -> Score:
    """Accuracy of a model with one input and one output of scores, recorded as a run of kind `evaluate`.

    Raises InputError where the model is no such classifier, and whatever the worker raises.
    """
    model = read_model(Path(candidate.model))
    tell(f"{model.name} in {candidate.runtime}: accuracy on {len(samples.labels)} samples")
    started = utc_now()
    scores = predict(candidate, model, samples.values, device)
    score = accuracy(samples.labels, scores.reshape(len(scores), -1))
    record(candidate, model, score, started, device, store)
    return score


def predict(candidate: Candidate, model: Model, values: NDArray[np.floating], device: Device) -> NDArray[np.generic]:
    """The model's only output for every sample, [n, …]; `values` are in the source's layout for an artifact."""
    known = find_record(Path(model.path))
    signature = known.source.signature if known else model.signature
    if len(signature.inputs) != 1 or len(signature.outputs) != 1:
        raise InputError(
            f"{model.name} is no classifier", "it needs one input and one output", "evaluate another model"
        )
    spec = signature.inputs[0]
    stack = {spec.name: store_as(values, spec)}
    outputs, _ = infer(model, known, candidate.runtime, stack, device, options=candidate.options)
    return outputs[signature.outputs[0].name]


def record(candidate: Candidate, model: Model, score: Score, started: str, device: Device, store: Store) -> None:
    run = Run(
        id=new_run_id(),
        kind="evaluate",
        state="done",
        started_at=started,
        finished_at=utc_now(),
        model=model,
        device=device.facts(),
        runtime=candidate.runtime,
        plan={"schema": "edgewright.evaluation/1", "candidate": msgspec.to_builtins(candidate), "metric": "accuracy"},
        environment=device.environment(),
        metrics=(Metric(name="accuracy", unit="1", value=score.value, low=score.low, high=score.high, n=score.n),),
    )
    store.record([run])
