"""Finds what names of the package stand for, by its source: nothing is imported."""

import ast
from functools import cache
from pathlib import Path

import detnet

_PACKAGE = Path(detnet.__file__).parent


def is_name(dotted: str) -> bool:
    """Whether `detnet.inference.predictor.Predictor.predict` and its like is there.

    Args:
        dotted: a module, or something in one: a function, a class, a constant, an import; a
            member of a class.
    """
    parts = dotted.split(".")
    if parts[0] != "detnet":
        return False
    if len(parts) == 2 and parts[1] in detnet._HOMES:
        return True
    for length in range(len(parts), 0, -1):
        path = _file(tuple(parts[1:length]))
        if path is not None:
            return _inside(ast.parse(path.read_text(encoding="utf-8")), parts[length:])
    return False


@cache
def _file(parts: tuple[str, ...]) -> Path | None:
    path = _PACKAGE.joinpath(*parts)
    choices = (path / "__init__.py", path.with_suffix(".py")) if parts else (path / "__init__.py",)
    return next((choice for choice in choices if choice.is_file()), None)


def _inside(tree: ast.Module | ast.ClassDef, names: list[str]) -> bool:
    if not names:
        return True
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == names[0]:
            return _inside(node, names[1:])
        if names[0] in _bound(node):
            return len(names) == 1
    return False


def _bound(node: ast.stmt) -> set[str]:
    """The names that a statement makes, those within `if` and `try` too."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {each.asname or each.name for each in node.names}
    found: set[str] = set()
    for each in ast.walk(node):
        if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store):
            found.add(each.id)
        elif isinstance(each, ast.ImportFrom):
            found |= {alias.asname or alias.name for alias in each.names}
    return found
