"""What a training has reached, in one file that is whole or not there, so that it goes on after any end."""

import os
from collections.abc import Callable
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import IO, Any

from edgewright.errors import OutputError

NAME = "checkpoint"
DIGEST = 32


def write_atomically(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """The file under its name only when all of it is on the disk. OutputError leaves the one before as it was."""
    part = path.with_name(path.name + ".part")
    try:
        part.unlink(missing_ok=True)  # a link of this name, in a folder from elsewhere, is not written through
        with part.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(
            f"{path.name} cannot be written",
            error.strerror or str(error),
            "free some space, then run the same command again: training resumes from the last checkpoint",
        ) from None


def sync_folder(folder: Path) -> None:
    """A new name lasts when its folder is on the disk; not every system lets a folder be opened."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Tensors and plain values; no path of this machine is among them."""
    import torch

    memory = BytesIO()
    torch.save(state, memory)
    data = memory.getbuffer()

    def write(file: IO[bytes]) -> None:
        file.write(sha256(data).digest())
        file.write(data)

    write_atomically(folder / NAME, write)


def load_state(folder: Path, job: str) -> tuple[dict[str, Any] | None, str]:
    """What was saved for this job, and why there is nothing where something else lies there.

    Args:
        job: fingerprint, kept in the state as `job`.
    """
    import torch

    path = folder / NAME
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None, ""
    except OSError as error:
        return None, f"the checkpoint could not be read ({error.strerror}): training restarted"
    body = memoryview(data)[DIGEST:]
    if sha256(body).digest() != data[:DIGEST]:
        return None, "the checkpoint was damaged: training restarted"
    try:
        state = torch.load(BytesIO(body), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises what it pleases on a bad file
        return None, f"the checkpoint could not be read ({type(error).__name__}): training restarted"
    if not isinstance(state, dict) or state.get("job") != job:
        return None, "the checkpoint belongs to another training: training restarted"
    return state, ""


def digest_module(module: Any) -> str:
    """Of all that a module holds."""
    import torch

    whole = sha256()
    for name, tensor in sorted(module.state_dict().items()):
        whole.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        whole.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return whole.hexdigest()
