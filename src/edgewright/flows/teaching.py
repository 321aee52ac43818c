"""What a teacher says of every view of every sample that is learnt from, kept on disk for all epochs and seeds."""

from math import inf
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.errors import UsageError
from edgewright.facts.plan import DistilPlan, PrunePlan
from edgewright.flows.contest import own_runtime, runnable
from edgewright.flows.course import Course
from edgewright.flows.inference import Runner
from edgewright.flows.resolve import source_signature
from edgewright.flows.trainings import run_worker
from edgewright.formats.artifacts import find_record
from edgewright.formats.files import read_model
from edgewright.store.store import Store
from edgewright.system.files import written_whole
from edgewright.tasks.check import check_task, output_name
from edgewright.training.augment import augment
from edgewright.training.job import AskJob, Laid, Source

Array = NDArray[Any]
AT_ONCE = 64


def check_teaching(plan: PrunePlan | DistilPlan) -> None:
    """UsageError for what no teaching can be set to."""
    if not 0 < plan.temperature < inf or not 0 < plan.alpha <= 1 or plan.views < 1:
        raise UsageError(
            "the teaching cannot be set so",
            f"temperature {plan.temperature:g}, alpha {plan.alpha:g}, views {plan.views}",
            "--temperature 4 --alpha 0.9 --views 4",
        )


def views_of(views: int, course: Course) -> int:
    """Without augmentation all views of a sample are the same."""
    return views if course.task.augment else 1


def ask_module(views: int, teacher: Source, course: Course, laid: Laid) -> Path:
    """A torch teacher answers in the training's own worker."""
    answers = course.memory / "answers.npy"
    if not answers.is_file():
        run_worker(
            AskJob(
                teacher=teacher, shapes=course.shapes, task=course.task_json, data=laid, settings=course.settings,
                views=views_of(views, course), out=str(answers),
            ),
            course.court.tell,
            title="asking the teacher",
            out=course.memory / "asking",
        )  # fmt: skip
    return answers


def ask_file(plan: DistilPlan, teacher: Path, work: Path, course: Course, laid: Laid, store: Store) -> Path:
    """A teacher in a file answers in its runtime, whatever that is.

    What an interrupted asking has written goes on from the last whole view.
    """
    answers = course.memory / "answers.npy"
    if answers.is_file():
        return answers
    court = course.court
    path, error = runnable(teacher, court.runtime, work / "teacher", court.device, store, court.tell, court.timeout_s)
    if error is not None:
        raise error
    model, record = read_model(path), find_record(path)
    signature = source_signature(model)
    check_task(course.task, signature)
    wanted = output_name(course.task, signature)
    inputs = {name: np.load(file, mmap_mode="r") for name, file in laid.inputs.items()}
    fit = np.asarray(laid.fit, np.int64)
    parts = []
    with Runner(
        model, record, own_runtime(path, court.runtime), court.device, threads=court.threads, timeout_s=court.timeout_s
    ) as runner:
        for view in range(views_of(plan.views, course)):
            part = course.memory / f"answers-{view}.npy"
            if not part.is_file():
                save(part, answer(runner, wanted, inputs, fit, view, plan, course))
            parts.append(part)
        runner.leave()
    save(answers, np.stack([np.load(part, mmap_mode="r") for part in parts]))
    for part in parts:
        part.unlink()
    return answers


def answer(
    runner: Runner, wanted: str, inputs: dict[str, Array], fit: Array, view: int, plan: DistilPlan, course: Course
) -> Array:
    """The teacher's output for one view of every sample of `fit`, [fit, …]."""
    found: list[Array] = []
    views = views_of(plan.views, course)
    for start in range(0, len(fit), AT_ONCE):
        places = fit[start : start + AT_ONCE]
        batch = {name: np.ascontiguousarray(stack[places]) for name, stack in inputs.items()}
        seen = augment(course.task, batch, np.full(len(places), view, np.uint64), places)
        outputs = runner.run({name: array[:, np.newaxis] for name, array in seen.items()})
        chosen = outputs[wanted]
        found.append(chosen.reshape(len(places), *chosen.shape[2:]))
        done = start + len(places)
        course.court.tell(f"asking the teacher: view {view + 1} of {views}, {done} of {len(fit)} samples")
    return np.concatenate(found).astype(np.float32)


def save(path: Path, array: Array) -> None:
    """Under its name only once it is whole."""
    with written_whole(path) as part:
        np.save(part, array)
