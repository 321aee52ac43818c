"""The command line: one file per command."""

import signal
import sys


def main() -> None:
    """Run the command line and exit with the documented code; Ctrl-C is told in one line from the first moment on."""
    try:
        from edgewright.cli.interrupts import watch_interrupts

        watch_interrupts()
        from edgewright.cli.app import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        code = print_early_stop()
    from edgewright.cli.interrupts import restore_handlers

    restore_handlers()
    sys.exit(code)


def print_early_stop() -> int:
    """A stop before the command began."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from edgewright.cli.interrupts import get_exit_code, get_signal_name

    sys.stderr.write(f"\nStopped by {get_signal_name()}.\n")
    return get_exit_code()
