"""What determines a federated training."""

from typing import Annotated, Any

from msgspec import Meta, Struct

from edgewright.federated.job import RoundSettings


class FederatePlan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A simulation (edgewright.federate-plan/1).

    Attributes:
        model: `FILE.py:FACTORY`, with the path of its `weights`.
        task, code: as in the plans of other trainings.
        data: divided among the clients. val: evaluated after each round.
        clients, sampled, rounds, alpha, dropout, central, settings: see `federated.job`.
    """

    schema: str = "edgewright.federate-plan/1"
    model: str
    model_sha256: str = ""
    weights: str | None = None
    task: dict[str, Any]
    code: tuple[str, ...] = ()
    data: str
    data_fingerprint: str = ""
    val: str
    val_fingerprint: str = ""
    clients: Annotated[int, Meta(ge=2, le=100_000)] = 100
    sampled: Annotated[int, Meta(ge=0, le=100_000)] = 0
    rounds: Annotated[int, Meta(ge=1, le=100_000)] = 20
    alpha: Annotated[float, Meta(gt=0, le=1e6)] = 0.3
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    central: bool = True
    settings: RoundSettings = RoundSettings()
