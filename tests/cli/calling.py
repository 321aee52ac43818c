"""Call the command line in this process."""

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
import pytest

from edgewright.cli.app import run

# Options for a fast benchmark of the pretend runtime.
QUICK = ("--processes", "1", "--runs", "3", "--warmup-seconds", "0.01", "-p", "latency_us=20", "--no-layers")

# A test run that was started in the background ignores Ctrl-C, one under nohup SIGHUP, and children inherit that.
HEEDING = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "signal.signal(signal.SIGHUP, signal.SIG_DFL)"
)


class CommandResult(NamedTuple):
    """Exit code and output of a command."""

    code: int
    out: str
    err: str

    def error(self) -> tuple[str, str, str]:
        """Return what, why (may be several lines, or none) and try this: the last lines of stderr."""
        head, _, rest = f"\n{self.err}".rpartition("\nError: ")
        assert "Traceback" not in head
        what, why, try_this = rest.split("\n  ")[0], rest.partition("  Why: ")[2], rest.partition("\n  Try: ")[2]
        assert what
        assert try_this.strip()
        return what, why.partition("\n  Try: ")[0], try_this.strip()

    def json(self) -> Any:
        assert self.out.count("\n") == 1
        return msgspec.json.decode(self.out)

    def rows(self) -> list[dict[str, str]]:
        """Return the first table of piped output."""
        lines = self.out.split("\n\n")[0].splitlines()
        header = lines[0].split("\t")
        return [dict(zip(header, line.split("\t"), strict=True)) for line in lines[1:]]


Call = Callable[..., CommandResult]


def make_call(capfd: pytest.CaptureFixture[str]) -> Call:
    def call(*words: object) -> CommandResult:
        capfd.readouterr()
        code = run([str(word) for word in words])
        out, err = capfd.readouterr()
        return CommandResult(code, out, err)

    return call
