"""User code that the command line or a task names: `FILE.py:function` or `module:function`.

It runs only if the user allowed it: `load_function` gets the allowed functions, and a plan
lists them (`code`); see docs/decisions/0017-what-a-project-file-may-set.md.
"""

import sys
from collections.abc import Callable, Collection
from functools import lru_cache
from hashlib import sha256
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from edgewright.errors import ConfigError, EdgewrightError

USER_CODE_ERRORS = (Exception, SystemExit)  # user code may raise any error


def is_function(spec: str) -> bool:
    """Return whether the text names a function, not a path."""
    head, colon, name = spec.rpartition(":")
    return bool(colon) and name.isidentifier() and (head.endswith(".py") or head.replace(".", "").isidentifier())


def load_function(spec: str, code: Collection[str]) -> Callable[..., Any]:
    """Run the file and return the function. Raises ConfigError if it does not exist or is not in the allowed `code`.

    A module must be installed: the current folder is not searched, because it may be downloaded.
    """
    if spec not in code:
        raise make_code_rejection(spec, "")
    return _load(spec)


def make_code_rejection(spec: str, named_by: str) -> ConfigError:
    """Return the error for code that a file names and the user did not allow."""
    return ConfigError(
        f"{named_by or 'a file'} names code that is not allowed to run: {spec!r}",
        "a project or task file may be downloaded, so the code that it names runs only if you allow it",
        "read the code, then add --allow-code, or set allow_code = true for the command in your own config file",
    )


@lru_cache(maxsize=16)
def _load(spec: str) -> Callable[..., Any]:
    head, _, name = spec.rpartition(":")
    try:
        module = _load_file(Path(head)) if head.endswith(".py") else import_module(head)
    except EdgewrightError:
        raise
    except USER_CODE_ERRORS as error:
        hint = "name a Python file as FILE.py:function" if isinstance(error, ImportError) else "fix the code"
        raise ConfigError(f"{spec} cannot be loaded", f"{type(error).__name__}: {error}", hint) from error
    function = getattr(module, name, None)
    if not callable(function):
        raise ConfigError(f"{spec} is not a function", f"{head} has no function '{name}'", "give FILE.py:function")
    called: Callable[..., Any] = function
    return called


def _load_file(path: Path) -> Any:
    if not path.is_file():
        raise ConfigError(f"file does not exist: {path}", "", "check the path")
    name = f"{path.stem}_{sha256(str(path.absolute()).encode()).hexdigest()[:12]}"  # two files may have the same name
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path} cannot be loaded", "it is not a Python file", "give FILE.py:function")
    module = module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look up their module there
    spec.loader.exec_module(module)
    return module
