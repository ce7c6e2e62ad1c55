"""Damage to bytes, to JSON and to tensors, drawn from a generator: equal keys give equal damage."""

import copy
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch


# Bytes of a file that hold its sizes, rates and names: half of all damage is here.
HEADER_BYTES = 128
# Whole numbers at whose edge readers go wrong, in 8 to 64 bits.
EDGES = (0, 1, -1, 8, 127, 128, 255, 32_767, 32_768, 65_535, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1)
# What a JSON file may hold in the place of anything else.
ODD_VALUES: tuple[Any, ...] = (
    None, True, False, "", "\0", "a" * 5000, "../../etc/passwd", "é", -1, 0, 1, 3, 1e-320, 1e308, float("nan"), float("inf"),
    2**31 - 1, 2**31, 2**63, 10**400, [], {}, [None], [[]] * 3, {"a": {"b": []}}, "1", 0.5, -0.0,
)  # fmt: skip


def generator_of(*key: int) -> np.random.Generator:
    """Return the generator that belongs to a key, such as the seed and the case."""
    return np.random.default_rng(key)


# Bytes


def damaged_bytes(data: bytes, generator: np.random.Generator, others: Sequence[bytes] = ()) -> bytes:
    """Return bytes with one to several changes.

    Args:
        data: the bytes.
        generator: decides on the changes.
        others: other files, of which parts may be put in.
    """
    damaged = bytearray(data)
    for _ in range(generator.geometric(0.4)):
        change_bytes(damaged, generator, others)
    return bytes(damaged)


def change_bytes(data: bytearray, generator: np.random.Generator, others: Sequence[bytes]) -> None:
    """Make one change in place: a bit, a byte, a number, or a part that is cut off, taken out, repeated or put in."""
    end = min(len(data), HEADER_BYTES) if generator.random() < 0.5 else len(data)
    start = int(generator.integers(end + 1))
    length = int(generator.integers(1, 5 if generator.random() < 0.5 else 2000))
    kind = generator.integers(8)
    if kind == 0 and data:
        data[start % len(data)] ^= 1 << int(generator.integers(8))
    elif kind == 1 and data:
        data[start % len(data)] = int(generator.choice([0, 1, 0x7F, 0x80, 0xFF, int(generator.integers(256))]))
    elif kind == 2:
        data[start : start + 8] = odd_number(generator)
    elif kind == 3:
        del data[int(generator.integers(len(data) + 1)) :]
    elif kind == 4:
        del data[start : start + length]
    elif kind == 5:
        data[start:start] = data[start : start + length]
    elif kind == 6:
        data[start:start] = generator.bytes(length)
    elif others:
        other = others[int(generator.integers(len(others)))]
        place = int(generator.integers(len(other) + 1))
        data[start : start + length] = other[place : place + length]


def odd_number(generator: np.random.Generator) -> bytes:
    """Return an edge of the whole numbers in 1 to 8 bytes, the lowest or the highest first."""
    size, order = int(generator.choice([1, 2, 4, 8])), generator.choice(["little", "big"])
    number = EDGES[int(generator.integers(len(EDGES)))] % 2 ** (8 * size)
    return number.to_bytes(size, "little" if order == "little" else "big")


# JSON


def damaged_json(text: str, generator: np.random.Generator) -> bytes:
    """Return the bytes of a JSON file with one to three changes: of its values, or, one time in four, of its bytes."""
    if generator.random() < 0.25:
        return damaged_bytes(text.encode(), generator)
    content = json.loads(text)
    for _ in range(generator.integers(1, 4)):
        change_value(content, generator)
    # 10**400 has more digits than Python writes as it likes; its text is within the limit of 4300.
    return json.dumps(content).encode()


def change_value(content: Any, generator: np.random.Generator) -> None:
    """Change one value of a JSON object in place: replaced, removed, repeated under another name, or moved a little."""
    containers = [content]
    for container in containers:  # grows on the way
        inner = container.values() if isinstance(container, dict) else container
        containers += [value for value in inner if isinstance(value, (dict, list)) and value]
    container = containers[int(generator.integers(len(containers)))]
    keys = list(container) if isinstance(container, dict) else list(range(len(container)))
    if not keys:
        return
    key = keys[int(generator.integers(len(keys)))]
    kind = generator.integers(6)
    if kind == 0:
        del container[key]
    elif kind == 1 and isinstance(container, dict):
        container[str(generator.integers(1000))] = copy.deepcopy(container[key])
    elif kind == 1 and isinstance(container, list):
        container.append(copy.deepcopy(container[key]))
    elif kind == 2 and isinstance(container[key], (int, float)):
        container[key] = container[key] * int(generator.choice([-1, 2, 1000])) + int(generator.integers(-1, 2))
    elif kind == 3:
        container[key] = copy.deepcopy(container[keys[int(generator.integers(len(keys)))]])
    else:
        container[key] = copy.deepcopy(ODD_VALUES[int(generator.integers(len(ODD_VALUES)))])


# Tensors


def damaged_tensors(tensors: dict[str, torch.Tensor], generator: np.random.Generator) -> dict[str, torch.Tensor]:
    """Return tensors of which one is changed: its values, its shape, its type, or whether it exists."""
    damaged = dict(tensors)
    name = sorted(tensors)[int(generator.integers(len(tensors)))]
    tensor = tensors[name].clone()
    kind = generator.integers(8)
    if kind == 0:
        del damaged[name]
    elif kind == 1:
        damaged[f"{name}.{generator.integers(100)}"] = tensor
    elif kind == 2:
        damaged[name] = tensor.flatten()[: int(generator.integers(tensor.numel() + 1))]
    elif kind == 3:
        damaged[name] = tensor.to([torch.float64, torch.float16, torch.int64, torch.uint8][int(generator.integers(4))])
    elif kind == 4:
        damaged[name] = tensor.unsqueeze(0)
    else:
        value = (float("nan"), float("inf"), 0, -1, 1e30, 1e-30, 255)[int(generator.integers(7))]
        few = torch.from_numpy(np.asarray(generator.random(tuple(tensor.shape)) < generator.choice([0.01, 1.0])))
        finite = value if tensor.is_floating_point() or abs(value) < 256 else 255
        damaged[name] = torch.where(few, torch.tensor(finite).to(tensor.dtype), tensor)
    return damaged
