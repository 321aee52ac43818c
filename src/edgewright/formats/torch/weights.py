"""Weights of a torch module: reading from a file without code, and comparison with the module's own."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from edgewright.errors import ModelNotFound, ModelUnreadable, RuntimeMissing

INSIDE = ("state_dict", "model_state_dict", "model")  # keys of the weights in checkpoints
WRAPPERS = ("_orig_mod.", "module.")  # torch.compile's, DataParallel's
COUNTER = "num_batches_tracked"  # of batch normalization, unused at inference
MAX_LISTED_NAMES = 10


class KeyMismatch(NamedTuple):
    """All names of weights that do not fit."""

    missing: list[str]
    unexpected: list[str]
    shapes: list[str]

    def __str__(self) -> str:
        lists = {"missing": self.missing, "unexpected": self.unexpected, "with other shapes": self.shapes}
        return "\n".join(_format_names(title, names) for title, names in lists.items() if names)


@contextmanager
def watch_weights() -> Iterator[list[str]]:
    """Yield a list that has an entry after the block if random numbers were drawn in it and no weights were loaded."""
    import torch

    state, original = torch.random.get_rng_state(), torch.nn.Module.load_state_dict
    loaded: list[bool] = []
    found: list[str] = []

    def load_state_dict(module: Any, *given: Any, **named: Any) -> Any:
        loaded.append(True)
        return original(module, *given, **named)

    torch.nn.Module.load_state_dict = load_state_dict
    try:
        yield found
    finally:
        torch.nn.Module.load_state_dict = original
    if not loaded and not torch.equal(state, torch.random.get_rng_state()):
        found.append("random")


def load_weights(module: Any, path: Path) -> None:
    """Load a `.safetensors`, or tensors written by torch.save. Raises ModelUnreadable with the keys that do not fit.

    A checkpoint may have the weights under `state_dict`, `model_state_dict` or `model`; the prefixes of
    DataParallel and torch.compile are removed. Tied weights may be missing.
    """
    own = module.state_dict()
    state = _fit_names(_read_weights(path), own)
    misfit = _compare(state, own)
    if any(misfit):
        raise ModelUnreadable(
            f"the weights {path} do not fit the module", str(misfit), "give the weights of this module"
        )
    try:
        module.load_state_dict(state, strict=False)
    except Exception as error:  # the user's module may raise any class
        raise ModelUnreadable(f"the weights {path} do not fit the module", get_first_line(error)) from error


def _read_weights(path: Path) -> dict[str, Any]:
    """Return the tensors by name. Raises ModelNotFound, ModelUnreadable, RuntimeMissing."""
    if not path.is_file():
        raise ModelNotFound(f"weights not found: {path}")
    state = _read_safetensors(path) if path.suffix == ".safetensors" else _read_saved(path)
    for key in INSIDE:
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not any(hasattr(value, "shape") for value in state.values()):
        kind = f"its keys are {', '.join(map(str, list(state)[:MAX_LISTED_NAMES]))}" if isinstance(state, dict) else ""
        raise ModelUnreadable(
            f"{path} has no named weights", kind or f"it holds a {type(state).__name__}", "save model.state_dict()"
        )
    return {str(name): value for name, value in state.items()}


def _read_safetensors(path: Path) -> Any:
    try:
        from safetensors.torch import load_file
    except ImportError:
        raise RuntimeMissing(
            "safetensors is not installed", f"it is required to read {path}", "pip install 'edgewright[train]'"
        ) from None
    try:
        return load_file(path)
    except Exception as error:  # its own errors, and torch's
        raise ModelUnreadable(f"the weights {path} cannot be read", get_first_line(error)) from error


def _read_saved(path: Path) -> Any:
    import pickle

    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        why = "it holds pickled code, or objects other than tensors, which are not loaded"
        if "weights_only" not in str(error).lower() and "weights only" not in str(error).lower():
            why = get_first_line(error)
        hint = "save model.state_dict() alone, preferably as .safetensors"
        raise ModelUnreadable(f"the weights {path} are not loaded", why, hint) from error
    except Exception as error:  # torch raises exceptions of any class on a bad file
        raise ModelUnreadable(f"the weights {path} cannot be read", get_first_line(error)) from error


def _fit_names(state: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tensors without a wrapper's prefix, unless the module has it itself."""
    for prefix in WRAPPERS:
        if all(name.startswith(prefix) for name in state) and not any(name.startswith(prefix) for name in own):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return dict(state)


def _compare(state: Mapping[str, Any], own: Mapping[str, Any]) -> KeyMismatch:
    tensors = {name: value for name, value in own.items() if hasattr(value, "data_ptr")}
    given = {_get_storage(tensors[name]) for name in state if name in tensors}
    missing = [
        name
        for name, value in tensors.items()
        if name not in state and not name.endswith(COUNTER) and _get_storage(value) not in given
    ]
    both = [(name, state[name], value) for name, value in tensors.items() if name in state]
    shapes = [
        f"{name} ({_size(mine)} in the module, {_size(value)} in the file)"
        for name, value, mine in both
        if _size(value) != _size(mine)
    ]
    return KeyMismatch(missing, [name for name in state if name not in own], shapes)


def _get_storage(tensor: Any) -> Any:
    """Return an identity that two tied weights share."""
    return (tensor.data_ptr(), tuple(tensor.shape)) if tensor.numel() else object()


def _size(tensor: Any) -> list[int]:
    return list(getattr(tensor, "shape", ()))


def _format_names(title: str, names: list[str]) -> str:
    more = f" and {len(names) - MAX_LISTED_NAMES} more" if len(names) > MAX_LISTED_NAMES else ""
    return f"{len(names)} {title}: {', '.join(names[:MAX_LISTED_NAMES])}{more}"


def get_first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def save_weights(module: Any, path: Path) -> None:
    """Write a `.safetensors`, with only the first of tied weights. The writing is not atomic."""
    from safetensors.torch import save_file

    seen: set[Any] = set()
    kept = {}
    for name, tensor in module.state_dict().items():
        place = _get_storage(tensor)
        if place not in seen:
            kept[name] = tensor.detach().cpu().contiguous().clone()
        seen.add(place)
    save_file(kept, path)
