"""Custom operators of a compile: built once, checked against the model, and handed to its workers."""

from pathlib import Path

import msgspec

from edgewright.errors import ConfigError
from edgewright.flows.compile.sources import PreparedSource
from edgewright.formats.onnx.reader import open_model
from edgewright.kernels.custom.folder import OperatorsFile

STANDARD = ("", "ai.onnx", "com.microsoft", "com.ms", "org.pytorch")  # domains, and those below them
MAX_NAMED = 5


def add_operators(prepared: PreparedSource, given: OperatorsFile, work: Path) -> PreparedSource:
    """Return the source with the file that its workers read.

    Raises ConfigError if no node of the model has one of these operators.
    """
    if "onnx" not in prepared.files:
        why = f"the model's format is {prepared.format}; custom operators are those of ONNX"
        raise ConfigError("--custom-ops cannot be used with this model", why, "remove it")
    used = _list_operators(Path(prepared.files["onnx"]))
    keys = [one.key for one in given.operators]
    if not set(keys) & set(used):
        own = [key for key in used if not _is_standard(key)]
        has = f"it has {', '.join(own[:MAX_NAMED])}" if own else "all its operators are standard ones"
        raise ConfigError(
            f"{prepared.name} has no operator of {given.reference}",
            f"the folder describes {', '.join(keys[:MAX_NAMED])}; {has}",
            "correct name and domain in operators.toml" if own else "remove --custom-ops",
        )
    path = (work / "operators.json").absolute()
    path.write_bytes(msgspec.json.encode(given))
    return prepared._replace(operators=path, operators_sha256=given.sha256)


def _list_operators(path: Path) -> list[str]:
    """Return the operators of a model by domain and name, each once, with those of its functions."""
    with open_model(path) as (model, _):
        nodes = [*model.graph.node, *(node for function in model.functions for node in function.node)]
        local = {f"{function.domain}:{function.name}" for function in model.functions}
        return [key for key in dict.fromkeys(f"{node.domain}:{node.op_type}" for node in nodes) if key not in local]


def _is_standard(key: str) -> bool:
    domain = key.partition(":")[0]
    return any(domain == one or (one and domain.startswith(f"{one}.")) for one in STANDARD)
