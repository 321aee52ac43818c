"""One process of `benchmarks.kernels`: the times of all rows as JSON. Runs in the environment with the peers."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import msgspec
import numpy as np
from PIL import Image

from edgewright.errors import RuntimeMissing
from edgewright.kernels import numpy_kernels, preprocess
from edgewright.kernels.frames import YuvFrame
from edgewright.kernels.operations import nms
from edgewright.kernels.tuning.conv2d import DEFAULT, ConvInputs, make_inputs
from edgewright.kernels.tuning.device import OpenClDevice
from edgewright.kernels.tuning.processor import Processor
from edgewright.kernels.tuning.tuner import tune_conv2d
from edgewright.schema.arrays import Array
from edgewright.tasks.spec.task import Classification, ImageInput, Task

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
HEIGHT, WIDTH, SIZE = 1080, 1920, 224
BATCH_NS = 20_000_000  # of each time: the first call finds the other side's data in the caches
TUNE_S = 60
Action = Callable[[], object]


def main() -> None:
    rounds = int(sys.argv[1])
    measures = (measure_opencv, measure_pillow, measure_nms, measure_opencl)
    print(json.dumps([row for measure in measures for row in measure(rounds)]))


def make_picture() -> Array:
    """Return uint8 [height, width, 3] with smooth shapes and noise, as a photograph has."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3), np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)).astype(np.int32)
    noisy: Array = np.clip(smooth + rng.integers(-20, 20, smooth.shape), 0, 255).astype(np.uint8)
    return noisy


def make_task(*, antialias: bool, normalized: bool = True) -> Task:
    spec = ImageInput(
        name="x",
        size=(SIZE, SIZE),
        resize="exact",
        antialias=antialias,
        scale=1 / 255,
        mean=tuple(MEAN.tolist()) if normalized else 0.0,
        std=tuple(STD.tolist()) if normalized else 1.0,
    )
    return Task(inputs=(spec,), output=Classification())


class Normalizer:
    """A careful normalization in numpy: buffers of its own, in place, one pass for each operation."""

    def __init__(self) -> None:
        self.scale, self.shift = (1 / (255 * STD)).astype(np.float32), (-MEAN / STD).astype(np.float32)
        self.pixels = np.empty((SIZE, SIZE, 3), np.float32)
        self.done = np.empty((1, 3, SIZE, SIZE), np.float32)

    def __call__(self, resized: Array) -> Array:
        np.copyto(self.pixels, resized)
        self.pixels *= self.scale
        self.pixels += self.shift
        self.done[0] = self.pixels.transpose(2, 0, 1)
        return self.done


def measure_opencv(rounds: int) -> Iterator[dict[str, Any]]:
    names = {"preprocess-opencv": "cv2.resize + numpy", "preprocess-blob": "cv2.dnn.blobFromImage"}
    names["nv21"] = "cv2.cvtColor, cv2.resize + numpy"
    if find_spec("cv2") is None:
        reason = "OpenCV is not installed: python -m benchmarks.kernels --set-up"
        yield from ({"name": name, "peer": peer, "reason": reason} for name, peer in names.items())
        return
    import cv2

    cv2.setNumThreads(1)
    picture, size = make_picture(), (SIZE, SIZE)
    small, normalize = np.empty((SIZE, SIZE, 3), np.uint8), Normalizer()
    out = np.empty((1, 3, SIZE, SIZE), np.float32)

    def run(frame: Array | YuvFrame, task: Task, *, exact: bool = False) -> Action:
        return lambda: preprocess(frame, task, exact=exact, out=out)

    def resize() -> Array:
        return normalize(cv2.resize(picture, size, dst=small, interpolation=cv2.INTER_LINEAR))

    task = make_task(antialias=False)
    compared = (run(picture, task), resize, run(picture, task, exact=True))
    yield {**describe(names, "preprocess-opencv", compared), **alternate(rounds, *compared)}
    plain = make_task(antialias=False, normalized=False)

    def blob() -> Array:
        done: Array = cv2.dnn.blobFromImage(picture, 1 / 255, size, (0, 0, 0), False, False)
        return done

    compared = (run(picture, plain), blob, run(picture, plain, exact=True))
    yield {**describe(names, "preprocess-blob", compared, scale=255 * np.ones(3)), **alternate(rounds, *compared)}
    yuv = cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_I420)
    chroma = yuv[HEIGHT:].reshape(2, HEIGHT // 2, WIDTH // 2)
    pairs = np.stack([chroma[1], chroma[0]], axis=-1).reshape(HEIGHT // 2, WIDTH)
    joined = np.ascontiguousarray(np.concatenate([yuv[:HEIGHT], pairs]))
    frame, colors = YuvFrame("nv21", (joined[:HEIGHT], joined[HEIGHT:])), np.empty_like(picture)

    def convert() -> Array:
        cv2.cvtColor(joined, cv2.COLOR_YUV2RGB_NV21, dst=colors)
        return normalize(cv2.resize(colors, size, dst=small, interpolation=cv2.INTER_LINEAR))

    compared = (run(frame, task), convert, run(frame, task, exact=True))
    yield {**describe(names, "nv21", compared), **alternate(rounds, *compared)}


def measure_pillow(rounds: int) -> Iterator[dict[str, Any]]:
    picture, task, normalize = make_picture(), make_task(antialias=True), Normalizer()
    image, out = Image.fromarray(picture), np.empty((1, 3, SIZE, SIZE), np.float32)

    def resize() -> Array:
        return normalize(np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BILINEAR)))

    compared = (
        lambda: preprocess(picture, task, exact=False, out=out),
        resize,
        lambda: preprocess(picture, task, out=out),
    )
    names = {"preprocess-pillow": "Pillow's resize + numpy"}
    yield {**describe(names, "preprocess-pillow", compared), **alternate(rounds, *compared)}


def describe(names: dict[str, str], name: str, compared: Any, scale: Array = 255 * STD) -> dict[str, Any]:
    """Return name, peer, and the largest difference in gray levels."""
    ours, theirs = np.array(compared[0]()), np.array(compared[1]())
    differs = float((np.abs(ours - theirs) * scale.reshape(3, 1, 1)).max())
    return {"name": name, "peer": names[name], "differs_gray_levels": differs}


def measure_nms(rounds: int) -> Iterator[dict[str, Any]]:
    """8,400 boxes around 30 objects, as a detector of the YOLO family returns them."""
    rng = np.random.default_rng(1)
    centers, sizes, of = rng.uniform(50, 590, (30, 2)), rng.uniform(20, 150, (30, 2)), rng.integers(0, 30, 8400)
    center, half = centers[of] + rng.normal(0, 6, (8400, 2)), sizes[of] * rng.uniform(0.8, 1.2, (8400, 2)) / 2
    boxes = np.concatenate([center - half, center + half], axis=1).astype(np.float32)
    scores = rng.beta(0.3, 3, 8400).astype(np.float32)
    kept = nms(boxes, scores, 0.5), numpy_kernels.nms(boxes, scores, 0.5, 0.0, 8400)
    yield {
        "name": "nms",
        "peer": "numpy",
        "same_boxes": bool(np.array_equal(*kept)),
        **alternate(rounds, lambda: nms(boxes, scores, 0.5), lambda: numpy_kernels.nms(boxes, scores, 0.5, 0.0, 8400)),
    }


def measure_opencl(rounds: int) -> Iterator[dict[str, Any]]:
    """The tuned convolution against the blocked variant that one writes without measuring."""
    row: dict[str, Any] = {"name": "opencl-conv", "peer": "the untuned variant"}
    try:
        found = tune_conv2d(TUNE_S, 0)
    except RuntimeMissing as missing:
        yield {**row, "reason": missing.why}
        return
    device, inputs = OpenClDevice(), make_inputs()
    best, default = device.load(found.params, inputs), device.load(DEFAULT, inputs)
    row |= {"device": found.device, "stand_in": found.stand_in, "params": msgspec.to_builtins(found.params)}
    rivals = {"opencl": best.run, "c": load_tuned_c(), "xnnpack": load_xnnpack(inputs)}
    others = alternate_all(rounds, {name: action for name, action in rivals.items() if action})
    yield {**row, **alternate(rounds, best.run, default.run), "rivals": others}


def load_tuned_c() -> Action | None:
    """Return the tuned C variant for this processor; None without a compiler."""
    try:
        found = tune_conv2d(TUNE_S, 0, name="cpu")
    except RuntimeMissing:
        return None
    return Processor().load(found.params, make_inputs()).run


def load_xnnpack(inputs: ConvInputs) -> Action | None:
    """Return one inference of a LiteRT model with the same convolution, on one thread; None without LiteRT."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        return None
    filters = inputs.weights.shape[2]
    weights = np.ascontiguousarray(inputs.weights.reshape(-1, 3, 3, filters).transpose(3, 1, 2, 0))
    interpreter = Interpreter(model_content=write_conv_model(weights), num_threads=1)
    interpreter.allocate_tensors()
    image = np.ascontiguousarray(inputs.padded[:, 1:-1, 1:-1].transpose(1, 2, 0)[np.newaxis])
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    done = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0].transpose(2, 0, 1)
    np.testing.assert_allclose(done, inputs.want, atol=1e-3)
    invoke: Action = interpreter.invoke
    return invoke


def write_conv_model(weights: Array) -> bytes:
    """Return a TFLite model with one 3 × 3 convolution, padding SAME; weights are [filters, 3, 3, channels]."""
    from ai_edge_litert import schema_py_generated as schema

    filters, channels, size = weights.shape[0], weights.shape[3], [1, 56, 56]
    shapes = {"x": [*size, channels], "w": list(weights.shape), "b": [filters], "y": [*size, filters]}
    model, graph, operator = schema.ModelT(), schema.SubGraphT(), schema.OperatorT()
    model.version, model.buffers = 3, [schema.BufferT() for _ in range(3)]
    model.buffers[1].data = list(weights.tobytes())
    model.buffers[2].data = list(np.zeros(filters, np.float32).tobytes())
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CONV_2D
    code.version, model.operatorCodes, graph.tensors = 1, [code], []
    for (name, shape), buffer in zip(shapes.items(), (0, 1, 2, 0), strict=True):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.buffer, tensor.type = name, shape, buffer, schema.TensorType.FLOAT32
        graph.tensors.append(tensor)
    operator.inputs, operator.outputs = [0, 1, 2], [3]
    operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.Conv2DOptions, schema.Conv2DOptionsT()
    options = operator.builtinOptions
    options.strideW = options.strideH = options.dilationWFactor = options.dilationHFactor = 1
    graph.inputs, graph.outputs, graph.operators, model.subgraphs = [0], [3], [operator], [graph]
    builder = import_module("flatbuffers").Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def alternate(rounds: int, ours: Action, peer: Action, exact: Action | None = None) -> dict[str, list[float]]:
    """Return the times of our kernel, the peer, and our exact kernel."""
    return alternate_all(rounds, {"ours": ours, "peers": peer} | ({"exact": exact} if exact else {}))


def alternate_all(rounds: int, actions: dict[str, Action]) -> dict[str, list[float]]:
    """Return the CPU times of each in microseconds; the order changes from round to round."""
    counts = {name: count_repeats(action) for name, action in actions.items()}
    times: dict[str, list[float]] = {name: [] for name in actions}
    for round_ in range(rounds):
        for name in list(actions) if round_ % 2 else reversed(list(actions)):
            times[name].append(time_one(actions[name], counts[name]))
    return times


def time_one(action: Action, count: int) -> float:
    began = time.process_time_ns()
    for _ in range(count):
        action()
    return (time.process_time_ns() - began) / count / 1e3


def count_repeats(action: Action) -> int:
    action()
    return max(1, int(BATCH_NS / 1e3 / max(time_one(action, 3), 1e-3)))


if __name__ == "__main__":
    main()
