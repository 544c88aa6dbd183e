"""Tensors in what an operator takes and gives: alone, or in lists."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch import Tensor


def tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    """All of them."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from tensors(value)


def mapped(value: Any, of_tensor: Callable[[Tensor], Any]) -> Any:
    """The same with something else for each tensor."""
    if isinstance(value, Tensor):
        return of_tensor(value)
    if isinstance(value, list | tuple):
        return type(value)(mapped(each, of_tensor) for each in value)
    return value
