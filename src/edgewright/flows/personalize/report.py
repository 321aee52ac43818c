"""Result of `personalize`: edgewright.personalize/1."""

from msgspec import Struct


class UserAndPublic(Struct, frozen=True, kw_only=True):
    """The task's metric of the user's held-out samples and of the public ones; accuracies are fractions from 0 to 1."""

    user: float
    public: float


class AdapterFile(Struct, frozen=True, kw_only=True):
    """An adapter: its path, None if it was rejected, its size, and the hash of the only module that it fits."""

    path: str | None
    bytes: int
    base: str


class TrainingCost(Struct, frozen=True, kw_only=True):
    """Mean time of a step, and the peak memory of the process that trained."""

    steps: int
    step_ms: float
    peak_memory_bytes: int
    threads: int


class PersonalizeReport(Struct, frozen=True, kw_only=True):
    """What a user gains, and what everybody else would lose.

    Attributes:
        kept: whether the personal model is at least as good for the user as the one for all; otherwise nothing is
            written.
        model, weights: the merged model, as an ONNX file, and as weights of the same torch source.
        parameters, trained: all, and those that were trained.
        user_samples, val_samples, public_samples, replayed_samples: that were trained on, evaluated, and replayed.
    """

    schema: str = "edgewright.personalize/1"
    source: str
    method: str
    metric: str
    before: UserAndPublic
    after: UserAndPublic
    kept: bool
    adapter: AdapterFile
    model: str | None
    weights: str | None
    parameters: int
    trained: int
    user_samples: int
    val_samples: int
    public_samples: int
    replayed_samples: int
    step: TrainingCost
    run_id: str | None
    answer: str


class AppliedAdapter(Struct, frozen=True, kw_only=True):
    """A model with an adapter merged into its weights (edgewright.adapted/1)."""

    schema: str = "edgewright.adapted/1"
    source: str
    adapter: str
    model: str
    weights: str
