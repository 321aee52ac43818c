"""The target `web`: a static folder that runs the model in a browser, also without a network.

The files of `project/` are the same in every project; `edgewright/engine.js` is one of `engines/`. All that depends on
the model is in `edgewright-app.json`, which they read.
"""

from pathlib import Path

from edgewright.packaging.contract import AppContract
from edgewright.packaging.golden import GoldenVectors
from edgewright.packaging.targets import TargetFiles
from edgewright.packaging.web.readme import write_readme
from edgewright.runtimes.web import WEB_PACKAGES, find_folder
from edgewright.store.location import find_home

_PROJECT = Path(__file__).with_name("project")
_ENGINES = "edgewright/engines/"
_RUNTIME_FOLDER = "runtime"


def check(contract: AppContract) -> None:
    """Accept every contract: the library has all kinds of inputs and outputs that a task has."""


def generate(contract: AppContract, golden: GoldenVectors) -> TargetFiles:
    """Return the project's files: without those of the runtime if they are not set up, which a note says."""
    files: dict[str, bytes | Path] = {
        path.relative_to(_PROJECT).as_posix(): path for path in sorted(_PROJECT.rglob("*")) if path.is_file()
    }
    engines = {name: files.pop(name) for name in tuple(files) if name.startswith(_ENGINES)}
    files["edgewright/engine.js"] = engines[f"{_ENGINES}{contract.model.runtime}.js"]
    runtime = _list_runtime_files(contract.model.runtime)
    files["README.md"] = write_readme(contract, golden, complete=bool(runtime)).encode()
    notes = []
    if ignored := ", ".join(f"{name}={value}" for name, value in contract.engine.options.items()):
        notes.append(f"The runtimes for browsers do not have these options of the measured run: {ignored}")
    if not runtime:
        notes.append("The runtime for browsers is not set up, so its files are missing: edgewright runtimes setup web")
    return TargetFiles({**files, **runtime}, notes=tuple(notes))


def _list_runtime_files(runtime: str) -> dict[str, Path]:
    """Return the files of a runtime for browsers by their names in a project; empty before `runtimes setup web`."""
    folder = find_folder(find_home())
    if not folder.is_dir():
        return {}
    names = [f"{one.folder}/{file}" for one in WEB_PACKAGES if one.runtime == runtime for file in one.files]
    return {f"{_RUNTIME_FOLDER}/{name}": folder / name for name in names}
