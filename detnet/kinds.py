"""Checks values read from files against type annotations, and makes dataclasses of them."""

import math
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from detnet.errors import InputError

Record = TypeVar("Record")

LARGEST = 2**63 - 1  # what arrays and tensors can hold
# What torch, numpy and our code raise on values of the right types that do not fit together.
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


def is_plain(hint: Any) -> bool:
    """Whether an annotation is of numbers, texts, words and None alone, which `of_kind` decides."""
    if get_origin(hint) in (Union, types.UnionType):
        return all(map(is_plain, get_args(hint)))
    return get_origin(hint) is Literal or hint in (bool, int, float, str, None, type(None))


def require_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    """Refuses an option's value that is none of the words it may be.

    Raises:
        InputError: naming them.
    """
    if value not in choices:
        raise InputError(f"{name} must be {_one_of([*map(repr, choices)])}, got {value!r}")


def require_positive(settings: object, *names: str, most: float = math.inf) -> None:
    """Refuses numbers that are zero, negative or not finite; None is no number, and passes.

    Args:
        settings: with these attributes.
        most: that they may be.

    Raises:
        InputError: naming the first.
    """
    must = "be positive" + (f" and {most:g} at most" if most < math.inf else "")
    _require_numbers(settings, names, lambda value: 0 < value < math.inf and value <= most, must)


def require_not_negative(settings: object, *names: str) -> None:
    """Refuses numbers that are negative or not finite; see `require_positive`.

    Raises:
        InputError: naming the first.
    """
    _require_numbers(settings, names, lambda value: 0 <= value < math.inf, "not be negative")


def require_shares(settings: object, *names: str) -> None:
    """Refuses numbers that are no share of a whole; see `require_positive`.

    Raises:
        InputError: naming the first.
    """
    _require_numbers(settings, names, lambda value: 0 <= value <= 1, "lie in [0, 1]")


def _require_numbers(
    settings: object, names: Sequence[str], fits: Callable[[float], bool], must: str
) -> None:
    for name in names:
        value = getattr(settings, name)
        if value is not None and not fits(value):
            raise InputError(f"{name} must {must}, got {value}")


def say_kind(hint: Any) -> str:
    """An annotation in words for a message."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Literal, Union, types.UnionType):
        return _one_of(_choices(hint))
    if origin in (tuple, list) and arguments not in ((), (Any,)):
        several = origin is list or arguments[-1] is Ellipsis
        count = "" if several else f"{len(arguments)} "
        return f"a list of {count}{_plural(arguments[0])}"
    plain = {bool: "true or false", int: "a whole number", float: "a finite number", str: "a text"}
    more = {dict: "an object", list: "a list", tuple: "a list", type(None): "null"}
    return (plain | more).get(origin or hint, str(hint))


def _choices(hint: Any) -> list[str]:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return [repr(known) for known in arguments]
    if origin in (Union, types.UnionType):
        return [choice for each in arguments for choice in _choices(each)]
    return [say_kind(hint)]


def _one_of(choices: Sequence[str]) -> str:
    *others, last = choices
    return f"{', '.join(others)} or {last}" if others else last


def read_record(kind: type[Record], content: Any, where: str) -> Record:
    """Makes a dataclass of what a JSON file holds, and the dataclasses that it is made of.

    Raises:
        InputError: naming the place and what is missing, unknown or of the wrong kind there.
    """
    if not isinstance(content, Mapping):
        raise InputError(f"{where}: holds no record, but {say_kind(type(content))}")
    hints = get_type_hints(kind)
    known = {entry.name: entry for entry in fields(kind)}  # type: ignore[arg-type]
    strange = [name for name in content if name not in known]
    missing = [
        name
        for name, entry in known.items()
        if name not in content and entry.default is MISSING and entry.default_factory is MISSING
    ]
    if strange or missing:
        what = f"{strange[0]!r} is not known" if strange else f"{missing[0]!r} is missing"
        raise InputError(f"{where}: written by another version, or damaged: {what}")
    return kind(
        **{
            name: _read_value(value, hints[name], f"{where}: {name}")
            for name, value in content.items()
        }
    )


def _read_value(value: Any, hint: Any, where: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        records = [each for each in arguments if is_dataclass(each) or get_origin(each) is tuple]
        if records:
            return _read_value(value, records[0], where)
    if isinstance(hint, type) and is_dataclass(hint):
        return read_record(hint, value, where)
    if origin is tuple and isinstance(value, list):
        kinds = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(kinds) == len(value):
            return tuple(_read_value(*pair, where) for pair in zip(value, kinds, strict=True))
    if origin is dict and isinstance(value, Mapping):
        return {name: _read_value(entry, arguments[1], where) for name, entry in value.items()}
    if not of_kind(value, hint):
        raise InputError(f"{where}: must be {say_kind(hint)}, got {str(value)[:60]!r}")
    return value


def _plural(hint: Any) -> str:
    plain = {int: "whole numbers", float: "finite numbers", str: "texts", dict: "objects"}
    text = say_kind(hint)
    return plain.get(get_origin(hint) or hint, text.replace("a list of", "lists of", 1))


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
