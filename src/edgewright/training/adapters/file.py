"""An adapter's file: safetensors with the trained tensors, and the hash of the only module that it fits."""

from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from edgewright.errors import ModelUnreadable, UsageError
from edgewright.schema.vocabulary import AdapterMethod
from edgewright.system.files import write_atomically
from edgewright.training.adapters.layers import list_adapted, merge_tensors
from edgewright.training.loop.checkpoint import digest_module

KEY = "edgewright"  # of the record in the metadata


class AdapterRecord(Struct, frozen=True, kw_only=True):
    """What an adapter is of (edgewright.adapter/1).

    Attributes:
        base: `digest_module` of the module that it was trained on.
        shapes: of the module's inputs, with the batch of 1.
    """

    schema: str = "edgewright.adapter/1"
    base: str
    method: AdapterMethod
    rank: int
    seed: int
    shapes: dict[str, tuple[int, ...]]


def write_adapter(module: Any, path: Path, record: AdapterRecord) -> None:
    """Write the trained parameters of a module with an inserted adapter."""
    from safetensors.torch import save

    tensors = {name: one.detach().cpu().contiguous().clone() for name, one in list_adapted(module).items()}
    write_atomically(path, save(tensors, metadata={KEY: msgspec.json.encode(record).decode()}))


def apply_adapter(module: Any, path: Path) -> AdapterRecord:
    """Change a module as an adapter says, and return the adapter's record.

    Raises ModelUnreadable for a file that is no adapter, UsageError for an adapter of another module.
    """
    tensors, record = _read_adapter(path)
    own = digest_module(module)
    if own != record.base:
        raise UsageError(
            f"{path.name} is not an adapter for this model",
            f"it was trained on weights with the hash {record.base[:12]}, these have {own[:12]}",
            "give the model and the weights that it was made from",
        )
    try:
        merge_tensors(module, tensors)
    except (KeyError, RuntimeError) as error:
        raise ModelUnreadable(f"{path.name} does not fit the model", str(error), "make the adapter again") from None
    return record


def read_record(path: Path) -> AdapterRecord:
    """Return the record of an adapter. Raises ModelUnreadable for a file that is none."""
    return _read_adapter(path, "np")[1]


def _read_adapter(path: Path, framework: str = "pt") -> tuple[dict[str, Any], AdapterRecord]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework=framework) as file:
            record = msgspec.json.decode((file.metadata() or {})[KEY], type=AdapterRecord)
            return {name: file.get_tensor(name) for name in file.keys()}, record  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError, KeyError, msgspec.MsgspecError) as error:
        raise ModelUnreadable(
            f"{path.name} is not an adapter", str(error), "edgewright personalize writes adapters"
        ) from None
