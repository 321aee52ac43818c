"""`policy`: show an execution policy, and replay recorded signals with it."""

import itertools
from pathlib import Path

from msgspec import Struct

from edgewright.adaptive.governor import BUILT_IN
from edgewright.adaptive.policy import Policy, read_policy
from edgewright.adaptive.trace import ReplayedState, read_trace, replay_trace
from edgewright.errors import ConfigError, DataError
from edgewright.schema.text import find_close
from edgewright.system.files import read_regular

LARGEST_FILE = 100_000_000  # a trace with a row a second for years


class Replay(Struct, frozen=True, kw_only=True):
    """The state at each row of a trace (edgewright.policy-replay/1)."""

    schema: str = "edgewright.policy-replay/1"
    policy: str
    trace: str
    switches: int
    states: tuple[ReplayedState, ...]
    answer: str


def find_policy(name: str) -> Policy:
    """Return a policy that is built in, or that of a file. Raises ConfigError."""
    if name in BUILT_IN:
        return BUILT_IN[name]
    path = Path(name)
    if not path.is_file():
        close = find_close(name, BUILT_IN)
        hint = f"did you mean {close}?" if close else "edgewright policy show governor --json > policy.json writes one"
        raise ConfigError(f"there is no policy {name}", f"built in: {', '.join(BUILT_IN)}; else it is a file", hint)
    return read_policy(_read(path), name)


def replay(policy: str, trace: str) -> Replay:
    """Return the states of a policy over a trace. Raises ConfigError or DataError."""
    chosen = find_policy(policy)
    try:
        text = _read(Path(trace)).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{trace} is not a trace", str(error), "save the table as CSV in UTF-8") from None
    states = tuple(replay_trace(chosen, read_trace(text, trace)))
    if not states:
        raise DataError(f"{trace} has no rows", "the header line is all there is", "record at least one row")
    switches = sum(one.state != other.state for one, other in itertools.pairwise(states))
    answer = f"{chosen.name} switches {switches} times in {len(states)} rows and ends in {states[-1].state}."
    return Replay(policy=chosen.name, trace=trace, switches=switches, states=states, answer=answer)


def _read(path: Path) -> bytes:
    try:
        return read_regular(path, LARGEST_FILE)
    except OSError as error:
        raise DataError(f"{path} cannot be read", error.strerror or str(error), "check the path") from None
