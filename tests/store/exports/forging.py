"""Manipulate an exported run so that every checksum and hash of the folder is valid again."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

Content = dict[str, Any]


def rewrite(folder: Path, change: Callable[[Content], object]) -> None:
    """Change run.json, with the right sum."""
    content = msgspec.json.decode((folder / "run.json").read_bytes())
    change(content)
    put_json(folder, msgspec.json.encode(content))


def put_json(folder: Path, data: bytes) -> None:
    """Another run.json, with its sum."""
    (folder / "run.json").write_bytes(data)
    (folder / "SHA256SUMS").write_text(f"{hashlib.sha256(data).hexdigest()}  run.json\n")


def put_output(folder: Path, role: str, data: bytes, model_id: str | None = None) -> str:
    """Put an output into an export, or other bytes into the one of this role; the hash of its bytes."""
    sha256 = hashlib.sha256(data).hexdigest()
    (folder / "artefacts" / sha256[:20]).write_bytes(data)
    facts = {"role": role, "sha256": sha256, "bytes": len(data)}

    def change(content: Content) -> None:
        for rows, more in (
            (content["run"]["outputs"], {"model_id": model_id}),
            (content["artefacts"], {"file": f"artefacts/{sha256[:20]}"}),
        ):
            rows[:] = [row for row in rows if row["role"] != role]
            rows.append(facts | more)

    rewrite(folder, change)
    return sha256
