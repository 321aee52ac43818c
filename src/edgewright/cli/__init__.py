"""The command line: one file per command."""

import sys

INTERRUPTED = 130


def main() -> None:
    """Run the command line and exit with the documented code; Ctrl-C is told in one line from the first moment on."""
    try:
        from edgewright.cli.app import run
        from edgewright.cli.interrupts import watch_interrupts

        watch_interrupts()
        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        sys.stderr.write("\nStopped by Ctrl-C.\n")
        code = INTERRUPTED
    sys.exit(code)
