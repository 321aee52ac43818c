"""Artifacts of language models: a folder with the engine's files and a record, `language-model.json`."""

from pathlib import Path

import msgspec
from msgspec import Struct

from edgewright.errors import ModelNotFound, ModelUnreadable
from edgewright.formats.artifacts import is_inside
from edgewright.formats.files import hash_file
from edgewright.llm.model import DecoderConfig, DecoderModel
from edgewright.llm.sources.open import open_model, open_tokenizer
from edgewright.llm.tokenizer import Tokenizer
from edgewright.system.files import read_regular, write_atomically

TEMPLATE = "chat_template.jinja"
RECORD = "language-model.json"
RECORD_SCHEMA = "edgewright.language-model/1"


class WeightQuantization(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How weights were quantized.

    Attributes:
        method: "rounding" or "gptq".
        bits, group: of the matrices of the layers.
        zero_point: "none", "integer" or "float".
        bits_per_weight: of these matrices, with scales and zero points.
        embedding_bits, head_bits: 32 for full precision.
        calibration_tokens, calibration_seed: of the texts that the model wrote itself; 0 for rounding.
    """

    method: str
    bits: int
    group: int
    zero_point: str
    bits_per_weight: float
    embedding_bits: int
    head_bits: int
    calibration_tokens: int = 0
    calibration_seed: int = 0


class LanguageArtifact(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The record of an artifact.

    Attributes:
        runtime: name of the engine.
        precision: of the weights: fp32, w8 or w4.
        main: file in the folder that the engine loads, "." for the folder.
        files: sha256 by name relative to the folder.
        config: as written; `config.padding` says what was padded.
        source: path of the source as it was given, absolute; `tokenizer` likewise, empty if the source has its own.
        source_sha256: of its file or files.
        quantization: None for fp32.
        notes: what the user should know, such as what the engine's format cannot hold.
    """

    schema: str = RECORD_SCHEMA
    name: str
    runtime: str
    precision: str
    main: str
    files: dict[str, str]
    bytes: int
    config: DecoderConfig
    source: str
    source_sha256: str
    tokenizer: str = ""
    bos: int | None = None
    eos: tuple[int, ...] = ()
    quantization: WeightQuantization | None = None
    notes: tuple[str, ...] = ()


def is_artifact(folder: Path) -> bool:
    """Return whether a folder is the artifact of a language model."""
    return (folder / RECORD).is_file()


def read_artifact_record(folder: Path) -> LanguageArtifact:
    """Return the record in an artifact's folder.

    Raises:
        ModelNotFound: there is none.
        ModelUnreadable: it is damaged, or its files are.
    """
    if not is_artifact(folder):
        raise ModelNotFound(
            f"{folder} is not a compiled language model",
            f"it has no {RECORD}",
            "edgewright llm compile MODEL -o FOLDER",
        )
    try:
        record = msgspec.json.decode(read_regular(folder / RECORD), type=LanguageArtifact)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ModelUnreadable(f"{folder / RECORD} cannot be used", str(error), "compile the model again") from None
    for name in record.files:
        if not is_inside(name) or not (folder / name).is_file():
            raise ModelUnreadable(f"{folder} is not complete", f"{name} is missing", "compile the model again")
    return record


def check_artifact(folder: Path, record: LanguageArtifact) -> None:
    """Raise ModelUnreadable if a file of an artifact was changed."""
    for name, sha256 in record.files.items():
        if hash_file(folder / name) != sha256:
            raise ModelUnreadable(f"{folder} was changed", f"the hash of {name} differs", "compile the model again")


def find_artifacts(folder: Path) -> list[Path]:
    """Return the artifacts in a folder, or the folder itself if it is one. Raises ModelNotFound if there is none."""
    found = [folder] if is_artifact(folder) else sorted(path.parent for path in folder.glob(f"*/{RECORD}"))
    if not found:
        raise ModelNotFound(
            f"{folder} has no compiled language models",
            f"no folder in it has a {RECORD}",
            "edgewright llm compile MODEL -o FOLDER",
        )
    return found


def open_artifact_tokenizer(record: LanguageArtifact, folder: Path) -> Tokenizer:
    """Return the tokenizer of an artifact, from the copy in its folder."""
    return open_tokenizer(folder, record.config.vocabulary)


def open_source(record: LanguageArtifact) -> DecoderModel:
    """Return the full-precision source of an artifact.

    Raises:
        ModelNotFound: it is not where it was.
        ModelUnreadable: it was changed since.
    """
    if not Path(record.source).exists():
        why = f"{record.name} was compiled from it, and its full-precision logits are needed"
        raise ModelNotFound(f"{record.source} does not exist", why, "put it back, or compile the model again")
    model = open_model(Path(record.source), Path(record.tokenizer) if record.tokenizer else None)
    if model.sha256 != record.source_sha256:
        why = f"its hash is not that of the source of {record.name}"
        raise ModelUnreadable(f"{record.source} was changed", why, "compile the model again")
    return model


def write_artifact_record(record: LanguageArtifact, folder: Path) -> None:
    """Write the record into an artifact's folder."""
    write_atomically(folder / RECORD, msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n")
