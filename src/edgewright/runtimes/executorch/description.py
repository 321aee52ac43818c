"""Description of a program: names and origins, for which the .pte format has no field.

It is in the program as a method that returns one text, so that the file alone suffices on a device.
"""

import msgspec
from msgspec import Struct

METHOD = "edgewright"


class ExecutorchOperator(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One operator: its kind in XNNPACK's graph or the name of a kernel, and the source nodes that it computes."""

    kind: str
    sources: tuple[str, ...] = ()


class Instruction(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One instruction of the program: a kernel (one operator), or a delegate with all of its operators."""

    delegate: str
    operators: tuple[ExecutorchOperator, ...]


class ProgramDescription(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Names of inputs and outputs in the source, and the calls in order."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    calls: tuple[Instruction, ...] = ()

    def kernels(self) -> dict[str, int]:
        """Return the number of calls of each operator outside of a delegate."""
        counts: dict[str, int] = {}
        for call in self.calls:
            if not call.delegate:
                kind = call.operators[0].kind
                counts[kind] = counts.get(kind, 0) + 1
        return counts


def write_description(description: ProgramDescription) -> str:
    return msgspec.json.encode(description).decode()


def read_description(text: str) -> ProgramDescription | None:
    """Return the description; None for other texts, as in programs of other tools."""
    try:
        return msgspec.json.decode(text, type=ProgramDescription)
    except msgspec.MsgspecError:
        return None


def describe_undelegated(description: ProgramDescription | None) -> tuple[str, ...]:
    """Return a note on the operators that XNNPACK does not run."""
    if description is None:
        return ()
    counts = description.kernels()
    if not counts:
        return ()
    counted = ", ".join(f"{name} x{count}" for name, count in sorted(counts.items()))
    delegates = sum(1 for call in description.calls if call.delegate)
    return ((f"run by ExecuTorch's own kernels instead of XNNPACK: {counted} ({delegates} XNNPACK partitions)"),)
