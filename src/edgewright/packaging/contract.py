"""What an app must know about a model: its parameters, as one record.

The parameter files of all languages are written from it.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
from msgspec import Struct

from edgewright.errors import ConfigError
from edgewright.kernels.preprocessing import PILLOW_ORDERS_PASSES
from edgewright.packaging.names import check_app_id, make_identifier
from edgewright.schema.artifact import Port
from edgewright.schema.model import Quantization
from edgewright.schema.vocabulary import Precision
from edgewright.tasks.spec.task import (
    AudioInput,
    Boxes,
    Classification,
    ImageInput,
    Input,
    Output,
    Task,
    TokensInput,
    read_label_names,
)

CONTRACT_FILE = "edgewright-app.json"
FOLDED_LAYOUTS: dict[tuple[str, tuple[int, ...]], Literal["NCHW", "NHWC"]] = {
    ("NCHW", (0, 1, 2, 3)): "NCHW",
    ("NCHW", (0, 2, 3, 1)): "NHWC",
    ("NHWC", (0, 1, 2, 3)): "NHWC",
    ("NHWC", (0, 3, 1, 2)): "NCHW",
}


class AppModel(Struct, frozen=True, kw_only=True):
    """The artifact's files.

    Attributes:
        main: name of the file or folder that the runtime loads; in the project it is `model/MAIN`.
        files: hash of every file by its name, the main one first.
        sha256: hash of the artifact, as `edgewright` reports it.
        bytes: of all files.
        runtime: that the outputs of the golden vectors were computed with.
    """

    main: str
    files: dict[str, str]
    sha256: str
    bytes: int
    runtime: str
    format: str
    precision: Precision


class AppTensor(Struct, frozen=True, kw_only=True):
    """One input or output as the runtime exchanges it, and its relation to that of the source model.

    Attributes:
        name: in the artifact.
        source: in the source model and the task.
        shape, dtype: in the artifact.
        source_shape, source_dtype: in the source model.
        axes: axis `i` of the artifact is the source's axis `axes[i]`, before sizes of 1 are dropped.
        quantization: of the artifact's integers: real = scale × (stored − zero_point). To store a value of
            `source_dtype`, divide it by `scale` in float32, round half to even, add `zero_point`, and clip.
    """

    name: str
    source: str
    shape: tuple[int, ...]
    dtype: str
    source_shape: tuple[int, ...]
    source_dtype: str
    axes: tuple[int, ...]
    quantization: Quantization | None = None


class AppInput(Struct, frozen=True, kw_only=True):
    """One input, and how it is made.

    Attributes:
        tensor: as the runtime takes it.
        preprocessing: the task's input. The `layout` of an image is that of the artifact, and its `dtype` the source's:
            the result is stored in `tensor.dtype` as `AppTensor.quantization` says. None for the mask and segments
            of a token input.
    """

    tensor: AppTensor
    preprocessing: Input | None


class AppEngine(Struct, frozen=True, kw_only=True):
    """Settings of the runtime.

    Attributes:
        threads: per inference.
        options: of the runtime, as `--option` gives them.
        measured: id of the run that was measured with these settings; empty without one.
    """

    threads: int = 1
    options: dict[str, str] = {}
    measured: str = ""


class AppContract(Struct, frozen=True, kw_only=True):
    """All that an app must know about a model (edgewright.app/1).

    Attributes:
        name: name to show.
        identifier: the name as an identifier in every language: lower case, digits and `_`.
        app_id: the app's id, such as `com.example.digits`.
        model: the artifact.
        engine: settings of the runtime.
        inputs: in the artifact's order.
        outputs: in the artifact's order, with the sizes of the golden outputs.
        answer: meaning of the outputs, by the source's names, which are never empty. Its `labels` is empty.
        labels: names of the classes; empty if there are none.
        first_pass: which pass of Pillow's filters comes first: `columns`, or `rows-if-tall` (the rows if the height
            shrinks by over twice as many pixels as the width).
        version: of Edgewright.
    """

    schema: str = "edgewright.app/1"
    name: str
    identifier: str
    app_id: str
    model: AppModel
    engine: AppEngine
    inputs: tuple[AppInput, ...]
    outputs: tuple[AppTensor, ...]
    answer: Output
    labels: tuple[str, ...]
    first_pass: Literal["columns", "rows-if-tall"]
    version: str

    @property
    def image(self) -> ImageInput | None:
        """Return how a picture becomes the model's input; None for a model without an image."""
        found = [one.preprocessing for one in self.inputs if isinstance(one.preprocessing, ImageInput)]
        return found[0] if found else None


class AppNames(Struct, frozen=True, kw_only=True):
    """The names of an app that the user may give; empty for the default."""

    name: str = ""
    app_id: str = ""


def make_contract(
    task: Task, model: AppModel, ports: tuple[Sequence[Port], Sequence[Port]], engine: AppEngine, names: AppNames
) -> AppContract:
    """Return the contract of an app.

    Args:
        ports: of the inputs and of the outputs, with fixed sizes.

    Raises ConfigError for a task that no app can express, and UsageError for a name.
    """
    from edgewright import __version__

    name = names.name or task.name or model.main.partition(".")[0]
    identifier = make_identifier(name) or make_identifier(model.main.partition(".")[0]) or "model"
    return AppContract(
        name=name,
        identifier=identifier,
        app_id=check_app_id(names.app_id or f"com.example.{identifier}"),
        model=model,
        engine=engine,
        inputs=tuple(_make_input(port, task) for port in ports[0]),
        outputs=tuple(map(_make_tensor, ports[1])),
        answer=_name_outputs(task.output, ports[1][0].source),
        labels=read_label_names(task),
        first_pass="rows-if-tall" if PILLOW_ORDERS_PASSES else "columns",
        version=__version__,
    )


def check_expressible(task: Task) -> None:
    """Raise ConfigError if no app can express the task."""
    images = [one.name for one in task.inputs if isinstance(one, ImageInput)]
    if len(images) > 1:
        why = f"{' and '.join(map(repr, images))} are images, and an app takes one picture"
        hint = f'set kind = "tensor" for {images[1]!r}: the app then computes it in its own code'
        raise ConfigError("the task has several image inputs", why, hint)


def _make_input(port: Port, task: Task) -> AppInput:
    found = next((one for one in task.inputs if one.name == port.source), None)
    return AppInput(tensor=_make_tensor(port), preprocessing=_fold_layout(found, port))


def _fold_layout(one: Input | None, port: Port) -> Input | None:
    """Return the input with the artifact's layout."""
    if not isinstance(one, ImageInput):
        return one
    layout = FOLDED_LAYOUTS.get((one.layout, port.axes))
    if layout is None:
        why = f"its axes in the artifact are {list(port.axes)} of {one.layout}"
        hint = "compile the model again without converter options for its layout"
        raise ConfigError(f"the image input {port.source!r} has a layout that apps do not have", why, hint)
    return msgspec.structs.replace(one, layout=layout)


def _make_tensor(port: Port) -> AppTensor:
    return AppTensor(**{name: getattr(port, name) for name in AppTensor.__struct_fields__})


def _name_outputs(output: Output, first: str) -> Output:
    """Return the output with the name of the model's output, and without the path of its labels."""
    plain = msgspec.structs.replace(output, labels="") if isinstance(output, Classification | Boxes) else output
    if isinstance(plain, Boxes):
        return msgspec.structs.replace(plain, boxes=plain.boxes or first)
    return msgspec.structs.replace(plain, name=plain.name or first)


def list_required_shapes(task: Task) -> Mapping[str, tuple[int, ...]]:
    """Return the shape of each input that the task fixes, by the source's name."""
    shapes: dict[str, tuple[int, ...]] = {}
    for one in task.inputs:
        match one:
            case AudioInput():
                shapes[one.name] = one.shape or (1, one.window)
            case TokensInput():
                names = filter(None, (one.name, one.mask, one.segments))
                shapes |= dict.fromkeys(names, (1, one.length))
            case _:
                shapes[one.name] = one.shape
    return {name: shape for name, shape in shapes.items() if shape}
