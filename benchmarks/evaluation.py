"""Cost of `edgewright evaluate` compared with bare decoding and inference, and whether its memory stays constant.

    python benchmarks/evaluation.py [PAIRS]

The peer is a careful script in one process: Pillow, numpy, ONNX Runtime with one thread, 400 images one after the
other. Its CPU time is measured after its imports; Edgewright's is that of all its processes, including the start and
the imports of the worker. Both alternate in fresh processes. CPU time depends little on other load, but caches and
clocks do: read the ratio.
"""

import csv
import io
import json
import resource
import subprocess
import sys
import zipfile
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import edgewright  # noqa: F401 - switches off what ONNX Runtime sends, before it is imported
from benchmarks.measuring import describe_machine, find_model, format_ratio

PICTURES = Path(__file__).parents[2] / "shared" / "data" / "imagenet" / "imagenet_dev500.zip"
SIZE, EDGE = 224, 16
COUNT = 400


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and its finished child processes."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def run_bare(count: int) -> dict[str, float]:
    """Evaluate in a bare loop."""
    import numpy as np
    import onnxruntime
    from PIL import Image

    began = cpu_seconds()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(find_model(), options, providers=["CPUExecutionProvider"])
    hits = 0
    with zipfile.ZipFile(PICTURES) as archive:
        rows = list(csv.DictReader(io.StringIO(archive.read("labels.csv").decode())))[:count]
        for row in rows:
            picture = Image.open(io.BytesIO(archive.read(row["file"]))).convert("RGB")
            picture = picture.crop((EDGE, EDGE, EDGE + SIZE, EDGE + SIZE))
            values = np.asarray(picture, np.float32) / np.float32(127.5) - np.float32(1)
            feed = np.ascontiguousarray(values.transpose(2, 0, 1)[np.newaxis])
            hits += int(session.run(None, {"x": feed})[0].argmax()) == int(row["label"])
    return {"cpu": cpu_seconds() - began, "accuracy": hits / count}


def run_ours(count: int) -> dict[str, float]:
    """Evaluate with Edgewright."""
    import msgspec

    from edgewright.flows.devices.names import open_device
    from edgewright.flows.evaluate.flow import evaluate
    from edgewright.flows.workspace import Workspace
    from edgewright.schema.plan import Candidate, EvaluatePlan
    from edgewright.store.store import open_store
    from edgewright.tasks.spec.task import Classification, ImageInput, Task

    picture = ImageInput(name="x", size=(SIZE, SIZE), resize="none", mean=127.5, std=127.5)
    plan = EvaluatePlan(
        candidates=(Candidate(model=str(find_model()), runtime="onnxruntime"),),
        task=msgspec.to_builtins(Task(inputs=(picture,), output=Classification())),
        data=str(PICTURES),
        indices=tuple(range(count)),
    )
    with TemporaryDirectory() as home, closing(open_device("local")) as device, open_store(Path(home)) as store:
        began = cpu_seconds()
        metric = evaluate(plan, Workspace(device, store, lambda text: None)).report.results[0].metric
        spent = cpu_seconds() - began
    peaks = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {
        "cpu": spent,
        "accuracy": metric.value if metric else -1.0,
        "parent_mb": peaks[0] / 1e3,
        "worker_mb": peaks[1] / 1e3,
    }


def ask(what: str, count: int) -> dict[str, Any]:
    """Run one of the two in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.evaluation", what, str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def main(pairs: int) -> None:
    if not PICTURES.is_file():
        raise SystemExit(f"{PICTURES.name} is not here")
    print(describe_machine())
    ours, bare = [], []
    for turn in range(pairs):
        order = ("ours", "bare") if turn % 2 else ("bare", "ours")
        answers = {what: ask(what, COUNT) for what in order}
        ours.append(answers["ours"]["cpu"])
        bare.append(answers["bare"]["cpu"])
        if answers["ours"]["accuracy"] != answers["bare"]["accuracy"]:
            raise SystemExit(f"the two do not compute the same: {answers}")
    print(format_ratio(f"CPU seconds for {COUNT} images", ours, bare))
    for count in (100, 500):
        answer = ask("ours", count)
        print(f"peak memory, {count} images: {answer['parent_mb']:.1f} MB, worker {answer['worker_mb']:.1f} MB")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["bare", number]:
            print(json.dumps(run_bare(int(number))))
        case ["ours", number]:
            print(json.dumps(run_ours(int(number))))
        case [number]:
            main(int(number))
        case _:
            main(8)
