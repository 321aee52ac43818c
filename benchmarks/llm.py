"""Quality of compressed weights, keys and values of stories260K, as the difference of NLL to full precision.

    python -m benchmarks.llm CHECKPOINT.bin TOKENIZER.bin [--human FILE] [--json]

Texts are 12 x 201 tokens that the model writes itself (temperature 0.8, seeds 0, 3 and 4), named by the SHA-256 of
their tokens as int64, and a human-written file. Peers are the usual per-token quantization of keys and values, and
weights that are rounded to the nearest. 4-bit weights are calibrated on texts of another seed (7). All figures are
computed, not timed: the load of the machine does not matter.
"""

import argparse
import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from edgewright.llm.kv.streaming import StreamingQuantizer, dequantize_groups, quantize_groups
from edgewright.llm.model import DecoderModel
from edgewright.llm.quality.scores import score_tokens
from edgewright.llm.reference import QuantizedKV, Reference
from edgewright.llm.sampling import sample_texts
from edgewright.llm.sources.llama2c import read_checkpoint, read_tokenizer
from edgewright.llm.weights.quantize import Calibration, quantize_4bit, quantize_8bit
from edgewright.schema.arrays import Array

SEEDS = (0, 3, 4)
TOKENS = 200
WINDOWS = 12


class PerToken:
    """Keys and values with one scale per token and head, all of them quantized at once."""

    def __init__(self, bits: int) -> None:
        self.bits = bits

    def __call__(self, layer: int, keys: Array, values: Array, queries: int) -> QuantizedKV:
        used = np.ones((queries, len(keys)), bool)
        read = [dequantize_groups(quantize_groups(one, self.bits)) for one in (keys, values)]
        return QuantizedKV(read[0], read[1], used)


def ignore(text: str) -> None:
    """Show no progress."""


def make_variants(model: DecoderModel) -> Mapping[str, Reference]:
    """Return what is compared with full precision, by name."""
    streaming = StreamingQuantizer(4, model.config)
    rounded = quantize_4bit(model, None, ignore).model
    gptq = quantize_4bit(model, Calibration(), ignore).model
    return {
        "kv8 streaming": Reference(model, quantizer=StreamingQuantizer(8, model.config)),
        "kv4 streaming": Reference(model, quantizer=streaming),
        "kv8 per token": Reference(model, quantizer=PerToken(8)),
        "kv4 per token": Reference(model, quantizer=PerToken(4)),
        "w8": Reference(quantize_8bit(model).model),
        "w4 rounded": Reference(rounded),
        "w4 GPTQ": Reference(gptq),
        "w4 GPTQ, kv4 streaming": Reference(gptq, quantizer=streaming),
    }


def make_texts(model: DecoderModel, human: Path | None) -> dict[str, Array]:
    """Return token windows [windows, 1 + tokens] by name."""
    reference = Reference(model)
    texts = {f"seed {seed}": sample_texts(reference, WINDOWS, TOKENS, seed) for seed in SEEDS}
    if human:
        tokens = model.tokenizer.encode(human.read_text(), begin=False)[: WINDOWS * TOKENS]
        texts[human.name] = np.array([[1, *tokens[i * TOKENS : (i + 1) * TOKENS]] for i in range(WINDOWS)])
    return texts


def measure(model: DecoderModel, variants: Mapping[str, Reference], windows: Array) -> dict[str, Any]:
    """Return the full-precision NLL, and the change, KL divergence and agreement of each variant."""
    full = [Reference(model).logits(one[:-1]) for one in windows]
    losses = [score_tokens(logits, logits, one[1:]).nll for logits, one in zip(full, windows, strict=True)]
    nll = float(np.mean(losses))
    rows: dict[str, Any] = {"nll": round(nll, 4), "sha256": sha256(windows.astype(np.int64).tobytes()).hexdigest()}
    for name, reference in variants.items():
        scores = [
            score_tokens(reference.logits(one[:-1]), logits, one[1:]) for one, logits in zip(windows, full, strict=True)
        ]
        rows[name] = {
            "change": round(float(np.mean([one.nll for one in scores])) - nll, 4),
            "kld": round(float(np.mean([one.kld for one in scores])), 5),
            "top1": round(float(np.mean([one.same_top1 for one in scores])), 4),
        }
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("--human", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    model = read_checkpoint(options.checkpoint, read_tokenizer(options.tokenizer, 512))
    variants = make_variants(model)
    found = {name: measure(model, variants, windows) for name, windows in make_texts(model, options.human).items()}
    if options.json:
        print(json.dumps(found))
        return
    for name, rows in found.items():
        print(f"{name}: full precision {rows['nll']}, sha256 {rows['sha256'][:16]}")
        for kind in variants:
            print(f"  {kind}: {rows[kind]['change']:+.4f} NLL, KLD {rows[kind]['kld']}, top-1 {rows[kind]['top1']:.2%}")


if __name__ == "__main__":
    main()
