"""One call of the API: models in memory as files, the workspace, progress, and what happens at the end."""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from edgewright.api.options import read_options
from edgewright.api.progress import CallProgress, CancelWatch
from edgewright.api.results.base import Result
from edgewright.api.sources import write_inputs, write_model
from edgewright.api.user_store import open_user_store
from edgewright.errors import EdgewrightError, UsageError
from edgewright.flows.compile.sources import get_stem
from edgewright.flows.devices.names import DEVICES, open_device, select_devices
from edgewright.flows.workspace import Workspace
from edgewright.system.temporary import TemporaryFolder

CALL_OPTIONS = ("progress", "cancel", "on_run")
ResultT = TypeVar("ResultT", bound=Result)


class ApiCall:
    """One call of a function; used in a `with` block, whose end removes the files of models in memory.

    Attributes:
        given: the options by the names of the plan's fields.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._on_run, cancel = options.get("on_run"), options.get("cancel")
        self._folder = TemporaryFolder()
        self.progress = CallProgress(options.get("progress"), cancel)
        self._watch = CancelWatch(cancel)
        self.given = read_options({name: value for name, value in options.items() if name not in CALL_OPTIONS})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._watch.end()
        finally:
            self._folder.close()
            self.progress.end()

    def write_models(self, models: Any, *, as_onnx: bool = True) -> list[str]:
        """Return the paths of the models; those in memory, and inputs in memory, are written to temporary files.

        Args:
            models: one, or several.
            as_onnx: whether torch modules are exported to ONNX; otherwise they stay torch programs.
        """
        listed = models if isinstance(models, list | tuple) else [models]
        folder = self._folder.path
        paths = [write_model(model, self.given, folder / str(i), as_onnx=as_onnx) for i, model in enumerate(listed)]
        if "inputs" in self.given and not isinstance(self.given["inputs"], str):
            self.given["inputs"] = write_inputs(self.given["inputs"], folder / "inputs.npz")
        return paths

    def find_output(self, model: str) -> Path:
        """Return the folder of the artifacts, by default `m-artifacts` for `m.onnx` and `m.py:build`."""
        return Path(self.given.get("output") or f"{get_stem(model)}-artifacts")

    @contextmanager
    def open_workspace(self, device: str = "local") -> Iterator[Workspace]:
        """Open the device of that name and the user's store."""
        with (
            closing(open_user_store()) as store,
            closing(open_device(device, store, self.progress)) as opened,
        ):
            yield Workspace(opened, store, self.progress)

    @contextmanager
    def open_judged(self, device: str) -> Iterator[Workspace]:
        """Open a workspace on this machine whose artifacts are run on a device."""
        with self.open_workspace() as workspace:
            if device == "local":
                yield workspace
                return
            with closing(open_device(device, workspace.store, self.progress)) as judge:
                yield workspace._replace(judge=judge)

    def select_device(self) -> str:
        """Return the one device that `on` selects, and set it in `given`. Raises UsageError for several."""
        names = self.select_devices(self.given.get("device", "local"))
        if len(names) > 1:
            raise UsageError(
                f"--on selects {len(names)} devices: {', '.join(names)}",
                "this command uses one; benchmark measures on several",
                f"--on {names[0]}",
            )
        self.given["device"] = names[0]
        return names[0]

    def select_devices(self, text: str) -> tuple[str, ...]:
        """Return the devices that `on` selects; see `schema.selection`."""
        if text.strip().lower() in DEVICES:
            return (text.strip().lower(),)
        with closing(open_user_store()) as store:
            return select_devices(text, store)

    def finish(self, result: ResultT, error: EdgewrightError | None) -> ResultT:
        """Pass the stored runs to `on_run`, and return the result, or raise its error with the result attached."""
        if self._on_run is not None:
            with closing(open_user_store()) as store:
                for run_id in result.run_ids:
                    self._on_run(store.load(run_id), _list_files(result, run_id))
        if error is not None:
            error.result = result
            raise error
        return result


def _list_files(result: Result, run_id: str) -> list[Path]:
    """Return the files that a run wrote; those without a run of their own are of the command's run."""
    own = getattr(result.report, "run_id", None)
    paths = [one.path for one in result.artifacts if (getattr(one, "run_id", None) or own) == run_id]
    if run_id == own:
        paths += [getattr(result.report, name, None) for name in ("graph", "recipe")]  # of a quantization
    return [Path(path) for path in paths if path]
