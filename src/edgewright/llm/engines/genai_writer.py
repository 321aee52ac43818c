"""Writing of models for ONNX Runtime GenAI: an ONNX graph with a KV cache, and the settings beside it.

The graph has the inputs, outputs and operators of those that ONNX Runtime GenAI's own builder writes. It is written
here so that scales and zero points are those of our quantization, without torch and transformers.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgewright.llm.model import DecoderConfig, DecoderModel
from edgewright.llm.reference import make_rotation
from edgewright.llm.weights.packed import GROUP, Packed
from edgewright.llm.weights.quantize import QuantizedModel
from edgewright.schema.arrays import Array

MODEL_FILE, DATA_FILE, SETTINGS_FILE = "model.onnx", "model.onnx.data", "genai_config.json"
FAMILIES = ("llama", "qwen2")
MICROSOFT = "com.microsoft"
OPSET = 21
MIDDLE = 128  # zero point of unsigned 8-bit codes


class _Graph:
    """Nodes and initializers of the graph that is being written."""

    def __init__(self, quantized: QuantizedModel) -> None:
        self.model, self.packed = quantized.model, quantized.packed
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []

    def add(self, kind: str, inputs: Sequence[str], output: str, *, domain: str = "", **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, domain=domain, **attributes))
        return output

    def store(self, name: str, array: Array) -> str:
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def normalize(self, values: str, name: str, output: str) -> str:
        weight = self.store(f"{name}.weight", self.model.weights[name])
        epsilon = self.model.config.norm_epsilon
        return self.add(
            "SimplifiedLayerNormalization", [values, weight], output, axis=-1, epsilon=epsilon, stash_type=1
        )

    def multiply(self, values: str, name: str) -> str:
        """Return the product with the weights `name`, and their bias if they have one."""
        if name in self.packed:
            product = self._multiply_packed(values, name, self.packed[name])
        else:
            weight = self.store(f"{name}.weight", self.model.weights[name].T)
            product = self.add("MatMul", [values, weight], f"{name}.product")
        bias = f"{name}_bias"
        if bias not in self.model.weights:
            return product
        return self.add("Add", [product, self.store(f"{bias}.weight", self.model.weights[bias])], f"{name}.sum")

    def _multiply_packed(self, values: str, name: str, matrix: Packed) -> str:
        rows, columns = matrix.codes.shape
        inputs = [values, self.store(f"{name}.codes", _pack(matrix)), self.store(f"{name}.scales", matrix.scales)]
        if matrix.minima is not None:
            inputs.append(self.store(f"{name}.zero_points", -matrix.minima / matrix.scales))
        return self.add(
            "MatMulNBits", inputs, f"{name}.product", domain=MICROSOFT, K=columns, N=rows, bits=matrix.bits,
            block_size=GROUP,
        )  # fmt: skip

    def look_up(self) -> str:
        """Return the embeddings of the tokens."""
        if "embedding" not in self.packed:
            weight = self.store("embedding.weight", self.model.weights["embedding"])
            return self.add("Gather", [weight, "input_ids"], "embedded", axis=0)
        matrix = self.packed["embedding"]
        codes = self.store("embedding.codes", (matrix.codes.astype(np.int16) + MIDDLE).astype(np.uint8))
        scales = self.store("embedding.scales", matrix.scales)
        return self.add(
            "GatherBlockQuantized", [codes, "input_ids", scales], "embedded", domain=MICROSOFT, bits=8,
            block_size=GROUP, gather_axis=0, quantize_axis=1,
        )  # fmt: skip

    def project(self, values: str) -> None:
        """Write the logits; a tied head reads the arrays of the embedding."""
        config = self.model.config
        if not config.tied:
            self.add("Identity", [self.multiply(values, "head")], "logits")
        elif "embedding" not in self.packed:
            turned = self.add("Transpose", ["embedding.weight"], "head.weight", perm=[1, 0])
            self.add("MatMul", [values, turned], "logits")
        else:
            shape = np.array([config.vocabulary, config.width // GROUP, GROUP])
            codes = self.add("Reshape", ["embedding.codes", self.store("head.shape", shape)], "head.codes")
            self.add(
                "MatMulNBits", [values, codes, "embedding.scales"], "logits", domain=MICROSOFT, K=config.width,
                N=config.vocabulary, bits=8, block_size=GROUP,
            )  # fmt: skip


def _pack(matrix: Packed) -> Array:
    """Return the codes as MatMulNBits has them: uint8 [rows, groups, bytes], the first of two at the low bits."""
    rows = len(matrix.codes)
    if matrix.bits == 8:
        return (matrix.codes.astype(np.int16) + MIDDLE).astype(np.uint8).reshape(rows, -1, GROUP)
    pairs = matrix.codes.reshape(rows, -1, GROUP // 2, 2).astype(np.uint8)
    return pairs[..., 0] | pairs[..., 1] << 4


def write_genai(folder: Path, quantized: QuantizedModel) -> None:
    """Write a model into a folder, its weights in a file of their own."""
    graph = _Graph(quantized)
    config = quantized.model.config
    hidden = graph.look_up()
    _add_lengths(graph)
    cosine, sine = make_rotation(config, np.arange(config.context))
    graph.store("cosines", cosine)
    graph.store("sines", sine)
    for layer in range(config.layers):
        hidden = _add_layer(graph, layer, hidden)
    graph.project(graph.normalize(hidden, "norm", "normed"))
    inputs, outputs = _describe_ports(config)
    made = helper.make_graph(graph.nodes, "decoder", inputs, outputs, graph.initializers)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
    model = helper.make_model(made, opset_imports=opsets, ir_version=10, producer_name="edgewright")
    onnx.save_model(
        model, str(folder / MODEL_FILE), save_as_external_data=True, location=DATA_FILE, size_threshold=1024
    )
    settings = msgspec.json.format(msgspec.json.encode(_make_settings(quantized.model)), indent=1)
    (folder / SETTINGS_FILE).write_bytes(settings + b"\n")


def _add_lengths(graph: _Graph) -> None:
    """Add what the attention needs to know: the last position of each sequence, and the length of all."""
    graph.store("axis", np.array([1]))
    graph.store("one", np.array([1]))
    summed = graph.add("ReduceSum", ["attention_mask", "axis"], "mask.sum", keepdims=0)
    graph.add("Cast", [graph.add("Sub", [summed, "one"], "mask.last")], "last", to=TensorProto.INT32)
    shape = graph.add("Shape", ["attention_mask"], "mask.shape")
    graph.store("second", np.array(1))
    length = graph.add("Gather", [shape, "second"], "mask.length", axis=0)
    graph.add("Cast", [length], "length", to=TensorProto.INT32)


def _add_layer(graph: _Graph, layer: int, hidden: str) -> str:
    config, name = graph.model.config, f"layers.{layer}"
    inner = graph.normalize(hidden, f"{name}.attention_norm", f"{name}.attention_input")
    asked = [graph.multiply(inner, f"{name}.{kind}") for kind in "qkv"]
    past = [f"past_key_values.{layer}.{kind}" for kind in ("key", "value")]
    present = [f"present.{layer}.{kind}" for kind in ("key", "value")]
    mixed = f"{name}.mixed"
    inputs = [*asked, *past, "last", "length", "cosines", "sines"]
    attention = helper.make_node(
        "GroupQueryAttention", inputs, [mixed, *present], name=mixed, domain=MICROSOFT, num_heads=config.heads,
        kv_num_heads=config.kv_heads, do_rotary=1, scale=config.scale,
    )  # fmt: skip
    graph.nodes.append(attention)
    hidden = graph.add("Add", [hidden, graph.multiply(mixed, f"{name}.o")], f"{name}.after_attention")
    inner = graph.normalize(hidden, f"{name}.mlp_norm", f"{name}.mlp_input")
    gate, up = graph.multiply(inner, f"{name}.gate"), graph.multiply(inner, f"{name}.up")
    opened = graph.add("Sigmoid", [gate], f"{name}.open")
    gated = graph.add("Mul", [graph.add("Mul", [gate, opened], f"{name}.silu"), up], f"{name}.gated")
    return graph.add("Add", [hidden, graph.multiply(gated, f"{name}.down")], f"{name}.output")


def _describe_ports(config: DecoderConfig) -> tuple[list[Any], list[Any]]:
    def describe(name: str, kind: int, shape: Sequence[int | str]) -> Any:
        return helper.make_tensor_value_info(name, kind, shape)

    def list_caches(prefix: str, tokens: str) -> list[Any]:
        shape: list[int | str] = ["batch", config.kv_heads, tokens, config.head_size]
        return [
            describe(f"{prefix}.{layer}.{kind}", TensorProto.FLOAT, shape)
            for layer in range(config.layers)
            for kind in ("key", "value")
        ]

    inputs = [
        describe("input_ids", TensorProto.INT64, ["batch", "tokens"]),
        describe("attention_mask", TensorProto.INT64, ["batch", "all_tokens"]),
        *list_caches("past_key_values", "past_tokens"),
    ]
    logits = describe("logits", TensorProto.FLOAT, ["batch", "tokens", config.vocabulary])
    return inputs, [logits, *list_caches("present", "all_tokens")]


def _make_settings(model: DecoderModel) -> dict[str, Any]:
    """Return the content of genai_config.json."""
    config, tokenizer = model.config, model.tokenizer
    end = list(tokenizer.eos) or [0]
    caches = {f"past_{kind}_names": f"past_key_values.%d.{kind}" for kind in ("key", "value")}
    presents = {f"present_{kind}_names": f"present.%d.{kind}" for kind in ("key", "value")}
    return {
        "model": {
            "type": "llama",
            "bos_token_id": end[0] if tokenizer.bos is None else tokenizer.bos,
            "eos_token_id": end,
            "pad_token_id": end[0],
            "context_length": config.context,
            "vocab_size": config.vocabulary,
            "decoder": {
                "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
                "filename": MODEL_FILE,
                "head_size": config.head_size,
                "hidden_size": config.width,
                "num_attention_heads": config.heads,
                "num_key_value_heads": config.kv_heads,
                "num_hidden_layers": config.layers,
                "inputs": {"input_ids": "input_ids", "attention_mask": "attention_mask", **caches},
                "outputs": {"logits": "logits", **presents},
            },
        },
        "search": {"do_sample": False, "max_length": config.context, "past_present_share_buffer": True},
    }
