"""Everything that determines a personal model."""

from typing import Annotated, Any

from msgspec import Meta, Struct

from edgewright.schema.vocabulary import AdapterMethod


class PersonalizePlan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that determines a personal model.

    Attributes:
        source: `FILE.py:FACTORY`, with the path of its `weights`.
        task: of the model (`edgewright.task/1`).
        code: functions that data and metric may name.
        data, val: the user's samples: to train on, and to accept or reject the personal model with.
        public: samples of everybody. Without `replay`, one half of them (by `seed`) is replayed without its labels, and
            the other half is evaluated.
        method, rank: what is trained; see `training.adapters.layers`.
        replay_ratio, replay_weight: replayed samples for each of the user's, and the weight of their loss.
        epochs, batch, lr: of the training; a learning rate of 0 is that of the method.
    """

    schema: str = "edgewright.personalize-plan/1"
    source: str
    source_sha256: str = ""
    weights: str | None = None
    task: dict[str, Any]
    code: tuple[str, ...] = ()
    data: str
    data_fingerprint: str = ""
    val: str
    val_fingerprint: str = ""
    public: str
    public_fingerprint: str = ""
    replay: str | None = None
    replay_fingerprint: str = ""
    method: AdapterMethod = "lora"
    rank: Annotated[int, Meta(ge=1, le=4096)] = 4
    replay_ratio: Annotated[int, Meta(ge=0, le=1000)] = 3
    replay_weight: Annotated[float, Meta(ge=0, le=1e6)] = 6.0
    epochs: Annotated[float, Meta(gt=0, le=1e6)] = 8.0
    batch: Annotated[int, Meta(ge=2, le=1 << 20)] = 20
    lr: Annotated[float, Meta(ge=0, le=1e6)] = 0.0
    threads: Annotated[int, Meta(ge=0, le=4096)] = 0
    seed: Annotated[int, Meta(ge=0, lt=1 << 32)] = 0
