"""A decoder-only language model in memory: its configuration, its weights by name, and its tokenizer.

Every source is read into this form, and every target is written from it. Names of weights:

    embedding [vocabulary, width]    norm [width]    head [vocabulary, width], absent if it is the embedding
    layers.N.attention_norm [width]  .q .k .v [heads x head_size, width]  .o [width, heads x head_size]
    layers.N.mlp_norm [width]        .gate .up [hidden, width]            .down [width, hidden]
    and where the family has them: .q_bias .k_bias .v_bias, .q_norm .k_norm [head_size]

The rotary embedding rotates element i and i + rope_size / 2 of a head. Readers of layouts that rotate adjacent elements
reorder the rows of q and k.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from msgspec import Struct, structs

from edgewright.llm.tokenizer import Tokenizer
from edgewright.schema.arrays import Array


class Padding(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sizes of the source that an engine refuses, and what they were padded to with zeros; the result is the same."""

    head_size: int
    padded_head_size: int
    hidden: int
    padded_hidden: int


class DecoderConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sizes and constants of a decoder.

    Attributes:
        family: name of the architecture, for example "llama".
        width: elements of a hidden state.
        hidden: width of the feed-forward part.
        vocabulary: number of tokens.
        context: longest sequence in tokens.
        tied: whether the head is the embedding.
        rope_size: elements of a head that are rotated.
        padding: what was padded; None if nothing was.
    """

    family: str
    width: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    context: int
    tied: bool
    norm_epsilon: float = 1e-5
    rope_base: float = 10000.0
    rope_size: int
    padding: Padding | None = None

    @property
    def scale(self) -> float:
        """Return the factor of the products of queries and keys."""
        return float(self.head_size**-0.5)


class LazyWeights(Mapping[str, Array]):
    """Weights by name, each made float32 when it is read; nothing is kept."""

    def __init__(self, readers: Mapping[str, Callable[[], Array]]) -> None:
        self._readers = dict(readers)

    def __getitem__(self, name: str) -> Array:
        return self._readers[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)


class DecoderModel(NamedTuple):
    """A language model.

    Attributes:
        name: for people and file names.
        weights: float32 arrays by the names at the top of this module.
        sha256: of the file or files that it was read from; empty for a model made in memory.
        chat_template: a Jinja template of the model's own files; empty if there is none.
    """

    name: str
    config: DecoderConfig
    weights: Mapping[str, Array]
    tokenizer: Tokenizer
    sha256: str = ""
    chat_template: str = ""

    @property
    def head(self) -> Array:
        """Return the matrix of the logits, [vocabulary, width]."""
        return self.weights["embedding" if self.config.tied else "head"]


MATRICES = ("q", "k", "v", "o", "gate", "up", "down")


def pad_model(model: DecoderModel, head_multiple: int, hidden_multiple: int) -> DecoderModel:
    """Return the model with wider heads and feed-forward parts, for engines that require multiples.

    What is added is zeros, and q is scaled for the wider head's attention scale, so the logits are the same. Where a
    whole head is rotated, the wider one is too: its halves get the zeros, and the base of the rotation grows so that
    the first frequencies stay.
    A family that normalizes queries and keys is returned with its own heads.
    """
    config = model.config
    normalized = "layers.0.q_norm" in model.weights
    head = config.head_size if normalized else _round_up(config.head_size, head_multiple)
    hidden = _round_up(config.hidden, hidden_multiple)
    if (head, hidden) == (config.head_size, config.hidden):
        return model
    padding = Padding(head_size=config.head_size, padded_head_size=head, hidden=config.hidden, padded_hidden=hidden)
    grown = structs.replace(config, head_size=head, hidden=hidden, padding=padding, **_widen_rotation(config, head))
    factor = (head / config.head_size) ** 0.5
    readers = {name: partial(_pad, model, name, grown, factor) for name in model.weights}
    return model._replace(config=grown, weights=LazyWeights(readers))


def _pad(model: DecoderModel, name: str, grown: DecoderConfig, factor: float) -> Array:
    """Return one array of a padded model."""
    array, kind = model.weights[name], name.rpartition(".")[2]
    extra = grown.hidden - model.config.hidden
    if kind in ("gate", "up"):
        return np.pad(array, ((0, extra), (0, 0)))
    if kind == "down":
        return np.pad(array, ((0, 0), (0, extra)))
    if kind == "o":
        return _widen_heads(array.T, model.config, grown.head_size).T
    if kind.partition("_")[0] in ("q", "k", "v") and not kind.endswith("_norm"):
        wider = _widen_heads(array, model.config, grown.head_size)
        return wider * np.float32(factor) if kind.startswith("q") else wider
    return array


def _widen_heads(array: Array, config: DecoderConfig, wider: int) -> Array:
    """Return `array` [heads x head_size, …] as [heads x wider, …], with zeros at the end of each rotated half."""
    size, rest = config.head_size, array.shape[1:]
    parts = 2 if config.rope_size == size else 1
    heads = array.reshape(-1, size // parts, *rest)
    return np.pad(heads, ((0, 0), (0, (wider - size) // parts), *((0, 0),) * len(rest))).reshape(-1, *rest)


def _widen_rotation(config: DecoderConfig, wider: int) -> dict[str, Any]:
    """Return what changes of the rotation when the head becomes `wider`."""
    if config.rope_size != config.head_size:
        return {}
    return {"rope_size": wider, "rope_base": config.rope_base ** (wider / config.rope_size)}


def _round_up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple
