"""Command line interface: one module per command."""

import signal
import sys


def main() -> None:
    """Run the command line and exit with the documented code. Ctrl-C prints one line, even during the imports."""
    try:
        from edgewright.cli.interrupts import watch_interrupts

        watch_interrupts()
        from edgewright.cli.app import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        code = _print_early_stop()
    from edgewright.cli.interrupts import restore_handlers

    restore_handlers()
    sys.exit(code)


def _print_early_stop() -> int:
    """Report an interrupt that came before the command began, and return its exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from edgewright.cli.interrupts import get_exit_code, get_signal_name

    sys.stderr.write(f"\nStopped by {get_signal_name()}.\n")
    return get_exit_code()
