"""The work that can be started from a page: one row per kind, which names the fields of its form.

Each is a command of the command line; a page can therefore do nothing that a user could not type.
"""

from collections.abc import Mapping, Sequence
from platform import system
from typing import Literal, NamedTuple

from edgewright.errors import UsageError
from edgewright.flows.compile.cells import FLOAT_PRECISIONS
from edgewright.flows.doctor.flow import TEST_RUNTIME, examine_runtimes
from edgewright.runtimes.table import TABLE
from edgewright.schema.vocabulary import QUANTIZED_PRECISIONS
from edgewright.web.jobs.choices import FormChoice

Form = Mapping[str, Sequence[str]]
OfferedChoices = Mapping[str, Sequence[FormChoice]]
FILE_CHOICES = ("tasks", "data", "recipes")
JOB_FOLDER = "{folder}"  # stands for the job's own folder in a row's fixed words


class FormField(NamedTuple):
    """One field: the option it fills, and what it takes.

    Attributes:
        takes: `number`, `whole` (number) between `least` and `most`; `words` of `choices`, any of them; `one` of them;
            `switch`.
        off: what a switch that is off adds to the command.
        needed: whether one of the choices must be chosen.
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
    """One kind of work: `edgewright NAME MODEL`, with `fixed` words and what the fields add."""

    name: str
    title: str
    help: str
    fields: tuple[FormField, ...]
    fixed: tuple[str, ...] = ()
    several: bool = False  # whether it takes more than one model

    @property
    def needs_folder(self) -> bool:
        """Whether a work folder must offer something."""
        return any(field.needed for field in self.fields)


DEVICE_FIELD = FormField("--on", "Device", "one", "Where it runs.", "local", choices="devices")
TASK_FIELD = FormField("--task", "Task", "one", "What the model is for.", choices="tasks", needed=True)
DATA_FIELD = FormField("--data", "Data set", "one", "Of the work folder.", choices="data", needed=True)
RUNTIMES_FIELD = FormField("--runtime", "Runtimes", "words", "None: the one made for the format.", choices="runs")
THREADS_FIELD = FormField("--threads", "Threads", "whole", "For one inference.", "1", 1, 256)

JOB_KINDS: dict[str, JobKind] = {
    "benchmark": JobKind(
        name="benchmark",
        title="Benchmark",
        help="Measure one or more models, interleaved, each in fresh processes.",
        several=True,
        fields=(
            RUNTIMES_FIELD,
            DEVICE_FIELD,
            THREADS_FIELD,
            FormField("--processes", "Processes", "whole", "Fresh ones per candidate.", "15", 1, 1000),
            FormField("--seconds", "Seconds", "number", "Steady time per process.", "0.2", 0.001, 3600),
            FormField(
                "--layers", "Layers", "switch", "Time the layers in a pass of their own.", "on", off="--no-layers"
            ),
        ),
    ),
    "compile": JobKind(
        name="compile",
        title="Compile",
        help="Turn a model into artifacts, and prove that their numbers are the same.",
        fixed=("-o", JOB_FOLDER),
        fields=(
            FormField("--runtime", "Runtimes", "words", "None: all that are installed.", choices="compiles"),
            FormField("--precision", "Precision", "words", "None: the model's own.", choices="precisions"),
            FormField("--samples", "Samples", "whole", "Seeded inputs to compare on.", "8", 1, 10_000),
        ),
    ),
    "quantize": JobKind(
        name="quantize",
        title="Quantise",
        help="Quantise a model once for every runtime, and judge it on data that took no part. On this machine.",
        fixed=("-o", JOB_FOLDER),
        fields=(
            TASK_FIELD,
            DATA_FIELD,
            FormField("--eval-data", "Judge on", "one", "None: the rest of the data set.", choices="data"),
            FormField("--recipe", "Recipe", "one", "None: one is made.", choices="recipes"),
            FormField("--precision", "Precision", "one", "auto chooses by architecture.", "w8a8", choices="quantized"),
            FormField("--runtime", "Runtimes", "words", "None: ONNX Runtime and LiteRT.", choices="compiles"),
            FormField("--samples", "Samples", "whole", "For calibration.", "100", 1, 1_000_000),
            FormField("--max-drop", "Largest drop", "number", "Of the metric, in points of a share.", "1.0", 0, 100),
            FormField("--measure", "Time them", "switch", "Against float ones.", "on", off="--no-measure"),
        ),
    ),
    "evaluate": JobKind(
        name="evaluate",
        title="Evaluate",
        help="Score models on labelled data, all on the same samples.",
        several=True,
        fields=(
            TASK_FIELD,
            DATA_FIELD,
            RUNTIMES_FIELD,
            DEVICE_FIELD,
            FormField("--samples", "Samples", "whole", "Empty: all.", "", 1, 100_000_000),
            THREADS_FIELD,
        ),
    ),
}
RERUN = "rerun"  # has no form of its own: it is the button of a run


def list_field_choices(field: FormField, offered: OfferedChoices) -> list[FormChoice]:
    """What a field of words can take here; `offered` has what depends on the machine's own files and record."""
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


def parse_form_options(kind: JobKind, form: Form, offered: OfferedChoices) -> list[FormChoice]:
    """The words that a form adds to the command, each as it is shown and as it is given; UsageError for what a field
    does not take."""
    return [word for field in kind.fields for word in _parse_field(field, form.get(field.name, ()), offered)]


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
        raise _make_field_error(field, text, "it is no number") from None
    if not field.least <= value <= field.most:
        raise _make_field_error(field, text, f"it must be from {field.least:g} to {field.most:g}")
    return _make_plain_choices(field.option, text)


def _parse_choices(field: FormField, ids: Sequence[str], choices: Sequence[FormChoice]) -> list[FormChoice]:
    known = {one.id: one for one in choices}
    if unknown := [word for word in ids if word not in known]:
        raise _make_field_error(field, unknown[0], f"known are {', '.join(one.title for one in choices)[:500]}")
    if field.needed and not ids:
        raise UsageError(f"{field.label}: nothing is chosen", "", "choose one in the form")
    if field.takes == "one" and len(ids) > 1:
        raise _make_field_error(field, ids[1], "only one can be chosen")
    if not ids or list(ids) == [field.default]:
        return []
    chosen = [known[word] for word in ids]
    if field.choices in FILE_CHOICES:  # a person sees which; the whole path is the command's affair
        return [*_make_plain_choices(field.option), chosen[0]]
    return _make_plain_choices(field.option, ",".join(one.word for one in chosen))


def _make_plain_choices(*words: str) -> list[FormChoice]:
    """Words that are shown as they are given."""
    return [FormChoice("", word, word) for word in words]


def _make_field_error(field: FormField, given: str, why: str) -> UsageError:
    return UsageError(f"{field.label}: {given[:40]!r} cannot be used", why, "change it in the form")
