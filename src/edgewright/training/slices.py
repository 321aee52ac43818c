"""The slices of a pruned module (kept indices of parameters and buffers), and the source that applies them."""

import os
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from traceback import walk_tb
from typing import Any, Literal

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from edgewright.errors import EdgewrightError, ModelNotConvertible, ModelNotFound, ModelUnreadable
from edgewright.system.files import read_regular
from edgewright.training.job import ModuleSource

KeptIndices = Mapping[str, Mapping[int, Sequence[int] | NDArray[Any]]]
SUFFIX = ".slices.json"
MOST_BYTES = 1 << 28
MARK = f'.with_suffix("{SUFFIX}")'  # of a file that `write_built_module` wrote
RESTORE_HINT = "prune the model again, or restore the original file"
BUILT = '''"""The pruned module of {factory}: {stem}{suffix} lists the weights that are kept."""

from pathlib import Path

from edgewright.training.slices import build_sliced


def build():
    return build_sliced(Path(__file__).with_suffix("{suffix}"), "{digest}")
'''


class Slices(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The kept indices of a module's parameters.

    Attributes:
        factory: `FILE.py:FACTORY` that builds the original module; the file is relative to the folder of `slices.json`.
        factory_sha256: hash of that file; empty is not checked.
        parameters: by name of a parameter or buffer, the kept indices of each sliced axis.
        removed: paths of modules that are replaced by the identity.
        numbers: by path of a module, its size attributes that change, such as `num_heads`.
        shapes: of inputs for which the sliced module must run; empty is not tested.
    """

    schema: Literal["edgewright.slices/1"] = "edgewright.slices/1"
    factory: str
    factory_sha256: str = ""
    parameters: dict[str, dict[int, tuple[int, ...]]] = {}
    removed: tuple[str, ...] = ()
    numbers: dict[str, dict[str, int]] = {}
    shapes: dict[str, tuple[int, ...]] = {}


def read_slices(path: Path) -> Slices:
    """Read a slices file. Raises ModelNotFound and ModelUnreadable."""
    try:
        return msgspec.json.decode(read_regular(path, MOST_BYTES), type=Slices)
    except FileNotFoundError:
        raise ModelNotFound(
            f"file does not exist: {path}", "it lists the kept weights of the model", RESTORE_HINT
        ) from None
    except (OSError, msgspec.MsgspecError) as error:
        raise ModelUnreadable(f"{path} cannot be read", str(error), RESTORE_HINT) from None


def write_slices(slices: Slices, path: Path) -> None:
    path.write_bytes(msgspec.json.encode(slices) + b"\n")


def resolve_built_source(source: ModuleSource) -> ModuleSource:
    """Return the original module's source with its slices if `write_built_module` wrote the source, else the source.

    Raises ModelNotFound or ModelUnreadable if the original module's file is missing or has changed.
    """
    file, _ = split_factory(source.factory)
    slices_file = file.with_suffix(SUFFIX)
    if source.slices or not slices_file.is_file() or MARK not in file.read_text(encoding="utf-8"):
        return source
    original, name = find_factory(read_slices(slices_file), slices_file)
    return msgspec.structs.replace(source, factory=f"{original}:{name}", slices=str(slices_file), whole_weights=False)


def make_slices(
    source: ModuleSource,
    folder: Path,
    places: KeptIndices,
    *,
    removed: Sequence[str] = (),
    numbers: Mapping[str, Mapping[str, int]] | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> Slices:
    """Return slices of the original module to write to `folder`, combined with those that the source already has.

    Args:
        places: kept indices by name and axis, of the source's module.
    """
    source = resolve_built_source(source)
    now = _set_factory(
        source.factory,
        folder,
        Slices(
            factory="",
            parameters={
                tensor: {axis: tuple(int(one) for one in kept) for axis, kept in axes.items()}
                for tensor, axes in places.items()
            },
            removed=tuple(removed),
            numbers={layer: dict(values) for layer, values in (numbers or {}).items()},
            shapes={tensor: tuple(sizes) for tensor, sizes in (shapes or {}).items()},
        ),
    )
    return _compose(read_slices(Path(source.slices)), now) if source.slices else now


def _set_factory(factory: str, folder: Path, slices: Slices) -> Slices:
    """Return the slices with the factory's path relative to the folder."""
    file, name = split_factory(factory)
    return msgspec.structs.replace(
        slices, factory=f"{_make_relative(file, folder)}:{name}", factory_sha256=_digest(file)
    )


def slice_weights(weights: Path, places: KeptIndices, to: Path, *, removed: Sequence[str] = ()) -> None:
    """Write the kept indices of a module's `.safetensors`, without the weights of removed modules."""
    from safetensors.numpy import load_file, save_file

    kept = {}
    for name, array in load_file(weights).items():
        if any(name.startswith(f"{path}.") for path in removed):
            continue
        for axis, own in places.get(name, {}).items():
            array = np.take(array, np.asarray(own, np.int64), axis)
        kept[name] = array.copy()
    save_file(kept, to)


def split_factory(text: str) -> tuple[Path, str]:
    """Split `FILE.py:FACTORY`. Raises ModelNotFound for any other text."""
    file, _, factory = text.rpartition(":")
    if not file.endswith(".py"):
        raise ModelNotFound(
            f"{text} is not a torch source", "it names no function that builds the module", "give FILE.py:FACTORY"
        )
    return Path(file), factory


def _compose(first: Slices, then: Slices) -> Slices:
    """Return the slices of applying `first`, then `then`, with the original module's indices and `then`'s factory."""
    parameters: dict[str, dict[int, tuple[int, ...]]] = {name: dict(axes) for name, axes in first.parameters.items()}
    for name, axes in then.parameters.items():
        own = parameters.setdefault(name, {})
        for axis, kept in axes.items():
            own[axis] = tuple(own[axis][place] for place in kept) if axis in own else kept
    return msgspec.structs.replace(
        then,
        parameters=parameters,
        removed=(*first.removed, *then.removed),
        numbers={
            layer: {**first.numbers.get(layer, {}), **then.numbers.get(layer, {})}
            for layer in {**first.numbers, **then.numbers}
        },
        shapes=then.shapes or first.shapes,
    )


def _make_relative(path: Path, folder: Path) -> str:
    """Return the path relative to the folder, or the absolute path if there is none, as between two drives."""
    try:
        return Path(os.path.relpath(path.absolute(), folder.absolute())).as_posix()
    except ValueError:
        return path.absolute().as_posix()


def _digest(path: Path) -> str:
    try:
        return sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ModelNotFound(f"file does not exist: {path}", str(error)) from None


def find_factory(slices: Slices, path: Path) -> tuple[Path, str]:
    """Return the original module's file and factory. Raises ModelNotFound, or ModelUnreadable if it has changed."""
    file, _, name = slices.factory.rpartition(":")
    found = path.parent / file
    if not found.is_file():
        raise ModelNotFound(
            f"file does not exist: {found}", f"it builds the module that {path.name} slices", RESTORE_HINT
        )
    if slices.factory_sha256 and _digest(found) != slices.factory_sha256:
        raise ModelUnreadable(f"{found} has changed", f"{path.name} was made for its earlier content", RESTORE_HINT)
    return found, name


def write_built_module(folder: Path, stem: str, source: ModuleSource) -> Path:
    """Write `STEM.py`, whose `build` returns the source's sliced module, and `STEM.slices.json`.

    The caller writes the weights to `STEM.safetensors`.
    """
    source = resolve_built_source(source)
    own = read_slices(Path(source.slices)) if source.slices else Slices(factory="")
    slices = _set_factory(source.factory, folder, own)
    path = folder / f"{stem}{SUFFIX}"
    write_slices(slices, path)
    text = BUILT.format(factory=Path(slices.factory).name, stem=stem, suffix=SUFFIX, digest=_digest(path))
    file = folder / f"{stem}.py"
    file.write_text(text, encoding="utf-8")
    return file


def build_sliced(path: Path, expected: str = "") -> Any:
    """Build the sliced module with its factory's weights. Files of `write_built_module` call this.

    Args:
        path: of `slices.json`.
        expected: its expected SHA-256; empty is not checked.
    """
    from edgewright.formats.torch.program import build_module

    slices = read_slices(path)
    if expected and _digest(path) != expected:
        raise ModelUnreadable(
            f"{path} has changed", "the model in the same folder was made for its earlier content", RESTORE_HINT
        )
    file, name = find_factory(slices, path)
    module = build_module(file, name, None)
    apply_slices(module, slices)
    return module


def apply_slices(module: Any, slices: Slices, *, rescale: bool = False) -> None:
    """Slice parameters and buffers in place, and update the size attributes of their layers.

    Args:
        rescale: multiply the weights of layers with fewer inputs by the square root of the ratio, so that sums of
            randomly initialized weights keep their variance.

    Raises:
        ModelUnreadable: the slices belong to another module.
        ModelNotConvertible: a layer uses fixed sizes, or the sliced module does not run.
    """
    from torch import nn

    from edgewright.training.modules import try_forward
    from edgewright.training.slicing.layers import slice_layer

    for path in slices.removed:
        set_submodule(module, path, nn.Identity())
    cuts: dict[int, Any] = {}
    for name, axes in slices.parameters.items():
        tensor = _find_tensor(module, name)
        if id(tensor) not in cuts:  # tied weights are sliced once
            cuts[id(tensor)] = (tensor, _slice_tensor(tensor, axes, name), axes)
    for path, layer in module.named_modules():
        slice_layer(layer, path, cuts, rescale=rescale)
    for path, values in slices.numbers.items():
        for name, value in values.items():
            setattr(_find_submodule(module, path), name, value)
    if not slices.shapes:
        return
    try:
        try_forward(module, slices.shapes)
    except EdgewrightError as error:
        raise ModelNotConvertible(
            "the pruned module does not run",
            f"{error.why} ({_locate_failure(module, error)})",
            "keep all units of that layer's groups, or make forward read its sizes from tensors",
        ) from error


def _locate_failure(module: Any, error: BaseException) -> str:
    """Return the user's innermost module and line in the traceback."""
    paths = {id(part): path or "the module itself" for path, part in module.named_modules()}
    location = "location unknown"
    cause = error.__cause__ or error
    for frame, line in walk_tb(cause.__traceback__):
        own = frame.f_locals.get("self")
        file = Path(frame.f_code.co_filename)
        if id(own) in paths and "torch" not in file.parts:
            location = f"in '{paths[id(own)]}' ({type(own).__name__}), {file.name}:{line}"
    return location


def _find_submodule(module: Any, path: str) -> Any:
    try:
        return module.get_submodule(path)
    except AttributeError as error:
        raise ModelUnreadable("the slices belong to another module", str(error), RESTORE_HINT) from None


def set_submodule(module: Any, path: str, part: Any) -> None:
    parent, _, name = path.rpartition(".")
    _find_submodule(module, path)
    setattr(_find_submodule(module, parent), name, part)


def _find_tensor(module: Any, name: str) -> Any:
    path, _, own = name.rpartition(".")
    found = getattr(_find_submodule(module, path), own, None)
    if not hasattr(found, "data_ptr"):
        raise ModelUnreadable("the slices belong to another module", f"it has no tensor '{name}'", RESTORE_HINT)
    return found


def _slice_tensor(tensor: Any, axes: Mapping[int, Sequence[int]], name: str) -> Any:
    import torch

    made = tensor.detach()
    for axis, kept in axes.items():
        places = np.asarray(kept, np.int64)
        if axis >= made.ndim or not places.size or places.min() < 0 or places.max() >= made.shape[axis]:
            why = (
                f"'{name}' has shape {list(tensor.shape)}, but axis {axis} keeps indices up to {max(kept, default=-1)}"
            )
            raise ModelUnreadable("the slices belong to another module", why, RESTORE_HINT)
        made = made.index_select(axis, torch.from_numpy(places).to(made.device))
    if isinstance(tensor, torch.nn.Parameter):
        return torch.nn.Parameter(made.contiguous(), requires_grad=tensor.requires_grad)
    return made.contiguous()
