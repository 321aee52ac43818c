"""One inference of an MNN file in a process of its own: `python -m edgewright.runtimes.mnn.trial MODEL ANSWER`.

The converter lets pass what the engine then crashes on, and a crash must not take the compiling worker with it. The
file ANSWER gets the signature, or the reason of a refusal.
"""

import sys
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct

from edgewright.facts.model import Signature
from edgewright.runtimes.contract import Mismatch, Rejected
from edgewright.runtimes.mnn.confine import confine
from edgewright.runtimes.mnn.session import MnnSession
from edgewright.runtimes.wire import SessionRequest


class Verdict(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What came of the inference: the signature, or why there is none."""

    signature: Signature | None = None
    why: str = ""


def main() -> None:
    model, answer = sys.argv[1:]
    confine(Path(model).stat().st_size)
    Path(answer).write_bytes(msgspec.json.encode(try_out(model)))


def try_out(model: str) -> Verdict:
    """Load the file and run it once on zeros."""
    try:
        session = MnnSession(SessionRequest(model=model))
        session.bind(make_zeros(session.signature))
        session.run()
        session.fetch()
    except (Rejected, Mismatch) as error:
        return Verdict(why=str(error))
    return Verdict(signature=session.signature)


def make_zeros(signature: Signature) -> dict[str, np.ndarray]:
    return {
        spec.name: np.zeros([size if isinstance(size, int) else 1 for size in spec.shape], spec.dtype)
        for spec in signature.inputs
    }


if __name__ == "__main__":
    main()
