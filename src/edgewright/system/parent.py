"""A process that ends with the one that started it: `python -m edgewright.system.parent PID MODULE WORDS…`."""

import os
import signal
import sys

PR_SET_PDEATHSIG = 1
CHECK_S, GRACE_S = 1.0, 15.0


def die_with_parent(death: int = 9) -> None:
    """Ask Linux to send a signal, SIGKILL by default, when the thread that started this process ends.

    On other systems the end of stdin, or `_watch_parent`, ends a process.
    """
    if sys.platform == "linux":
        from ctypes import CDLL

        CDLL(None).prctl(PR_SET_PDEATHSIG, death)


def _watch_parent(parent: int) -> None:
    """End this process like SIGTERM when `parent` is gone, and forcibly some seconds later."""
    die_with_parent(signal.SIGTERM)
    if sys.platform != "win32":  # getppid does not change on Windows
        import threading

        threading.Thread(target=_watch, args=[parent], name="edgewright-parent", daemon=True).start()


def _watch(parent: int) -> None:
    import time

    while os.getppid() == parent:
        time.sleep(CHECK_S)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(128 + signal.SIGTERM)


def main() -> None:
    """Run a module as `python -m` does, and end with the process that is named first."""
    import runpy

    parent, module = int(sys.argv[1]), sys.argv[2]
    _watch_parent(parent)
    sys.argv[1:] = sys.argv[3:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
