"""Mutates JSON: its structure, value by value, and then perhaps its text."""

import copy
import json
from typing import Any

import numpy as np

from tests.torture.mutate_bytes import mutate_bytes, mutate_text

Random = np.random.Generator

_DEEP = 3000
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 3, 17, 0.5, -0.5, 1.0, 1e-320, -0.0, 1e308, -1e308),
    *(float("nan"), float("inf"), -float("inf"), 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64),
    *(-(2**63), 10**30, 10**400, 1e9, 123456789.125, "", " ", "a", "1", "1.5", "NaN", "null"),
    *("\ud800", "\x00", "a\nb", "../../x", "/etc/hostname", "x" * 5000, "é", "𝄞", "\u202e"),
    *([], {}, [[]], [None], [0], [1, 2, 3, 4], [1, 2, 3, 4, 5], [0, 0, 0, 0, 0, 0], ["a"] * 4),
    *({"id": 1}, {"size": [8, 8], "counts": [64]}, {"size": [8, 8], "counts": "abc"}),
    *({"size": [10**9, 10**9], "counts": [1]}, {"size": None, "counts": None}, {"a": {"b": []}}),
    *({"size": [48, 64], "counts": [0, 10**12]}, {"size": [48, 64], "counts": "0" * 400}),
)


def mutate_json(random: Random, value: Any) -> bytes:
    """The text of a JSON value after one to three changes of its structure, rarely of its text."""
    value = copy.deepcopy(value)
    for _ in range(int(random.choice((1, 1, 1, 2, 3)))):
        value = change(random, value)
    text = json.dumps(value).encode()
    way = random.random()
    if way < 0.15:
        return mutate_bytes(random, text)
    if way < 0.25:
        return mutate_text(random, text)
    if way < 0.27:
        return _deepened(random, text)
    return text


def change(random: Random, value: Any) -> Any:
    """The value with one change somewhere in it."""
    spot = _spot(random, value)
    if spot is None:
        return _other(random, value, value)
    container, key = spot
    way = int(random.integers(12))
    if way == 0:
        del container[key]
    elif way == 1 and isinstance(container, list):
        container.insert(int(random.integers(len(container) + 1)), copy.deepcopy(container[key]))
    elif way == 2 and isinstance(container, dict):
        container[_renamed(random, key)] = container.pop(key)
    elif way == 3:
        other = _spot(random, value)
        if other is not None:  # what stood elsewhere stands here, too
            container[key] = copy.deepcopy(other[0][other[1]])
    elif way == 4:
        container[key] = [container[key]] * int(random.choice((1, 2, 50)))
    elif way == 5 and isinstance(container, dict):
        container[str(random.choice(("", "id", "iscrowd", "extra", "score")))] = _pick(random)
    elif way == 6 and isinstance(container, list):
        random.shuffle(container)
    else:
        container[key] = _other(random, container[key], value)
    return value


def _spot(random: Random, value: Any) -> tuple[Any, Any] | None:
    """A place in the value: container and key, on any depth."""
    if not isinstance(value, dict | list) or not value:
        return None
    container = value
    while True:
        keys: Any = list(container) if isinstance(container, dict) else range(len(container))
        key = keys[int(random.integers(len(keys)))]
        inner = container[key]
        if not isinstance(inner, dict | list) or not inner or random.random() < 0.12:
            return container, key
        container = inner


def _other(random: Random, value: Any, whole: Any) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    way = int(random.integers(10))
    if number and way < 4:
        return (-value, value * 1_000_003, value + 0.5, float(value))[way]
    if way == 4:
        return str(value)[:1000]
    if isinstance(value, str) and value and way < 4:
        at = int(random.integers(len(value)))
        return (value[:at], value + value, value.upper(), value[:at] + "\x7f" + value[at:])[way]
    if isinstance(value, list) and value and way < 4:
        cut = int(random.integers(len(value)))
        return (value[:cut], value + value, [], dict(enumerate(map(str, value))))[way]
    return _pick(random)


def _pick(random: Random) -> Any:
    return copy.deepcopy(_VALUES[int(random.integers(len(_VALUES)))])


def _renamed(random: Random, key: Any) -> Any:
    if not isinstance(key, str):
        return key + 1 if isinstance(key, int) else 0
    return (key.upper(), f" {key}", f"{key}s", key[:-1], "")[int(random.integers(5))]


def _deepened(random: Random, text: bytes) -> bytes:
    """Puts a hole of brackets in the place of a comma's right side."""
    commas = [place for place, byte in enumerate(text) if byte == ord(",")]
    at = commas[int(random.integers(len(commas)))] + 1 if commas else 0
    deep = int(random.choice((_DEEP, 200_000)))
    return (
        text[:at] + b"[" * deep + b"]" * (deep if random.random() < 0.7 else 0) + b"," + text[at:]
    )
