"""Train the digits network of `edgewright demo` and write its model files.

    python3 -m venv digits-env
    digits-env/bin/pip install torch==2.13.0
    digits-env/bin/pip install -r scripts/requirements-digits.txt
    digits-env/bin/python scripts/train_digits.py              # writes src/edgewright/flows/digits, see below
    digits-env/bin/python scripts/train_digits.py --out FOLDER
    digits-env/bin/python scripts/train_digits.py --validate   # writes nothing, see below

torch goes first and alone: resolved together with the rest it can bring several GB of CUDA packages. The
environment takes about 2.3 GB, the script about 20 s on two cores.

It writes `digits.onnx`, `digits_int8.onnx`, `calib.npz` and `heldout.npz`, which the demo and tests take, and into
tests/fixtures/digits `digits.tflite` and `digits_int8.tflite`, the same network by other people's converters, which
only tests take. It runs each model on the held-out digits in its own runtime, and prints size, accuracy and
agreement.

Data: `sklearn.datasets.load_digits`, 1,797 images of 8 × 8 pixels with values 0 to 16, from the UCI data
set "Optical Recognition of Handwritten Digits" (Alpaydin, Kaynak, 1998; CC BY 4.0). The split is stratified
and seeded: 30 % of each digit are held out; 20 % of each digit of the rest, still part of the training set,
calibrate the INT8 files.

Nothing here was chosen by looking at the held-out part. Width, epochs and learning rate were set beforehand
and checked with `--validate`, which trains on 80 % of the training part and prints how many of its other
20 % are right.

All random numbers come from SEED and training uses one thread, so that the same versions on the same kind
of CPU give the same files; the README.md beside them says what was seen.
"""

import argparse
import ast
import re
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
import edgewright  # noqa: F401 - switches off what dependencies send; the path to it is set above

SEED = 20
FRACTION_BITS = 8  # of the float weights: two of their four bytes are zero then
HELDOUT_SHARE = 0.3
CALIBRATION_SHARE = 0.2
DEMO_SAMPLES = 100  # of the calibration images, for the demo
CHANNELS = 32
EPOCHS = 60
BATCH = 32
PEAK_LEARNING_RATE = 1e-2
WHITE = 16.0  # the largest pixel value of the dataset
ROOT = Path(__file__).resolve().parent.parent
OUT, FIXTURES = ROOT / "src/edgewright/flows/digits", ROOT / "tests/fixtures/digits"

Images = NDArray[np.uint8]
Floats = NDArray[np.float32]
Indices = NDArray[np.int64]
# Takes one image, float32 [1, 1, 8, 8] in 0..1, and returns its logits, float32 [1, 10].
Predict = Callable[[Floats], Floats]


class Split(NamedTuple):
    """Positions in the dataset. `calibration` is part of `train`; `heldout` shares nothing with it."""

    train: Indices
    calibration: Indices
    heldout: Indices


def pick_share(labels: NDArray[Any], share: float, *, seed: int) -> Indices:
    """Positions of `share` of each label's occurrences, drawn at random, in ascending order."""
    rng = np.random.default_rng(seed)
    picked = []
    for label in np.unique(labels):
        positions = rng.permutation(np.flatnonzero(labels == label))
        picked.append(positions[: round(share * len(positions))])
    return np.sort(np.concatenate(picked)).astype(np.int64)


def split_digits(labels: NDArray[Any]) -> Split:
    """Split a dataset, given as its labels [n], into train, calibration and held-out positions."""
    heldout = pick_share(labels, HELDOUT_SHARE, seed=SEED)
    train = np.setdiff1d(np.arange(len(labels)), heldout)
    calibration = train[pick_share(labels[train], CALIBRATION_SHARE, seed=SEED + 1)]
    return Split(train=train, calibration=calibration, heldout=heldout)


def load_digits() -> tuple[Images, Images]:
    """Images uint8 [1797, 8, 8] with values 0 to 16, and labels uint8 [1797]."""
    from sklearn import datasets

    digits = datasets.load_digits()
    return digits.images.astype(np.uint8), digits.target.astype(np.uint8)


def scale_pixels(images: Images) -> Floats:
    """Images [n, 8, 8] as the network takes them: float32 [n, 1, 8, 8] in 0..1."""
    return (images[:, None].astype(np.float32) / np.float32(WHITE)).astype(np.float32)


# The network -------------------------------------------------------------------------------------------


def make_unit(channels_in: int, channels_out: int, kernel: int, *, stride: int = 1, groups: int = 1) -> Any:
    """Convolution, batch normalization, ReLU. Padding keeps the image's size at stride 1."""
    from torch import nn

    conv = nn.Conv2d(channels_in, channels_out, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, norm=nn.BatchNorm2d(channels_out), relu=nn.ReLU()))


def make_separable(channels_in: int, channels_out: int, *, stride: int = 1) -> Any:
    """A depthwise 3 × 3 unit and a pointwise 1 × 1 unit."""
    from torch import nn

    depthwise = make_unit(channels_in, channels_in, 3, stride=stride, groups=channels_in)
    pointwise = make_unit(channels_in, channels_out, 1)
    return nn.Sequential(OrderedDict(depthwise=depthwise, pointwise=pointwise))


def make_residual(body: Any) -> Any:
    """`x + body(x)`."""
    from torch import nn

    class Residual(nn.Module):  # type: ignore[misc]  # torch has no types here
        def __init__(self) -> None:
            super().__init__()
            self.body = body

        def forward(self, x: Any) -> Any:
            return x + self.body(x)

    return Residual()


def make_network() -> Any:
    """A convnet, float32 [n, 1, 8, 8] → logits [n, 10]: one plain and three separable residual blocks."""
    from torch import nn

    narrow, wide = CHANNELS, 2 * CHANNELS
    return nn.Sequential(
        OrderedDict(
            stem=make_unit(1, narrow, 3),
            block1=make_residual(make_unit(narrow, narrow, 3)),
            down=make_separable(narrow, wide, stride=2),
            block2=make_residual(make_separable(wide, wide)),
            block3=make_residual(make_separable(wide, wide)),
            block4=make_residual(make_separable(wide, wide)),
            pool=nn.AvgPool2d(4),
            flatten=nn.Flatten(),
            classify=nn.Linear(wide, 10),
        )
    )


def fold_norms(network: Any) -> None:
    """Fold each batch normalization into its convolution, so that every exporter sees the same weights."""
    from torch import nn
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    for unit in [m for m in network.modules() if isinstance(getattr(m, "norm", None), nn.BatchNorm2d)]:
        unit.conv = fuse_conv_bn_eval(unit.conv, unit.norm)
        del unit.norm


def count_macs(network: Any) -> int:
    """Multiply-accumulates of convolutions and the linear layer for one image."""
    import torch
    from torch import nn

    counted = []

    def count(module: Any, _inputs: Any, output: Any) -> None:
        counted.append(module.weight[0].numel() * output[0].numel())

    hooks = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    with torch.no_grad():
        network(torch.zeros(1, 1, 8, 8))
    for hook in hooks:
        hook.remove()
    return sum(counted)


# Training ----------------------------------------------------------------------------------------------


def shift_images(images: Any, rng: np.random.Generator) -> Any:
    """Move each image of a batch [n, 1, 8, 8] by −1, 0 or 1 pixel along both axes; black comes in."""
    import torch

    padded = torch.nn.functional.pad(images, (1, 1, 1, 1))
    offsets = rng.integers(0, 3, size=(len(images), 2)).tolist()
    return torch.stack([p[:, y : y + 8, x : x + 8] for p, (y, x) in zip(padded, offsets, strict=True)])


def draw_batches(n: int, rng: np.random.Generator) -> Iterator[Indices]:
    """The positions of one epoch's batches; a last one that is not full is left out."""
    order = rng.permutation(n)
    for start in range(0, n - BATCH + 1, BATCH):
        yield order[start : start + BATCH]


def train_network(images: Images, labels: Images) -> Any:
    """Train for EPOCHS with AdamW and a one-cycle learning rate; returns the network with folded norms."""
    import torch

    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    rng = np.random.default_rng(SEED)
    network = make_network()
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.05)
    steps = EPOCHS * (len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LEARNING_RATE, total_steps=steps)
    measure_loss = torch.nn.CrossEntropyLoss(label_smoothing=0.05)
    x, y = torch.from_numpy(scale_pixels(images)), torch.from_numpy(labels.astype(np.int64))
    for _ in range(EPOCHS):
        for batch in draw_batches(len(images), rng):
            optimizer.zero_grad()
            measure_loss(network(shift_images(x[batch], rng)), y[batch]).backward()
            optimizer.step()
            schedule.step()
    network.eval()
    fold_norms(network)
    return network


# Files -------------------------------------------------------------------------------------------------


def name_place(node: Any) -> str:
    """The torch module a node came from, such as `block1/body/conv`."""
    notes = {note.key: note.value for note in node.metadata_props}
    # The scopes run from the whole network to the operator itself; the operator's module is the last but one.
    place: str = ast.literal_eval(notes["pkg.torch.onnx.name_scopes"])[-2]
    return place.replace(".", "/")


def name_nodes(model: Any) -> None:
    """Name nodes and tensors after the torch modules they came from, and drop the exporter's notes.

    A node is named `block1/body/conv/Conv`, its output `block1/body/conv`; every module has one node.
    """
    graph = model.graph
    places = {node.output[0]: name_place(node) for node in graph.node}
    places["logits"] = "logits"
    for node in graph.node:
        node.name = f"{name_place(node)}/{node.op_type}"
        node.input[:] = [places.get(name, name) for name in node.input]
        node.output[:] = [places[name] for name in node.output]
        del node.metadata_props[:]
    for value in graph.value_info:
        value.name = places.get(value.name, value.name)
        del value.metadata_props[:]
    names = [node.name for node in graph.node]
    assert len(set(names)) == len(names), names


def shorten_weights(model: Any) -> None:
    """Round the weights to FRACTION_BITS, so that the package that contains them compresses well."""
    from onnx import numpy_helper

    dropped = 23 - FRACTION_BITS  # of float32's fraction
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.float32 and array.size > 1:
            bits = array.view(np.uint32).astype(np.uint64)
            rounded = ((bits + (1 << (dropped - 1))) >> dropped << dropped).astype(np.uint32)
            tensor.CopyFrom(numpy_helper.from_array(rounded.view(np.float32).reshape(array.shape), tensor.name))


def write_onnx(network: Any, path: Path) -> None:
    """Export to one ONNX file, opset 18, input `image` [1, 1, 8, 8], output `logits` [1, 10]."""
    import onnx
    import torch

    program = torch.onnx.export(
        network,
        (torch.zeros(1, 1, 8, 8),),
        dynamo=True,
        opset_version=18,
        input_names=["image"],
        output_names=["logits"],
        verbose=False,
    )
    model = program.model_proto
    name_nodes(model)
    shorten_weights(model)
    model.graph.name = "digits"
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


class CalibrationReader:
    """Hands onnxruntime one image [1, 1, 8, 8] after another, then None."""

    def __init__(self, images: Floats) -> None:
        self._images = iter(images)

    def get_next(self) -> dict[str, Floats] | None:
        image = next(self._images, None)
        return None if image is None else {"image": image[None]}


def write_onnx_int8(source: Path, path: Path, calibration: Floats) -> None:
    """Quantize with onnxruntime: QDQ, MinMax ranges, uint8 activations, int8 weights per output channel.

    Unsigned activations with signed weights are the pair that onnxruntime fuses for most operators.
    """
    import onnx
    from onnxruntime import quantization

    quantization.quantize_static(
        source,
        path,
        CalibrationReader(calibration),
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=True,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
    )
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


def name_tensors(network: Any) -> Any:
    """The network with `image` and `logits` as the names of its input and output."""
    from torch import nn

    class Named(nn.Module):  # type: ignore[misc]  # torch has no types here
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, image: Any) -> dict[str, Any]:
            return {"logits": self.network(image)}

    return Named().eval()


def write_tflite(network: Any, path: Path) -> None:
    """Convert to TFLite, keeping the input's layout, [1, 1, 8, 8]."""
    import litert_torch
    import torch

    named = name_tensors(network)
    litert_torch.convert(named, sample_kwargs={"image": torch.zeros(1, 1, 8, 8)}).export(str(path))
    shorten_names(path)


def shorten_names(path: Path) -> None:
    """Rename a TFLite file's tensors to the torch module they came from, such as `stem/relu`.

    The converter joins the class of every module around an operator into a name, 16 kB in all.
    """
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model(path)
    graph = model.subgraphs[0]
    results = {index for operator in graph.operators for index in operator.outputs}
    seen: dict[str, int] = {}
    # Operators' results come first, so that the plain name is theirs and a constant takes a number.
    for index in sorted(range(len(graph.tensors)), key=lambda index: index not in results):
        tensor = graph.tensors[index]
        name = shorten_name(tensor.name.decode())
        seen[name] = seen.get(name, 0) + 1
        tensor.name = name if seen[name] == 1 else f"{name}_{seen[name]}"
    flatbuffer_utils.write_model(model, path)


def shorten_name(name: str) -> str:
    """`a.Named/b.Sequential_network/b.Sequential_stem/c.ReLU_relu;…` becomes `stem/relu`."""
    first = name.partition(";")[0]
    modules = re.findall(r"\.[A-Za-z0-9]+_(\w+)(?=/|$)", first)
    return "/".join(modules[1:]) or name


def write_tflite_int8(source: Path, path: Path, calibration: Floats) -> None:
    """Quantize with ai-edge-quantizer: weights, activations, input and output all int8."""
    from ai_edge_quantizer import quantizer, recipe

    worker = quantizer.Quantizer(source, recipe.static_wi8_ai8())
    samples = [{"image": image[None]} for image in calibration]
    ranges = worker.calibrate({"serving_default": samples}, num_threads=1)
    worker.quantize(ranges).export_model(path, overwrite=True)


# Checking ----------------------------------------------------------------------------------------------


def open_onnx(path: Path) -> Predict:
    """Open in onnxruntime, one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def predict(image: Floats) -> Floats:
        logits: Floats = session.run(["logits"], {"image": image})[0]
        return logits

    return predict


def quantize(values: Floats, details: dict[str, Any]) -> NDArray[Any]:
    """Real values as the tensor stores them; a float tensor stores them as they are."""
    scale, zero_point = details["quantization"]
    if not scale:
        return values
    limits = np.iinfo(details["dtype"])
    stored: NDArray[Any] = np.clip(np.round(values / scale) + zero_point, limits.min, limits.max)
    return stored.astype(limits.dtype)


def dequantize(stored: NDArray[Any], details: dict[str, Any]) -> Floats:
    """What a tensor stores as real values; the other way round of `quantize`."""
    scale, zero_point = details["quantization"]
    return (stored.astype(np.float32) - np.float32(zero_point)) * np.float32(scale or 1.0)


def open_tflite(path: Path) -> Predict:
    """Open in LiteRT, one thread; an int8 input and output are quantized and dequantized here."""
    from ai_edge_litert import interpreter

    runner = interpreter.Interpreter(str(path), num_threads=1).get_signature_runner()
    image_details = runner.get_input_details()["image"]
    logits_details = runner.get_output_details()["logits"]

    def predict(image: Floats) -> Floats:
        return dequantize(runner(image=quantize(image, image_details))["logits"], logits_details)

    return predict


def open_model(path: Path) -> Predict:
    """Open a model file in the runtime that its name indicates."""
    return open_onnx(path) if path.suffix == ".onnx" else open_tflite(path)


def predict_all(predict: Predict, images: Images) -> Floats:
    """Logits [n, 10] of images [n, 8, 8], one by one."""
    return np.concatenate([predict(image[None]) for image in scale_pixels(images)])


def report_files(folder: Path, fixtures: Path) -> None:
    """Print size, held-out accuracy, and agreement with digits.onnx, of each model file."""
    with np.load(folder / "heldout.npz") as heldout:
        images, labels = heldout["images"], heldout["labels"]
    reference = predict_all(open_model(folder / "digits.onnx"), images)
    print(f"{'file':20} {'bytes':>8} {'right':>9} {'accuracy':>9} {'agreement':>10} {'max abs diff':>13}")
    models = [folder / "digits.onnx", folder / "digits_int8.onnx"]
    for path in (*models, fixtures / "digits.tflite", fixtures / "digits_int8.tflite"):
        logits = predict_all(open_model(path), images)
        right = int((logits.argmax(1) == labels).sum())
        agreement = float((logits.argmax(1) == reference.argmax(1)).mean())
        difference = float(np.abs(logits - reference).max())
        print(
            f"{path.name:20} {path.stat().st_size:8} {right:5}/{len(labels)}"
            f" {right / len(labels):9.2%} {agreement:10.2%} {difference:13.2e}"
        )
    print(f"{'heldout.npz':20} {(folder / 'heldout.npz').stat().st_size:8}")


# The two verbs -----------------------------------------------------------------------------------------


def validate() -> None:
    """Train on 80 % of the training part and print the accuracy on the rest of it."""
    import torch

    images, labels = load_digits()
    train = split_digits(labels).train
    kept = train[pick_share(labels[train], 0.8, seed=SEED + 2)]
    rest = np.setdiff1d(train, kept)
    network = train_network(images[kept], labels[kept])
    with torch.no_grad():
        guesses = network(torch.from_numpy(scale_pixels(images[rest]))).argmax(1).numpy()
    print(f"validation: {int((guesses == labels[rest]).sum())}/{len(rest)} right")


def write_files(out: Path, fixtures: Path) -> None:
    """Train on the whole training part and write the six files into their folders."""
    for folder in (out, fixtures):
        folder.mkdir(parents=True, exist_ok=True)
    images, labels = load_digits()
    split = split_digits(labels)
    calibration = scale_pixels(images[split.calibration])
    network = train_network(images[split.train], labels[split.train])
    parameters = sum(p.numel() for p in network.parameters())
    write_onnx(network, out / "digits.onnx")
    write_onnx_int8(out / "digits.onnx", out / "digits_int8.onnx", calibration)
    write_tflite(network, fixtures / "digits.tflite")
    write_tflite_int8(fixtures / "digits.tflite", fixtures / "digits_int8.tflite", calibration)
    np.savez_compressed(out / "calib.npz", images=images[split.calibration[:DEMO_SAMPLES]])
    np.savez_compressed(out / "heldout.npz", images=images[split.heldout], labels=labels[split.heldout])
    print(f"{parameters} parameters, {count_macs(network)} multiply-accumulates an image")
    print(f"{len(split.train)} train, of them {len(calibration)} calibrate; {len(split.heldout)} held out")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the demo's files (default: %(default)s)")
    parser.add_argument("--fixtures", type=Path, default=FIXTURES, help="folder of the TFLite files")
    parser.add_argument("--validate", action="store_true", help="check the settings, write nothing")
    options = parser.parse_args()
    if options.validate:
        validate()
        return
    write_files(options.out, options.fixtures)
    report_files(options.out, options.fixtures)


if __name__ == "__main__":
    main()
