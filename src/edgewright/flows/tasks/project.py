"""The files of a new project: defaults of the commands as comments, and the task of its model."""

from pathlib import Path
from typing import NamedTuple

from edgewright.bench.feeds import guess_sizes
from edgewright.errors import UsageError
from edgewright.flows.candidates import read_source_signature
from edgewright.flows.tasks.flow import propose_task_text, save_task
from edgewright.formats.files import read_model
from edgewright.schema.model import Signature

EXAMPLE = '"x=1,3,224,224"'
SETTINGS, TASK = "edgewright.toml", "task.toml"
# A line that starts with "# " and a key is a setting that is not used.
TEMPLATE = """\
# Defaults of the commands in this folder. Remove the "#" before a key to set it.
# docs/configuration.md lists all keys. The command line and the environment take precedence.

[compile]
# runtime = ["onnxruntime", "litert"]  # default: all that are installed
# precision = ["fp32", "fp16"]         # default: the model's own
# task = "task.toml"                   # stores labels and scaling in the artifacts
{shape}

[quantize]
task = "task.toml"
# data = "data"                        # folder, .zip or .npz: calibration and test samples
# samples = 100                        # for calibration
# precision = "w8a8"
# max_drop = 1.0                       # allowed drop of the metric, in points of a share

[evaluate]
task = "task.toml"
# data = "data"                        # folder, .zip or .npz, with labels

[benchmark]
# threads = 1
# processes = 15
# seconds = 0.2
{shape}

[gate]
# baseline = "baseline.json"
# goal = "latency<=1.05x, bytes<=1.01x"
"""


class Project(NamedTuple):
    """The written files, and the assumptions that the user must check."""

    files: tuple[Path, ...]
    doubts: list[str]


def write_project(model: Path, folder: Path, *, force: bool) -> Project:
    """Write the settings and the proposed task of a model into a folder.

    Raises UsageError if a file exists and `force` is not set, OutputError, and the errors of the model.
    """
    text, doubts = propose_task_text(model)
    settings = TEMPLATE.format(shape=_show_shape(read_source_signature(read_model(model))))
    texts = {folder / SETTINGS: settings, folder / TASK: text}
    if not force and (existing := [path for path in texts if path.exists()]):
        what = f"{' and '.join(map(str, existing))} already exist{'s' * (len(existing) == 1)}"
        raise UsageError(what, "your edits would be lost", "add --force to overwrite")
    for path, content in texts.items():
        save_task(path, content, force=force)
    return Project(tuple(texts), doubts)


def _show_shape(signature: Signature) -> str:
    """Return the setting of the dynamic inputs with example sizes, as a comment."""
    dynamic = [spec for spec in signature.inputs if any(isinstance(size, str) for size in spec.shape)]
    shapes = [f'"{spec.name}={sizes}"' for spec in dynamic for sizes in [",".join(guess_sizes(spec.shape))]]
    return f"# shape = [{', '.join(shapes) or EXAMPLE}]  # of dynamic inputs"
