"""Whether values from a file are of the kinds that the annotations of our own code ask for."""

import math
import types
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin

LARGEST = 2**63 - 1  # what arrays and tensors can hold
# What values of the right kinds that do not fit one another make torch, numpy and ours raise.
MISTAKES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)


def of_kind(value: Any, hint: Any) -> bool:
    """Whether a value, as JSON or a checkpoint holds it, is of an annotation's kind.

    A list stands for a tuple, an int for a float; a bool is no number, and numbers are finite.

    Args:
        hint: bool, int, float, str, None, Any, Literal, unions, tuple, list and dict of those.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin is Literal:
        return any(value == known and type(value) is type(known) for known in arguments)
    if origin in (Union, types.UnionType):
        return any(of_kind(value, each) for each in arguments)
    if hint in (tuple, list) or origin in (tuple, list):
        return isinstance(value, tuple | list) and _members(value, origin, arguments)
    if hint in (dict, Mapping) or origin in (dict, Mapping):
        key, item = arguments or (Any, Any)
        return isinstance(value, Mapping) and all(
            of_kind(name, key) and of_kind(entry, item) for name, entry in value.items()
        )
    if hint is None or hint is type(None):
        return value is None
    if hint in (int, float):
        return _number(value, whole=hint is int)
    return isinstance(hint, type) and isinstance(value, hint)


def say_kind(hint: Any) -> str:
    """An annotation in words for a message."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return " or ".join(repr(known) for known in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(say_kind(each) for each in arguments)
    if origin in (tuple, list) and arguments:
        several = origin is list or arguments[-1] is Ellipsis
        count = "" if several else f"{len(arguments)} "
        return f"a list of {count}{_plural(arguments[0])}"
    plain = {bool: "true or false", int: "a whole number", float: "a finite number", str: "a text"}
    more = {dict: "an object", list: "a list", tuple: "a list", type(None): "nothing"}
    return (plain | more).get(origin or hint, str(hint))


def _plural(hint: Any) -> str:
    plain = {int: "whole numbers", float: "finite numbers", str: "texts", dict: "objects"}
    return plain.get(get_origin(hint) or hint, say_kind(hint))


def _members(value: Any, origin: Any, arguments: tuple[Any, ...]) -> bool:
    if not arguments:
        return True
    if origin is list or arguments[-1] is Ellipsis:
        return all(of_kind(item, arguments[0]) for item in value)
    return len(value) == len(arguments) and all(
        of_kind(item, each) for item, each in zip(value, arguments, strict=True)
    )


def _number(value: Any, *, whole: bool) -> bool:
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        return False
    return -LARGEST <= value <= LARGEST if isinstance(value, int) else math.isfinite(value)
