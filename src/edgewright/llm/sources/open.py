"""The reader of each kind of source, chosen by the file."""

from functools import partial
from pathlib import Path

from edgewright.errors import ModelNotFound, ModelUnreadable, UsageError
from edgewright.formats.files import hash_file
from edgewright.llm.model import DecoderModel
from edgewright.llm.sources.gguf import read_gguf
from edgewright.llm.sources.gguf_layout import MAGIC
from edgewright.llm.sources.llama2c import read_checkpoint, read_header, read_tokenizer
from edgewright.llm.tokenizer import Tokenizer

TOKENIZER_BIN = "tokenizer.bin"


def open_model(path: Path, tokenizer: Path | None = None) -> DecoderModel:
    """Return the model in a file or folder.

    Args:
        path: a llama2.c checkpoint, or a GGUF file.
        tokenizer: the tokenizer's file, for sources that have none.

    Raises:
        ModelNotFound: it does not exist.
        UsageError: it needs a tokenizer.
        ModelUnreadable: it is damaged, or no source that is supported.
        ModelNotConvertible: its architecture is not supported.
    """
    if not path.exists():
        raise ModelNotFound(f"{path} does not exist", "there is no such file or folder")
    if path.is_dir():
        raise ModelUnreadable(f"{path} is not a language model", "it is a folder", "give a file")
    with path.open("rb") as file:
        magic = file.read(4)
    if magic == MAGIC:
        return _name_content(read_gguf(path, partial(open_tokenizer, tokenizer) if tokenizer else None), path)
    vocabulary = read_header(path).vocabulary
    if tokenizer is None:
        raise UsageError(
            f"{path} has no tokenizer", "a llama2.c checkpoint stores none", "give its file with --tokenizer tok512.bin"
        )
    return _name_content(read_checkpoint(path, open_tokenizer(tokenizer, vocabulary)), path)


def _name_content(model: DecoderModel, path: Path) -> DecoderModel:
    """Return the model with the hash of its file, which records name it by."""
    return model._replace(sha256=hash_file(path))


def open_tokenizer(path: Path, vocabulary: int) -> Tokenizer:
    """Return the tokenizer in a file, or in a folder that has one.

    Raises ModelNotFound if there is none, and ModelUnreadable if it does not fit the vocabulary.
    """
    file = path / TOKENIZER_BIN if path.is_dir() else path
    if not file.is_file():
        raise ModelNotFound(f"{file} does not exist", "the model's tokenizer is needed", "give --tokenizer FILE")
    return read_tokenizer(file, vocabulary)
