"""Kinds of jobs that a page can start: one row per kind, with the fields of its form.

Each kind is a command of the command line, so a page can do nothing that a user could not type.
"""

from collections.abc import Mapping, Sequence
from platform import system
from typing import Literal, NamedTuple

from edgewright.errors import FieldError
from edgewright.flows.compile.cells import FLOAT_PRECISIONS
from edgewright.flows.doctor.flow import TEST_RUNTIME, examine_runtimes
from edgewright.runtimes.table import TABLE
from edgewright.schema.vocabulary import QUANTIZED_PRECISIONS
from edgewright.web.jobs.choices import FormChoice

Form = Mapping[str, Sequence[str]]


OfferedChoices = Mapping[str, Sequence[FormChoice]]
FILE_CHOICES = ("tasks", "data", "recipes")
JOB_FOLDER = "{folder}"  # placeholder for the job's folder in `fixed`


class FormField(NamedTuple):
    """Field of a form: the option it sets, and the values it accepts.

    Attributes:
        takes: `number` or `whole` (number) between `least` and `most`; `words`: any of `choices`; `one` of `choices`;
            `switch`.
        off: argument that a switch adds to the command when it is off.
        needed: whether a choice is required.
    """

    option: str
    label: str
    takes: Literal["number", "whole", "words", "one", "switch"]
    help: str
    default: str = ""
    least: float = 0
    most: float = 0
    choices: Literal["runs", "compiles", "precisions", "quantized", "devices", "tasks", "data", "recipes", ""] = ""
    off: str = ""
    needed: bool = False

    @property
    def name(self) -> str:
        return self.option.removeprefix("--").replace("-", "_")


class JobKind(NamedTuple):
    """Kind of job: `edgewright NAME MODEL` with the `fixed` arguments and those of the fields."""

    name: str
    title: str
    help: str
    fields: tuple[FormField, ...]
    fixed: tuple[str, ...] = ()
    several: bool = False  # whether it accepts more than one model
    takes_sizes: bool = False  # whether it has `--shape` for dynamic sizes of inputs

    @property
    def needs_folder(self) -> bool:
        """Whether the job needs a file of a work folder."""
        return any(field.needed for field in self.fields)


DEVICE_FIELD = FormField("--on", "Device", "one", "Device that runs the model.", "local", choices="devices")
TASK_FIELD = FormField("--task", "Task", "one", "Task of the model.", choices="tasks", needed=True)
DATA_FIELD = FormField("--data", "Dataset", "one", "Dataset in the work folder.", choices="data", needed=True)
RUNTIMES_FIELD = FormField(
    "--runtime", "Runtimes", "words", "If none is chosen: the default runtime of the format.", choices="runs"
)
THREADS_FIELD = FormField("--threads", "Threads", "whole", "Threads per inference.", "1", 1, 256)

JOB_KINDS: dict[str, JobKind] = {
    "benchmark": JobKind(
        name="benchmark",
        title="Benchmark",
        help="Measure one or more models, interleaved, each in fresh processes.",
        several=True,
        takes_sizes=True,
        fields=(
            RUNTIMES_FIELD,
            DEVICE_FIELD,
            THREADS_FIELD,
            FormField("--processes", "Processes", "whole", "Fresh processes per candidate.", "15", 1, 1000),
            FormField("--seconds", "Seconds", "number", "Steady-state time per process.", "0.2", 0.001, 3600),
            FormField("--layers", "Layers", "switch", "Time the layers in a separate pass.", "on", off="--no-layers"),
        ),
    ),
    "compile": JobKind(
        name="compile",
        title="Compile",
        help="Convert a model into artifacts, and check that their outputs match the source model.",
        fixed=("-o", JOB_FOLDER),
        takes_sizes=True,
        fields=(
            FormField(
                "--runtime", "Runtimes", "words", "If none is chosen: all installed runtimes.", choices="compiles"
            ),
            FormField(
                "--precision",
                "Precision",
                "words",
                "If none is chosen: the model's own precision.",
                choices="precisions",
            ),
            FormField("--samples", "Samples", "whole", "Random inputs for the comparison.", "8", 1, 10_000),
        ),
    ),
    "quantize": JobKind(
        name="quantize",
        title="Quantize",
        help="Quantize a model once for every runtime, and evaluate it on held-out data. Runs on this machine.",
        fixed=("-o", JOB_FOLDER, "--report"),
        takes_sizes=True,
        fields=(
            TASK_FIELD,
            DATA_FIELD,
            FormField(
                "--eval-data", "Evaluation data", "one", "If none is chosen: the rest of the dataset.", choices="data"
            ),
            FormField("--recipe", "Recipe", "one", "If none is chosen: a new recipe.", choices="recipes"),
            FormField("--precision", "Precision", "one", "auto: chosen by architecture.", "w8a8", choices="quantized"),
            FormField(
                "--runtime", "Runtimes", "words", "If none is chosen: ONNX Runtime and LiteRT.", choices="compiles"
            ),
            FormField("--samples", "Samples", "whole", "Calibration samples.", "100", 1, 1_000_000),
            FormField(
                "--max-drop",
                "Maximum drop",
                "number",
                "Of the metric, in points or its unit. Empty: 1 point or 1 %.",
                "",
                0,
                100,
            ),
            FormField(
                "--measure",
                "Benchmark",
                "switch",
                "Compare the latency with the float model.",
                "on",
                off="--no-measure",
            ),
        ),
    ),
    "evaluate": JobKind(
        name="evaluate",
        title="Evaluate",
        help="Evaluate models on labeled data, all on the same samples.",
        several=True,
        fields=(
            TASK_FIELD,
            DATA_FIELD,
            RUNTIMES_FIELD,
            DEVICE_FIELD,
            FormField("--samples", "Samples", "whole", "If empty: all samples.", "", 1, 100_000_000),
            THREADS_FIELD,
        ),
    ),
}


def list_field_choices(field: FormField, offered: OfferedChoices) -> list[FormChoice]:
    """Return the choices of a field; `offered` has those that depend on the machine's files and store."""
    if field.choices in offered:
        return list(offered[field.choices])
    if field.choices in ("precisions", "quantized"):
        return [
            FormChoice(name, name, name)
            for name in (QUANTIZED_PRECISIONS if field.choices == "quantized" else FLOAT_PRECISIONS)
        ]
    usable = {state.name for state in examine_runtimes() if state.usable}
    infos = [info for info in TABLE.values() if info.name != TEST_RUNTIME and info.name in usable and info.reads]
    if field.choices == "compiles":
        infos = [info for info in infos if info.writes]
    else:
        infos = [info for info in infos if not info.systems or system() in info.systems]
    return [FormChoice(info.name, info.title, info.name) for info in infos]


def parse_form_options(
    kind: JobKind, form: Form, offered: OfferedChoices, errors: dict[str, FieldError] | None = None
) -> list[FormChoice]:
    """Return the arguments that a form adds to the command, as shown and as passed.

    Args:
        errors: receives the error of each field by its name; without it, the first one is raised.
    """
    words: list[FormChoice] = []
    for field in kind.fields:
        try:
            words += _parse_field(field, form.get(field.name, ()), offered)
        except FieldError as error:
            if errors is None:
                raise
            errors[field.name] = error
    return words


def _parse_field(field: FormField, given: Sequence[str], offered: OfferedChoices) -> list[FormChoice]:
    if field.takes == "switch":
        return [] if given else _make_plain_choices(field.off)
    if field.takes in ("words", "one"):
        return _parse_choices(field, [word for word in given if word], list_field_choices(field, offered))
    text = (given[0] if given else "").strip() or field.default
    if text == field.default:
        return []
    try:
        value = float(int(text)) if field.takes == "whole" else float(text)
    except ValueError:
        raise _make_field_error(field, text, "it is not a number") from None
    if not field.least <= value <= field.most:
        raise _make_field_error(field, text, f"it must be from {field.least:g} to {field.most:g}")
    return _make_plain_choices(field.option, text)


def _parse_choices(field: FormField, ids: Sequence[str], choices: Sequence[FormChoice]) -> list[FormChoice]:
    known = {one.id: one for one in choices}
    if unknown := [word for word in ids if word not in known]:
        raise _make_field_error(field, unknown[0], f"valid choices: {', '.join(one.title for one in choices)[:500]}")
    if field.needed and not ids:
        what = f"{field.label}: nothing is chosen"
        raise FieldError(what, "a choice is required", "choose one in the form", field=field.name)
    if field.takes == "one" and len(ids) > 1:
        raise _make_field_error(field, ids[1], "only one can be chosen")
    if not ids or list(ids) == [field.default]:
        return []
    chosen = [known[word] for word in ids]
    if field.choices in FILE_CHOICES:  # the page shows the name, the command gets the path
        return [*_make_plain_choices(field.option), chosen[0]]
    return _make_plain_choices(field.option, ",".join(one.word for one in chosen))


def _make_plain_choices(*words: str) -> list[FormChoice]:
    """Return arguments that are shown as they are passed."""
    return [FormChoice("", word, word) for word in words]


def _make_field_error(field: FormField, given: str, why: str) -> FieldError:
    return FieldError(f"{field.label}: {given[:40]!r} is not valid", why, "change it in the form", field=field.name)
