"""Cells of a compile plan: one runtime and one precision each."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from edgewright.errors import ModelNotConvertible, UsageError
from edgewright.flows.compile.sources import is_torch
from edgewright.formats.files import read_model
from edgewright.runtimes.table import RuntimeInfo, find_runtime
from edgewright.schema.plan import CompileCell
from edgewright.schema.text import suggest
from edgewright.schema.vocabulary import PRECISION_ALIASES, QUANTIZED_PRECISIONS, Precision, normalize_word

FLOAT_PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16")  # precisions to which a float model can be compiled


def plan_cells(
    runtimes: Sequence[str], precisions: Sequence[str], options: Mapping[str, Mapping[str, str]], own: Precision
) -> tuple[CompileCell, ...]:
    """Return every combination of runtime and precision; without a precision that of the model, `own`."""
    names = list(dict.fromkeys(find_runtime(word).name for word in runtimes))
    requested = list(dict.fromkeys(_resolve_precision(word, own) for word in precisions)) or [own]
    return tuple(
        CompileCell(runtime=name, precision=precision, options=dict(options.get(name, {})))
        for name in names
        for precision in requested
    )


def _resolve_precision(word: str, own: Precision) -> Precision:
    """Return the precision for a word; UsageError if a model of precision `own` cannot be compiled to it."""
    name = normalize_word(word)
    name = PRECISION_ALIASES.get(name, name)
    known: tuple[Precision, ...] = FLOAT_PRECISIONS if own in FLOAT_PRECISIONS else (own,)
    for one in known:
        if one == name:
            return one
    why = f"the model is {own}; valid precisions are {', '.join(known)}"
    hint = f"--precision {known[0]}"
    if name in QUANTIZED_PRECISIONS and own in FLOAT_PRECISIONS:
        hint = f"edgewright quantize MODEL --precision {name} --task task.toml --data DATA"
    raise UsageError(f"--precision {word} is not supported for this model{suggest(name, known)}", why, hint)


def read_source_precision(source: str) -> Precision:
    """Return the source's precision: fp32 for any float type, or the quantized one."""
    if is_torch(source):
        return "fp32"
    found = read_model(Path(source)).precision
    return "fp32" if found in FLOAT_PRECISIONS else found


def make_quantized_cell(runtime: str, precision: Precision, *, integer_io: bool) -> CompileCell:
    """Return the cell of a quantized graph, with integer inputs and outputs if requested and supported."""
    options = {"io": "integer"} if integer_io and supports_integer_io(runtime) else {}
    return CompileCell(runtime=runtime, precision=precision, options=options)


def supports_integer_io(runtime: str) -> bool:
    return any(one.name == "io" and "integer" in one.values for one in find_runtime(runtime).compile_options)


def check_cell(cell: CompileCell, info: RuntimeInfo) -> None:
    if not info.compiles:
        raise ModelNotConvertible(f"{info.name} has no compiler", "it runs model files directly", "remove it")
    if cell.precision not in info.precisions:
        known = ", ".join(info.precisions)
        of_command = QUANTIZED_PRECISIONS if cell.precision in QUANTIZED_PRECISIONS else FLOAT_PRECISIONS
        usable = [name for name in info.precisions if name in of_command]
        hint = f"--precision {' or '.join(usable)}" if usable else "remove the runtime"
        raise ModelNotConvertible(f"{info.title} does not support {cell.precision}", f"it supports {known}", hint)
