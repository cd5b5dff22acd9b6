"""Random changes of an input: of its bytes, or of its JSON."""

from __future__ import annotations

import copy
import json
import random

_MAGIC = (0, 1, 2, 4, 127, 128, 255, 256, 32767, 32768, 65535, 2**31 - 1, 2**31, 2**32 - 1)


def mutate(source: random.Random, samples: list[bytes]) -> bytes:
    """A sample with one to eight changes: bits, bytes, magic numbers, cuts, copies, insertions, splices, text."""
    data = bytearray(source.choice(samples))
    for _ in range(source.choice((1, 1, 1, 2, 3, 8))):
        if not data:
            return bytes(source.randbytes(source.randrange(64)))
        at = source.randrange(len(data))
        kind = source.randrange(9)
        if kind == 0:
            data[at] ^= 1 << source.randrange(8)
        elif kind == 1:
            data[at] = source.randrange(256)
        elif kind == 2:
            size = source.choice((1, 2, 4, 8))
            value = source.choice(_MAGIC) & ((1 << 8 * size) - 1)
            data[at : at + size] = value.to_bytes(size, source.choice(("little", "big")))
        elif kind == 3:
            del data[at : at + source.choice((1, 4, 16, 256))]
        elif kind == 4:
            del data[at:]
        elif kind == 5:
            data[at:at] = source.randbytes(source.choice((1, 2, 4, 64)))
        elif kind == 6:
            length = source.choice((1, 4, 32, 512))
            start = source.randrange(len(data))
            data[at : at + length] = data[start : start + length]
        elif kind == 7:
            other = source.choice(samples)
            data[at:] = other[source.randrange(len(other)) :]
        else:
            text = (
                b"null",
                b"-1",
                b"1e999",
                b"NaN",
                b"[]",
                b"{}",
                b'"',
                b"../",
                b"\\u0000",
                b"9" * 5000,
                b"[" * 3000,
            )
            data[at : at + source.choice((0, 1, 4))] = source.choice(text)
    return bytes(data)


def mutate_json(source: random.Random, data: bytes) -> bytes:
    """JSON with one to three nodes replaced, removed, doubled or renamed; other data is returned as it is.

    The result is still JSON, so it gets past the JSON parser to the checks behind it.
    """
    try:
        tree = json.loads(data)
    except ValueError:
        return data
    odd = (None, True, -1, 0, 0.5, 1e308, 2**70, "", "../x", "\u0000", "x" * 300, [], {}, [[]], {"a": 1})
    for _ in range(source.choice((1, 1, 2, 3))):
        places = []
        nodes = [tree]
        while nodes:
            node = nodes.pop()
            if isinstance(node, dict | list):
                keys = list(node) if isinstance(node, dict) else list(range(len(node)))
                places += [(node, key) for key in keys]
                nodes += [node[key] for key in keys]
        if not places:
            break
        node, key = source.choice(places)
        kind = source.randrange(4)
        if kind == 0:
            node[key] = copy.deepcopy(source.choice(odd))
        elif kind == 1:
            del node[key]
        elif kind == 2:
            other, name = source.choice(places)
            if name in other if isinstance(other, dict) else name < len(other):
                node[key] = copy.deepcopy(other[name])
        elif isinstance(node, dict):
            node[source.choice(("", "x", str(key).upper()))] = node.pop(key)
        else:
            node.append(node[key])
    return json.dumps(tree).encode()
