"""Signatures of the models that a form offers, and the fields for their dynamic sizes.

A file that a browser sent is read in a process of its own, because a damaged file may crash its reader.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from msgspec import Struct

from edgewright.errors import FieldError
from edgewright.formats.files import read_model
from edgewright.formats.isolated import answer_isolated, ask_isolated
from edgewright.limits import ResourceBudget, read_budget
from edgewright.schema.model import Model, TensorSpec
from edgewright.web.jobs.choices import FormChoice
from edgewright.web.jobs.kinds import Form

MAX_SIZE = 1_000_000
NO_NUMBER, OUT_OF_RANGE = "it is not a whole number", f"it must be from 1 to {MAX_SIZE:,}"
DISAGREE = "the chosen models have different shapes of this input"


class SizeField(Struct, frozen=True, kw_only=True):
    """Field for one dynamic size of an input: the shape with its name, and the proposed value."""

    name: str
    input: str
    position: int
    shape: str
    label: str
    value: str


def read_uploaded(path: Path) -> Model:
    """Return the model of an untrusted file, read in a process; raises EdgewrightError."""
    return ask_isolated(__name__, path, {}, Model, read_budget())


def list_size_fields(models: Iterable[Model], form: Form) -> list[SizeField]:
    """Return a field for each dynamic size of the models' inputs, with the given value, or 1 for the batch."""
    found: dict[str, SizeField] = {}
    for spec in (spec for model in models for spec in model.signature.inputs):
        for position, size in enumerate(spec.shape):
            name = f"size.{spec.name}.{position}"
            if isinstance(size, str) and name not in found:
                proposed = form.get(name) or ["1" if position == 0 else _get_default(spec, position)]
                found[name] = SizeField(
                    name=name,
                    input=spec.name,
                    position=position,
                    shape=" × ".join(str(one) or "?" for one in spec.shape),
                    label=size or f"size {position + 1}",
                    value=proposed[0],
                )
    return list(found.values())


def _get_default(spec: TensorSpec, position: int) -> str:
    return str(spec.default_shape[position]) if spec.default_shape else ""


def parse_sizes(models: Sequence[Model], form: Form, errors: dict[str, FieldError]) -> list[FormChoice]:
    """Return `--shape` with the sizes of the form for each input with dynamic sizes."""
    fields = list_size_fields(models, form)
    words: list[FormChoice] = []
    for name in dict.fromkeys(field.input for field in fields):
        own = {field.position: field for field in fields if field.input == name}
        shapes = {spec.shape for model in models for spec in model.signature.inputs if spec.name == name}
        first = next(iter(own.values()))
        if len(shapes) > 1:
            errors[first.name] = _make_error(first, DISAGREE)
            continue
        sizes = {position: _parse_size(field, errors) for position, field in own.items()}
        shape = [sizes.get(position) or size for position, size in enumerate(next(iter(shapes)))]
        text = f"{name}={','.join(map(str, shape))}"
        words += [FormChoice("", "--shape", "--shape"), FormChoice("", text, text)]
    return words


def _parse_size(field: SizeField, errors: dict[str, FieldError]) -> int:
    try:
        value = int(field.value[:20])
    except ValueError:
        errors[field.name] = _make_error(field, NO_NUMBER)
        return 1
    if not 1 <= value <= MAX_SIZE:
        errors[field.name] = _make_error(field, OUT_OF_RANGE)
    return value


def _make_error(field: SizeField, why: str) -> FieldError:
    what = f"{field.input}, {field.label}: {field.value[:40]!r} is not valid"
    return FieldError(what, why, "change it in the form", field=field.name)


def _read_here(path: Path, request: dict[str, str], budget: ResourceBudget) -> Model:
    return read_model(path)


if __name__ == "__main__":
    answer_isolated(dict[str, str], _read_here)
