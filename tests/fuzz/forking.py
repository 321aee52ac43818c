"""Start Edgewright's own processes by forking this one, which has loaded the product already.

A worker of Edgewright is `python -m edgewright.some.module`, and most of its start is imports. Here such a command
becomes a fork that runs the module: the same process tree, limits and pipes, some hundred milliseconds cheaper.
"""

import atexit
import inspect
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import traceback
import warnings
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

# Where a forked module reports an exception that it does not handle; the environment passes it on.
REPORT = "EDGEWRIGHT_FUZZ_REPORT"
_start = subprocess.Popen._execute_child  # type: ignore[attr-defined]  # the one place where subprocess makes a process
_arguments = inspect.signature(_start)


def fork_own_modules() -> None:
    """From now on, let `subprocess` fork where it is asked for a module of Edgewright."""
    subprocess.Popen._execute_child = _start_process  # type: ignore[attr-defined]  # see above


def _start_process(self: "subprocess.Popen[Any]", *words: Any) -> None:
    asked = _arguments.bind(self, *words).arguments
    command = asked["args"]
    if isinstance(command, str) or asked["shell"] or asked["preexec_fn"] or not own_module(command):
        _start(self, *words)
        return
    pipes = [asked[name] for name in ("p2cread", "c2pwrite", "errwrite")]
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        become(lambda: run_module(command), asked, pipes)
    self.pid = pid
    self._child_created = True  # type: ignore[attr-defined]  # what subprocess itself sets here
    both = ("p2cread", "p2cwrite"), ("c2pwrite", "c2pread"), ("errwrite", "errread")
    for child, parent in both:  # of a pipe, and only of a pipe, the child's end is closed here
        if asked[child] >= 0 and asked[parent] >= 0:
            os.close(asked[child])


def own_module(command: Sequence[Any]) -> str | None:
    """Return the module of `python … -m edgewright.…`; None for any other command."""
    words = [os.fsdecode(word) for word in command]
    if words[0] != sys.executable or "-m" not in words:
        return None
    module = words[words.index("-m") + 1]
    return module if module.split(".")[0] == "edgewright" else None


def become(run: Callable[[], None], asked: dict[str, Any], pipes: Sequence[int]) -> NoReturn:
    """Be the process that `subprocess` was asked for; `pipes` are its stdin, stdout and stderr, or -1."""
    code = 1
    try:
        for place, descriptor in enumerate(pipes):
            if descriptor >= 0:
                os.dup2(descriptor, place)
        kept = sorted({0, 1, 2, *asked["pass_fds"]})
        for low, high in zip(kept, [*kept[1:], os.sysconf("SC_OPEN_MAX")], strict=True):
            os.closerange(low + 1, high)
        if asked["start_new_session"]:
            os.setsid()
        if asked["cwd"] is not None:
            os.chdir(asked["cwd"])
        if asked["env"] is not None:
            os.environ.clear()
            os.environ.update({os.fsdecode(name): os.fsdecode(value) for name, value in asked["env"].items()})
        code = run_apart(run)
    finally:
        os._exit(code)


def run_apart(run: Callable[[], object]) -> int:
    """Run a function as the whole of a forked process, and return its exit code."""
    # What the parent would do at its end is not this process's to do.
    atexit._clear()
    weakref.finalize._registry.clear()  # type: ignore[attr-defined]  # the only way to disown the parent's files
    atexit.register(weakref.finalize._exitfunc)  # type: ignore[attr-defined]  # registered once per interpreter only
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    tempfile.tempdir = None
    streams = [os.fdopen(place, "w" if place else "r", closefd=False) for place in range(3)]
    sys.stdin, sys.stdout, sys.stderr = streams
    warnings.simplefilter("ignore")
    code = 0
    try:
        run()
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else int(left.code is not None)
    except BaseException:
        code = 1
        text = traceback.format_exc()
        sys.stderr.write(text)
        if REPORT in os.environ:
            with Path(os.environ[REPORT]).open("a") as report:
                report.write(f"{text}\n")
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def run_module(command: Sequence[Any]) -> None:
    words = [os.fsdecode(word) for word in command]
    place = words.index("-m") + 1
    sys.argv = [words[place], *words[place + 1 :]]
    runpy.run_module(words[place], run_name="__main__", alter_sys=True)
