"""Audio files: WAV with PCM of 8 to 32 bits."""

import wave
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from edgewright.tasks.data.images import UnreadableSample

STREAMED_BYTES = (1 << 31) - (1 << 16)  # programs that write to a pipe state such a size


def read_audio(file: IO[bytes], sample_rate: int) -> NDArray[Any]:
    """Read the first channel, from −1 to 1, [samples]. Raises UnreadableSample, also for another sample rate."""
    try:
        with wave.open(file) as audio:
            channels, width, rate, frames = audio.getparams()[:4]
            data = audio.readframes(frames)
    except (wave.Error, EOFError, OSError, ValueError, RuntimeError) as error:
        raise UnreadableSample(str(error) or "it is not a complete WAV file") from None
    if rate != sample_rate:
        raise UnreadableSample(f"its sample rate is {rate} Hz, the task requires {sample_rate} Hz")
    if width not in (1, 2, 3, 4):
        raise UnreadableSample(f"it has {8 * width} bits per sample")
    stated = frames * width * channels
    if len(data) < stated < STREAMED_BYTES:
        raise UnreadableSample(f"it is truncated: it has {len(data):,} of {stated:,} bytes")
    if len(data) < width * channels:
        raise UnreadableSample("it has no samples")
    whole = len(data) // (width * channels) * width * channels
    octets = np.frombuffer(data[:whole], np.uint8).reshape(-1, channels, width)[:, 0]
    if width == 1:  # WAV's 8 bits are unsigned, all others signed and little-endian
        return (octets[:, 0].astype(np.float64) - 128) / 128
    wide = np.zeros((len(octets), 4), np.uint8)
    wide[:, 4 - width :] = octets
    return wide.view("<i4")[:, 0].astype(np.float64) / 2**31
