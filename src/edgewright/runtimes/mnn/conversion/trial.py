"""One inference of an MNN file in a separate process.

It is started as `python -m edgewright.runtimes.mnn.conversion.trial MODEL ANSWER`.

The engine crashes on some files of the converter, and a crash must not end the compiling worker. The
file ANSWER gets the signature, or the reason of a rejection.
"""

import sys
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct

from edgewright.runtimes.contract import Mismatch, Rejected
from edgewright.runtimes.mnn.conversion.confine import confine_process
from edgewright.runtimes.mnn.session import MnnSession
from edgewright.runtimes.wire import SessionRequest
from edgewright.schema.model import Signature


class TrialResult(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Result of the inference: the signature, or why there is none."""

    signature: Signature | None = None
    why: str = ""


def main() -> None:
    model, answer = sys.argv[1:]
    confine_process(Path(model).stat().st_size)
    Path(answer).write_bytes(msgspec.json.encode(_try_out(model)))


def _try_out(model: str) -> TrialResult:
    """Load the file and run it once on zeros."""
    try:
        session = MnnSession(SessionRequest(model=model))
        session.bind(_make_zeros(session.signature))
        session.run()
        session.fetch()
    except (Rejected, Mismatch) as error:
        return TrialResult(why=str(error))
    return TrialResult(signature=session.signature)


def _make_zeros(signature: Signature) -> dict[str, np.ndarray]:
    return {
        spec.name: np.zeros([size if isinstance(size, int) else 1 for size in spec.shape], spec.dtype)
        for spec in signature.inputs
    }


if __name__ == "__main__":
    main()
