"""Run a module of Edgewright in an environment without Edgewright: `python -I launch.py MODULE ARGUMENT…`.

Only the package `edgewright` of this file is made importable in that interpreter. The packages beside it are
not, since two versions of one package would mix. For the interpreter's own children (`python -m edgewright…`) a file
of the environment that Python reads at each start does the same, by the variable `EDGEWRIGHT_PACKAGE`.
"""

import os
import runpy
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
VARIABLE = "EDGEWRIGHT_PACKAGE"
SITE_CODE = f"""\
import os

if os.path.isfile(launch := os.path.join(os.environ.get("{VARIABLE}", ""), "runtimes", "launch.py")):
    import pathlib
    import runpy

    runpy.run_path(launch)["lend_package"](pathlib.Path(os.environ["{VARIABLE}"]))
"""
# Files in an environment's site-packages. Python reads the .pth file at each start, even with `-I`; a sitecustomize.py
# there would be hidden by that of a system's Python (Debian's has one).
SITE_FILES = {"edgewright_site.py": SITE_CODE, "edgewright.pth": "import edgewright_site\n"}


def lend_package(folder: Path) -> None:
    """Make `folder`, without its siblings, importable under its name.

    The function's name is in a file of every existing environment, so it must not change.
    """
    spec = spec_from_file_location(folder.name, folder / "__init__.py", submodule_search_locations=[str(folder)])
    if spec is None or spec.loader is None:
        raise ImportError(f"{folder} is not a package")
    module = module_from_spec(spec)
    sys.modules[folder.name] = module
    spec.loader.exec_module(module)


def main() -> None:
    os.environ[VARIABLE] = str(PACKAGE)
    lend_package(PACKAGE)
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
