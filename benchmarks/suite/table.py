"""Which models the suite has. A literal table: reading it imports nothing."""

from dataclasses import dataclass

Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Port:
    """One input: its shape, and what fills it (`image`, `wave`, `tokens` below `bound`, or `mask`)."""

    name: str
    shape: Shape
    kind: str = "image"
    bound: int = 0


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A model: the module of this package that has its factory (a function of the model's own name), and its ports."""

    name: str
    family: str
    inputs: tuple[Port, ...]
    outputs: tuple[str, ...] = ("logits",)


def of_image(name: str, family: str, size: int, *outputs: str) -> Entry:
    ports = (Port(name="image", shape=(1, 3, size, size)),)
    return Entry(name=name, family=family, inputs=ports, outputs=outputs or ("logits",))


def of_sequence(name: str, family: str, shape: Shape, *outputs: str) -> Entry:
    ports = (Port(name="features", shape=shape, kind="wave"),)
    return Entry(name=name, family=family, inputs=ports, outputs=outputs or ("logits",))


TOKENS = (
    Port(name="input_ids", shape=(1, 128), kind="tokens", bound=8192),
    Port(name="attention_mask", shape=(1, 128), kind="mask"),
)

ENTRIES: tuple[Entry, ...] = (
    of_image("mobilenet_v1", "mobilenet", 224),
    of_image("mobilenet_v2", "mobilenet", 224),
    of_image("mobilenet_v3_small", "mobilenet_v3", 224),
    of_image("efficientnet_lite0", "efficientnet", 224),
    of_image("resnet18", "resnet", 224),
    of_image("shufflenet_v2", "shufflenet", 224),
    of_image("squeezenet", "squeezenet", 224),
    of_sequence("dscnn", "dscnn", (1, 1, 49, 10)),
    of_image("unet", "unet", 128, "mask"),
    of_image("yolo", "yolo", 256, "detections"),
    of_image("espcn", "espcn", 64, "enlarged"),
    of_image("vit_tiny", "vit", 224),
    of_image("mlp_mixer", "mixer", 224),
    of_image("convnext", "convnext", 160),
    Entry(name="bert_small", family="bert", inputs=TOKENS, outputs=("hidden", "pooled")),
    of_sequence("lstm", "recurrent", (1, 64, 40)),
    of_sequence("gru", "recurrent", (1, 64, 40), "scores"),
    of_sequence("audio_tcn", "audio", (1, 1, 8000)),
)


def find_entry(name: str) -> Entry:
    """Raises KeyError with the known names."""
    for entry in ENTRIES:
        if entry.name == name:
            return entry
    raise KeyError(f"{name}: the suite has {', '.join(entry.name for entry in ENTRIES)}")
