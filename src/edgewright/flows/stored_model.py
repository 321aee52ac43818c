"""Restoring of a run's model, and of an artifact's record, from the store.

The model is verified, and Edgewright chooses the file's name.
"""

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from edgewright.errors import ModelError, StoreError
from edgewright.formats import artifacts
from edgewright.formats.artifacts import is_file_name, is_inside, parse_record
from edgewright.formats.files import FORMATS, READABLE, RECORDED, read_model
from edgewright.schema.artifact import RECORD_ROLE, RECORD_SUFFIX, Artifact
from edgewright.schema.model import Model
from edgewright.schema.run import Run, RunOutput
from edgewright.store.exports.checks import get_claimed_hash, is_claim_true
from edgewright.store.store import Store

IMPORTED_FORMATS = ("onnx", "tflite")
MAX_STEM_CHARS = 60  # letters


def fetch_model(run: Run, store: Store, folder: Path) -> Path:
    """Restore a run's model with its weight files into `folder`, and return its path.

    Supported are ONNX, TFLite and, for a run of this store, artifacts of other runtimes; never a torch program or
    Python. The file name is made from letters and digits of the run's and the suffix of its format.

    Raises StoreError if bytes are missing, or if the files are not the run's model.
    """
    model = get_stored_model(run)
    hashes = {output.role: output.sha256 for output in run.outputs}
    path = folder / make_file_name(model)
    names = {path.name: "model", **{name: f"data:{name}" for name in model.data_files}}
    record = PurePosixPath(model.name).stem + RECORD_SUFFIX
    if f"data:{record}" in hashes:
        names[artifacts.record_path(path).name] = f"data:{record}"
    for name, role in names.items():
        if role not in hashes:
            raise StoreError(f"the model of run {run.id} is not in the store", "the run was imported without its files")
        if not is_inside(name):
            raise _make_untrusted_error(run, f"its record contains a file named {name[:200]!r}")
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        store.get_file(hashes[role], folder / name)
    _check_fetched(path, model, run)
    return path


def get_stored_model(run: Run) -> Model:
    """Return the model of a run. StoreError if there is none, or its format cannot be restored."""
    if run.model is None:
        raise StoreError(f"run {run.id} has no stored model", "it failed before the model was stored")
    known = (*READABLE, *RECORDED) if run.imported is False else IMPORTED_FORMATS
    if run.model.format not in known:
        raise _make_untrusted_error(
            run, f"its model is {run.model.format[:40]}; only {', '.join(known)} can be restored from the store"
        )
    if not is_file_name(run.model.name):
        raise _make_untrusted_error(run, f"its record contains a file named {run.model.name[:200]!r}")
    saved = next((output for output in run.outputs if output.role == "model"), None)
    if saved is None or get_claimed_hash(run, saved) != run.model.sha256:
        raise StoreError(f"the model of run {run.id} is not in the store", "the run was imported without its files")
    if not is_claim_true(run, saved):
        raise _make_untrusted_error(run, "the stored bytes belong to another model")
    return run.model


def load_record(outputs: Sequence[RunOutput], store: Store) -> Artifact | None:
    """Return the artifact's record among the outputs of a run; None if there is none.

    Raises StoreError if its bytes are missing, ModelUnreadable if it is not valid.
    """
    found = next((one for one in outputs if one.role == RECORD_ROLE), None)
    if found is None:
        return None
    with store.open_blob(found.sha256) as file:
        return parse_record(file.read(), "the record of the artifact")


def make_file_name(model: Model) -> str:
    """Return a safe file name for a stored model, derived from its recorded name."""
    if model.format in RECORDED:  # made in this store, and its record names its files
        return model.name
    suffix = next(info.suffixes[0] for info in FORMATS if info.name == model.format)
    stem = re.sub(r"[^\w.-]", "_", model.name.removesuffix(suffix)).lstrip(".-")[:MAX_STEM_CHARS]
    return f"{stem}{suffix}" if stem and is_file_name(f"{stem}{suffix}") else f"model{suffix}"


def _check_fetched(path: Path, model: Model, run: Run) -> None:
    """Check that the restored file has the run's format, weight files and hash. StoreError if not."""
    try:
        found = read_model(path)
    except ModelError as error:
        raise _make_untrusted_error(run, f"its model cannot be read: {error}") from None
    if (found.format, found.sha256, set(found.data_files)) != (model.format, model.sha256, set(model.data_files)):
        raise _make_untrusted_error(run, "the stored bytes belong to another model")


def _make_untrusted_error(run: Run, why: str) -> StoreError:
    """Return the error for a run whose files cannot be used."""
    return StoreError(
        f"the model of run {run.id} cannot be used", why, "delete the run, and use the original model file"
    )
