"""Checks of an exported run before its import, because it is not trusted.

All later assumptions are checked here: values can be shown, names are inside their folders, files have the hashes of
the run's model. `find_fault` returns the first fault; content that cannot be verified is a fault too.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from edgewright.errors import ModelUnreadable
from edgewright.formats.artifacts import is_file_name, is_inside, parse_record
from edgewright.formats.files import READABLE, RECORDED, detect_format, join_hashes, read_head
from edgewright.schema.artifact import RECORD_ROLE, RECORD_SUFFIX, Artifact
from edgewright.schema.plan import BenchmarkPlan
from edgewright.schema.run import Run, RunOutput
from edgewright.store.runs.ids import is_run_id
from edgewright.store.runs.rows import parse_microseconds

MODEL_FORMATS = (*READABLE, *RECORDED)
OUTPUT_FORMATS = ("onnx", "tflite")  # role of a model that a run made
UNMARKED_FORMATS = ("onnx", "mnn")  # files of these formats have no signature
MAX_RECORD_BYTES = 64 << 20
MAX_DEPTH = 32
MAX_LETTERS = 1_000_000
MAX_INT32, MAX_INT64, MAX_COUNT = 2**31 - 1, 2**63 - 1, 2**53
COUNT_SUFFIXES = (".samples", ".index")  # suffixes of the names of integer series

Files = Mapping[str, Path]


def find_fault(run: Run, files: Files) -> str:
    """Return why a run cannot be imported; empty if there is no fault.

    Args:
        files: the run's files by their verified SHA-256; files that were not exported are absent.
    """
    faults = chain(
        _run_faults(run), _number_faults(run), _name_faults(run), _model_faults(run), _file_faults(run, files)
    )
    return next(faults, "")


def _run_faults(run: Run) -> Iterator[str]:
    if not is_run_id(run.id):
        yield f"{run.id[:40]!r} is not the id of a run"
    if run.parent_id is not None and not is_run_id(run.parent_id):
        yield f"{run.parent_id[:40]!r} is not the id of a run"
    if run.state in ("queued", "running"):
        yield f"run {run.id} is {run.state}: it has no result"
    for moment in (run.started_at, run.finished_at):
        if moment is not None and (why := _time_fault(moment)):
            yield f"{moment[:40]!r} is not a time: {why}"
    if run.kind == "benchmark":
        yield from _plan_faults(run)
    if why := _conversion_fault(run.environment.get("packages", {}), dict[str, str]):
        yield f"the packages in the environment of run {run.id} are not names and versions: {why}"


def _time_fault(moment: str) -> str:
    try:
        return "" if parse_microseconds(moment) >= 0 else "it is before 1970"
    except (ValueError, OverflowError) as error:
        return str(error)


def _plan_faults(run: Run) -> Iterator[str]:
    """Find faults of a benchmark's plan, which is read to compare and to repeat the run."""
    if why := _conversion_fault(run.plan, BenchmarkPlan):
        yield f"the plan of run {run.id} is not a valid benchmark plan: {why}"
        return
    plan = msgspec.convert(run.plan, BenchmarkPlan)
    if len(plan.candidates) != 1:
        yield f"the plan of run {run.id} has {len(plan.candidates)} candidates; a run has one"
    elif run.model is not None and plan.candidates[0].model_sha256 not in ("", run.model.sha256):
        yield "its plan belongs to another model"


def _conversion_fault(value: object, kind: Any) -> str:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        return str(error)
    return ""


def _number_faults(run: Run) -> Iterator[str]:
    """Find values that tables or pages cannot store or show."""
    facts = {"plan": run.plan, "environment": run.environment, "device": run.device and run.device.facts}
    for name, value in facts.items():
        if why := _json_fault(value):
            yield f"its {name} cannot be kept: {why}"
    for text in (run.kind, run.runtime, run.plan_hash, run.error or "", run.note, *run.tags, *run.tags.values()):
        if len(text) > MAX_LETTERS:
            yield f"one of its texts has more than {MAX_LETTERS:,} characters"
    for one in run.series:
        if one.name.endswith(COUNT_SUFFIXES) and not all(map(_is_count, one.data)):
            yield f"series {one.name[:80]} holds values that are not whole numbers"
    sizes = [metric.n for metric in run.metrics] + [output.bytes for output in run.outputs]
    sizes += [layer.memory_bytes or 0 for layer in run.layers] + ([run.model.bytes] if run.model else [])
    if not all(0 <= size <= MAX_INT64 for size in sizes):
        yield "a number of bytes or samples is out of range"
    if not all(0 <= layer.position <= MAX_INT32 for layer in run.layers):
        yield "the position of a layer is out of range"


def _is_count(value: float) -> bool:
    return 0 <= value <= MAX_COUNT and value == math.floor(value)


def _json_fault(value: object, depth: int = 0) -> str:
    """Return why a plain JSON value cannot be stored; empty if it can."""
    if depth > MAX_DEPTH:
        return f"it is nested more than {MAX_DEPTH} levels deep"
    if isinstance(value, dict):
        return next((why for pair in value.items() for one in pair if (why := _json_fault(one, depth + 1))), "")
    if isinstance(value, list | tuple):
        return next((why for one in value if (why := _json_fault(one, depth + 1))), "")
    if isinstance(value, str) and len(value) > MAX_LETTERS:
        return f"a text has more than {MAX_LETTERS:,} characters"
    if isinstance(value, int) and abs(value) > MAX_INT64:
        return "a number is too large"
    if isinstance(value, float) and not math.isfinite(value):
        return "a number is not finite"
    return ""


def _name_faults(run: Run) -> Iterator[str]:
    """Find names outside their folder and invalid file names."""
    roles = Counter(output.role for output in run.outputs)
    if repeated := next((role for role, number in roles.items() if number > 1), None):
        yield f"it has several outputs {repeated[:80]!r}"
    names = [role.partition(":")[2] for role in roles if role.startswith(("data:", "artifact:"))]
    if run.model is not None:
        names += run.model.data_files
        if not is_file_name(run.model.name):
            yield f"its model is named {run.model.name[:80]!r}, which is not a valid file name"
    for name in names:
        if not is_inside(name):
            yield f"the name of its file {name[:80]!r} is not valid or is outside its folder"


def _model_faults(run: Run) -> Iterator[str]:
    """Find outputs with the role of a model whose hashes do not match."""
    known = {output.role: output for output in run.outputs}
    for role in ("model", "model:plain"):
        if role in known and not is_claim_true(run, known[role]):
            yield f"its output {role} differs from the recorded model: the hash does not match"
    data = [role.removeprefix("data:") for role in known if role.startswith("data:")]
    own = {*run.model.data_files, PurePosixPath(run.model.name).stem + RECORD_SUFFIX} if run.model else set()
    if unknown := [name for name in data if name not in own]:
        yield f"its model has no file {unknown[0][:80]!r}"


def is_claim_true(run: Run, output: RunOutput) -> bool:
    """Return whether the hashes of an output `model` match its recorded model."""
    claimed = get_claimed_hash(run, output)
    if output.sha256 == claimed:
        return True
    if run.model is None or claimed != run.model.sha256 or not run.model.data_files:
        return False
    hashes = {one.role: one.sha256 for one in run.outputs}
    names = run.model.data_files
    return any(
        join_hashes([output.sha256, *(hashes.get(f"data:{name}", "") for name in ordered)]) == claimed
        for ordered in (names, sorted(names, key=PurePosixPath))
    )


def get_claimed_hash(run: Run, output: RunOutput) -> str:
    """Return the recorded model hash of an output."""
    return output.model_id or (run.model.sha256 if run.model else "")


def _file_faults(run: Run, files: Files) -> Iterator[str]:
    """Find faults in the content: the format of a model, and the record of an artifact."""
    for output in run.outputs:
        if output.role in ("model", "model:plain") and output.sha256 in files:
            yield from _format_faults(run, output, files[output.sha256])
    made = {one.role.removeprefix("artifact:"): one for one in run.outputs if one.role.startswith("artifact:")}
    record_output = next((one for one in run.outputs if one.role == RECORD_ROLE), None)
    if made and (record_output is None or record_output.sha256 not in files):
        yield "the record of its artifact is missing, so that its files cannot be verified"
    elif record_output is not None and record_output.sha256 in files:
        yield from _record_faults(run, record_output, made, files[record_output.sha256])


def _format_faults(run: Run, output: RunOutput, path: Path) -> Iterator[str]:
    is_own = run.model is not None and get_claimed_hash(run, output) == run.model.sha256
    known = detect_format(read_head(path))
    claimed = run.model.format if run.model is not None and is_own else known or "onnx"
    allowed = MODEL_FORMATS if is_own else OUTPUT_FORMATS
    if claimed not in allowed:
        yield f"its model has the format {claimed[:40]}; supported formats are {', '.join(allowed)}"
    elif known != claimed and (known or claimed not in UNMARKED_FORMATS):
        yield f"its model is recorded as {claimed}, but its content is {known or 'another format'}"


def _record_faults(run: Run, record_output: RunOutput, made: Mapping[str, RunOutput], path: Path) -> Iterator[str]:
    if record_output.bytes > MAX_RECORD_BYTES:
        yield f"the record of its artifact is larger than {MAX_RECORD_BYTES >> 20} MiB"
        return
    try:
        record = parse_record(path.read_bytes(), "the record of its artifact")
    except ModelUnreadable as error:
        yield str(error)
        return
    if {name: output.sha256 for name, output in made.items()} != record.files:
        yield "the files of its artifact differ from those in the artifact's record"
    elif run.model is None or record.source.sha256 != run.model.sha256:
        yield "its artifact was made from another model"
    elif {output.model_id for output in made.values()} != {_compute_artifact_hash(record)}:
        yield "its artifact differs from the recorded model: the hash does not match"


def _compute_artifact_hash(record: Artifact) -> str:
    """Return the hash of an artifact as a model, from the hashes in its record."""
    names = sorted(record.files, key=lambda name: (name != record.main, name))
    return join_hashes([record.files[name] for name in names])
