"""Mutations of bytes that know nothing of a format."""

import random

WORDS = (b"\xff" * 8, b"\0" * 8, b"\xff\xff\xff\x7f", b"\x80" * 9 + b"\x01", b"\xff\xff\xff\xff\x0f", b"\x7f")


def damage(data: bytes, chance: random.Random) -> tuple[str, bytes]:
    """Return the name of a mutation and what it made of the bytes."""
    if not data:
        return "empty", data
    body = bytearray(data)
    at = chance.randrange(len(body))
    end = min(len(body), at + chance.randint(1, 64))
    how = chance.choice(("flip", "cut", "insert", "remove", "word", "repeat", "head", "text"))
    match how:
        case "flip":
            for _ in range(chance.randint(1, 12)):
                body[chance.randrange(len(body))] ^= 1 << chance.randrange(8)
        case "cut":
            del body[at:]
        case "insert":
            body[at:at] = chance.randbytes(end - at)
        case "remove":
            del body[at:end]
        case "word":
            at = chance.randrange(min(len(body), chance.choice((64, 2_000, len(body)))))
            word = chance.choice(WORDS)
            body[at : at + len(word)] = word
        case "repeat":
            body[at:at] = body[at : at + chance.randint(1, 4_000)] * chance.randint(1, 4)
        case "head":
            body[: chance.randint(1, 16)] = chance.randbytes(chance.randint(1, 16))
        case "text":
            letters = [place for place, byte in enumerate(body[:20_000]) if chr(byte).isalpha()]
            for place in chance.sample(letters, min(3, len(letters))):
                body[place] = 0xFF
    return how, bytes(body)
