"""Checkpoints of a training: one file that is written atomically."""

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
    """Write a file atomically. If OutputError is raised, the previous file does not change."""
    part = path.with_name(path.name + ".part")
    try:
        part.unlink(missing_ok=True)  # a link of this name in a downloaded folder is not followed
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
    """Flush a folder to disk, so that new names persist; some systems cannot open folders."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Save tensors and plain values; they must contain no path of this machine."""
    import torch

    memory = BytesIO()
    torch.save(state, memory)
    data = memory.getbuffer()

    def write(file: IO[bytes]) -> None:
        file.write(sha256(data).digest())
        file.write(data)

    write_atomically(folder / NAME, write)


def load_state(folder: Path, job: str) -> tuple[dict[str, Any] | None, str]:
    """Return the saved state of this job, or None with the reason if an existing file cannot be used.

    Args:
        job: fingerprint, stored in the state as `job`.
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
    except Exception as error:  # torch raises various errors for a damaged file
        return None, f"the checkpoint could not be read ({type(error).__name__}): training restarted"
    if not isinstance(state, dict) or state.get("job") != job:
        return None, "the checkpoint belongs to another training: training restarted"
    return state, ""


def digest_module(module: Any) -> str:
    """Return the digest of a module's state."""
    import torch

    whole = sha256()
    for name, tensor in sorted(module.state_dict().items()):
        whole.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        whole.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return whole.hexdigest()
