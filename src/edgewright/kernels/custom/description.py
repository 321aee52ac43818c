"""`operators.toml`: the operators of a folder, their kernels, and the functions that say what they compute."""

import re
from collections.abc import Callable
from math import isfinite
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from edgewright.errors import ConfigError
from edgewright.formats.toml import TomlError, read_toml
from edgewright.kernels.custom.shapes import compile_shape
from edgewright.tasks.spec.functions import load_function

FILE = "operators.toml"
MAX_PORTS, MAX_OPERATORS = 8, 64
EXAMPLE = "docs/custom-operators.md has an example"
Dtype = Literal["float32", "uint8", "int8", "int32", "int64", "bool", "float64"]
DTYPES: dict[Dtype, int] = {  # ONNX's numbers
    "float32": 1,
    "uint8": 2,
    "int8": 3,
    "int32": 6,
    "int64": 7,
    "bool": 9,
    "float64": 11,
}
_SOURCE = re.compile(r"[\w-]{1,100}\.c", re.ASCII)  # as the library is named after it
_C_NAME, _NAME, _DOMAIN = re.compile(r"[A-Za-z_]\w{0,99}"), re.compile(r"\w{1,100}"), re.compile(r"[\w.]{1,100}")


class OutputPort(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An output: its type, and the name of the input with its shape, or an expression for each axis."""

    shape: str | tuple[int | str, ...]
    type: Dtype = "float32"


class CustomOperator(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One operator.

    Attributes:
        name, domain: `op_type` and `domain` of its nodes.
        source: its C file.
        function: of the C file.
        reference: `FILE.py:function`, which computes the same with numpy.
        inputs: type by name, in order.
        outputs: in order.
        attributes: default by name; an integer default makes an integer attribute.
    """

    name: str
    domain: str
    source: str
    function: str
    reference: str
    inputs: dict[str, Dtype]
    outputs: tuple[OutputPort, ...]
    attributes: dict[str, int | float] = {}

    @property
    def key(self) -> str:
        """Return the name with its domain."""
        return f"{self.domain}:{self.name}"

    def compile_shapes(self) -> list[int]:
        """Return the rules of all outputs. Raises ValueError for a rule that is not valid."""
        return [step for output in self.outputs for step in compile_shape(output.shape, list(self.inputs))]


class _Description(Struct, frozen=True, forbid_unknown_fields=True):
    operator: tuple[CustomOperator, ...]


def read_operators(folder: Path) -> tuple[CustomOperator, ...]:
    """Return the operators of a folder. Raises ConfigError."""
    path = folder / FILE
    try:
        operators = msgspec.convert(read_toml(path)[0], _Description).operator
    except FileNotFoundError:
        raise ConfigError(f"--custom-ops {folder} cannot be used", f"it has no file {FILE}", EXAMPLE) from None
    except (TomlError, msgspec.ValidationError) as error:
        raise ConfigError(f"{path} cannot be used", str(error), EXAMPLE) from None
    if fault := _find_fault(operators, folder):
        raise ConfigError(f"{path} cannot be used", fault, EXAMPLE)
    return operators


def _find_fault(operators: tuple[CustomOperator, ...], folder: Path) -> str:
    """Return the first error of a description; empty without one."""
    keys = [one.key for one in operators]
    if not 1 <= len(operators) <= MAX_OPERATORS:
        return f"it has {len(operators)} operators; 1 to {MAX_OPERATORS} are possible"
    if len(set(keys)) < len(keys):
        return f"{max(keys, key=keys.count)} is described twice"
    return next((f"{one.key}: {fault}" for one in operators if (fault := _find_operator_fault(one, folder))), "")


def _find_operator_fault(one: CustomOperator, folder: Path) -> str:
    if not (_NAME.fullmatch(one.name) and _DOMAIN.fullmatch(one.domain) and _C_NAME.fullmatch(one.function)):
        return "name, domain or function has a character that is not allowed, or none"
    if not (1 <= len(one.inputs) <= MAX_PORTS and 1 <= len(one.outputs) <= MAX_PORTS):
        return f"1 to {MAX_PORTS} inputs and outputs are possible"
    if wrong := next((name for name in (*one.inputs, *one.attributes) if not _C_NAME.fullmatch(name)), None):
        return f"'{wrong[:60]}' is not a name of an input or attribute"
    if not all(isfinite(value) for value in one.attributes.values()):
        return "the default of an attribute is not finite"
    if same := set(one.inputs) & set(one.attributes):
        return f"'{min(same)}' is an input and an attribute"
    if not _SOURCE.fullmatch(one.source):
        return f"source is {one.source[:60]!r}, not a name of letters, digits, _ and - with .c"
    python = one.reference.rpartition(":")[0]
    if not python.endswith(".py"):
        return f"reference is {one.reference!r}, not FILE.py:function"
    for name in (one.source, python):
        if Path(name).name != name or not (folder / name).is_file():
            return f"the folder has no file {name!r}"
    try:
        one.compile_shapes()
    except ValueError as error:
        return f"shape of an output: {error}"
    return ""


def load_reference(one: CustomOperator, folder: Path) -> Callable[..., Any]:
    """Run the file of the reference and return its function. Raises ConfigError."""
    spec = str(folder / one.reference)
    return load_function(spec, [spec])
