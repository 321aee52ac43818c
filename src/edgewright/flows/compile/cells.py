"""The cells of a compile: every runtime in every precision that is wanted and can be."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from edgewright.errors import ModelNotConvertible, UsageError
from edgewright.flows.compile.sources import is_torch
from edgewright.formats.files import read_model
from edgewright.runtimes.table import RuntimeInfo, find_runtime
from edgewright.schema.plan import CompileCell
from edgewright.schema.vocabulary import PRECISION_ALIASES, Precision, normalize_word

FLOAT_PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16")  # to which a model of floats can be compiled


def plan_cells(
    runtimes: Sequence[str], precisions: Sequence[str], options: Mapping[str, Mapping[str, str]], own: Precision
) -> tuple[CompileCell, ...]:
    """Every runtime in every precision, runtime by runtime; without a precision in the model's `own`."""
    names = list(dict.fromkeys(find_runtime(word).name for word in runtimes))
    wanted = list(dict.fromkeys(_resolve_precision(word, own) for word in precisions)) or [own]
    return tuple(
        CompileCell(runtime=name, precision=precision, options=dict(options.get(name, {})))
        for name in names
        for precision in wanted
    )


def _resolve_precision(word: str, own: Precision) -> Precision:
    """The precision that is meant; UsageError for one that a model of the precision `own` cannot be compiled to."""
    name = normalize_word(word)
    name = PRECISION_ALIASES.get(name, name)
    known: tuple[Precision, ...] = FLOAT_PRECISIONS if own in FLOAT_PRECISIONS else (own,)
    for one in known:
        if one == name:
            return one
    why = f"the model is {own}; known for it: {', '.join(known)}"
    raise UsageError(f"--precision {word} cannot be compiled", why, f"--precision {known[0]}")


def read_source_precision(source: str) -> Precision:
    """What a source is computed in as it is: fp32 for floats of any kind, or what it is quantised to."""
    if is_torch(source):
        return "fp32"
    found = read_model(Path(source)).precision
    return "fp32" if found in FLOAT_PRECISIONS else found


def make_quantized_cell(runtime: str, precision: Precision, *, integer_io: bool) -> CompileCell:
    """A cell of a quantised graph, with integers at its border where that is wanted and the compiler knows how."""
    options = {"io": "integer"} if integer_io and supports_integer_io(runtime) else {}
    return CompileCell(runtime=runtime, precision=precision, options=options)


def supports_integer_io(runtime: str) -> bool:
    return any(one.name == "io" and "integer" in one.values for one in find_runtime(runtime).compile_options)


def check_cell(cell: CompileCell, info: RuntimeInfo) -> None:
    if not info.compiles:
        raise ModelNotConvertible(f"{info.name} has no compiler", "it runs the files that it is given", "leave it out")
    if cell.precision not in info.precisions:
        known = ", ".join(info.precisions)
        raise ModelNotConvertible(
            f"{info.title} is not compiled to {cell.precision}", f"known are {known}", f"--precision {known}"
        )
