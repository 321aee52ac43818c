"""The work that can be started from a page: one row per kind, which names the fields of its form.

Each is a command of the command line; a page can therefore do nothing that a user could not type.
"""

from collections.abc import Mapping, Sequence
from platform import system
from typing import Literal, NamedTuple

from edgewright.errors import UsageError
from edgewright.flows.cells import FLOAT_PRECISIONS
from edgewright.flows.doctor import FOR_TESTS, examine_runtimes
from edgewright.runtimes.table import TABLE

Form = Mapping[str, Sequence[str]]
FOLDER = "{folder}"  # stands for the job's own folder in a row's fixed words


class Field(NamedTuple):
    """One field: the option it fills, and what it takes.

    Attributes:
        takes: `number`, `whole` (number) between `least` and `most`; `words` of `choices`, any of them; `switch`.
        off: what a switch that is off adds to the command.
    """

    option: str
    label: str
    takes: Literal["number", "whole", "words", "switch"]
    help: str
    default: str = ""
    least: float = 0
    most: float = 0
    choices: Literal["runs", "compiles", "precisions", ""] = ""
    off: str = ""

    @property
    def name(self) -> str:
        return self.option.removeprefix("--").replace("-", "_")


class Kind(NamedTuple):
    """One kind of work: `edgewright NAME MODEL`, with `fixed` words and what the fields add."""

    name: str
    title: str
    help: str
    fields: tuple[Field, ...]
    fixed: tuple[str, ...] = ()
    several: bool = False  # whether it takes more than one model


KINDS: dict[str, Kind] = {
    "benchmark": Kind(
        name="benchmark",
        title="Benchmark",
        help="Measure one or more models, interleaved, each in fresh processes.",
        several=True,
        fields=(
            Field("--runtime", "Runtimes", "words", "None: the one made for the format.", choices="runs"),
            Field("--threads", "Threads", "whole", "For one inference.", "1", 1, 256),
            Field("--processes", "Processes", "whole", "Fresh ones per candidate.", "15", 1, 1000),
            Field("--seconds", "Seconds", "number", "Steady time per process.", "0.2", 0.001, 3600),
            Field("--layers", "Layers", "switch", "Time the layers in a pass of their own.", "on", off="--no-layers"),
        ),
    ),
    "compile": Kind(
        name="compile",
        title="Compile",
        help="Turn a model into artifacts, and prove that their numbers are the same.",
        fixed=("-o", FOLDER),
        fields=(
            Field("--runtime", "Runtimes", "words", "None: all that are installed.", choices="compiles"),
            Field("--precision", "Precision", "words", "None: the model's own.", choices="precisions"),
            Field("--samples", "Samples", "whole", "Seeded inputs to compare on.", "8", 1, 10_000),
        ),
    ),
}
RERUN = "rerun"  # has no form of its own: it is the button of a run


def choices_of(field: Field) -> list[tuple[str, str]]:
    """Words and titles that a field of words can take here."""
    if field.choices == "precisions":
        return [(name, name) for name in FLOAT_PRECISIONS]
    usable = {state.name for state in examine_runtimes() if state.usable}
    infos = [info for info in TABLE.values() if info.name != FOR_TESTS and info.name in usable and info.reads]
    if field.choices == "compiles":
        infos = [info for info in infos if info.writes]
    else:
        infos = [info for info in infos if not info.systems or system() in info.systems]
    return [(info.name, info.title) for info in infos]


def options_from(kind: Kind, form: Form) -> list[str]:
    """The options that a form says; UsageError for what a field does not take."""
    return [word for field in kind.fields for word in _option(field, form.get(field.name, ()))]


def _option(field: Field, given: Sequence[str]) -> list[str]:
    if field.takes == "switch":
        return [] if given else [field.off]
    if field.takes == "words":
        known = {name for name, _ in choices_of(field)}
        if strangers := [word for word in given if word not in known]:
            raise _refused(field, strangers[0], f"known are {', '.join(sorted(known))}")
        return [field.option, ",".join(given)] if given else []
    text = (given[0] if given else "").strip() or field.default
    try:
        value = float(int(text)) if field.takes == "whole" else float(text)
    except ValueError:
        raise _refused(field, text, "it is no number") from None
    if not field.least <= value <= field.most:
        raise _refused(field, text, f"it must be from {field.least:g} to {field.most:g}")
    return [] if text == field.default else [field.option, text]


def _refused(field: Field, given: str, why: str) -> UsageError:
    return UsageError(f"{field.label}: {given[:40]!r} cannot be used", why, "change it in the form")
