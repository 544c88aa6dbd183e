"""Public functions say what they raise, and what private ones of their file raise for them."""

import ast
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

import detnet

PACKAGE = Path(detnet.__file__).parent
# No caller handles these: what is not written yet, and the ends of iterations and programs.
UNTOLD = {"NotImplementedError", "StopIteration", "AttributeError", "KeyError", "SystemExit"}
Function = ast.FunctionDef | ast.AsyncFunctionDef


def untold(source: str, inherited: Collection[str] = ()) -> Iterator[tuple[int, str, str]]:
    """Yields (line, name, exception) of what public functions and classes raise and do not tell.

    Args:
        inherited: methods that tell it in a base class: one without a docstring has theirs.
    """
    tree = ast.parse(source)
    private = {node.name: node for node in tree.body if isinstance(node, Function)}
    for node in tree.body:
        if isinstance(node, Function) and not node.name.startswith("_"):
            yield from _missing(node, node, private)
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            own = {each.name: each for each in node.body if isinstance(each, Function)}
            for method in own.values():
                if method.name in inherited and node.bases and not ast.get_docstring(method):
                    continue
                if not method.name.startswith("_"):
                    yield from _missing(method, method, private | own)
                elif method.name in ("__init__", "__post_init__"):
                    yield from _missing(method, node, private | own)


def _missing(
    function: Function, documented: Function | ast.ClassDef, others: dict[str, Function]
) -> Iterator[tuple[int, str, str]]:
    told = (ast.get_docstring(documented) or "").partition("Raises:")[2]
    raised = set(_raised(function))
    for name in _called(function):
        if name.startswith("_") and name in others:
            raised |= set(_raised(others[name]))
    for exception in sorted(raised - UNTOLD):
        if exception not in told:
            yield documented.lineno, documented.name, exception


def _raised(function: Function) -> Iterator[str]:
    """The exceptions that a function raises by name, and does not catch itself."""
    for node in _own(function):
        if isinstance(node, ast.Raise) and node.exc is not None:
            what = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            name = what.attr if isinstance(what, ast.Attribute) else getattr(what, "id", "")
            if name[:1].isupper():
                yield name


def _called(function: Function) -> Iterator[str]:
    for node in _own(function):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name):
                yield node.func.id
            elif isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) == "self":
                yield node.func.attr


def _own(function: Function) -> Iterator[ast.AST]:
    """The nodes of a function without those of functions within it."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.Try) and node.handlers:  # what is raised there is caught there
            waiting += [*node.handlers, *node.orelse, *node.finalbody]
        elif isinstance(node, ast.With) and any(map(_catches, node.items)):
            continue
        elif not isinstance(node, Function | ast.Lambda | ast.ClassDef):
            waiting += ast.iter_child_nodes(node)


def _catches(item: ast.withitem) -> bool:
    """Whether what is raised inside stays there: `suppress(…)`, `flaws.noting(…)`."""
    called = item.context_expr.func if isinstance(item.context_expr, ast.Call) else None
    return getattr(called, "attr", getattr(called, "id", "")) in ("suppress", "noting")


# Commands end in one line by `main`, whatever they raise.
FILES = [
    path for path in sorted(PACKAGE.rglob("*.py")) if "cli" not in path.relative_to(PACKAGE).parts
]


def test_public_functions_say_what_they_raise() -> None:
    sources = {path: path.read_text(encoding="utf-8") for path in FILES}
    telling = {
        method.name
        for source in sources.values()
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ClassDef)
        for method in node.body
        if isinstance(method, Function) and "Raises:" in (ast.get_docstring(method) or "")
    }
    found = [
        f"{path.relative_to(PACKAGE.parent)}:{line}: {name} raises {exception}"
        for path, source in sources.items()
        for line, name, exception in untold(source, telling)
    ]
    assert not found, "\n".join(found)


def test_what_a_base_class_tells_is_told() -> None:
    source = "class B(A):\n def f(self):\n  raise ValueError"
    assert list(untold(source, {"f"})) == [] and len(list(untold(source))) == 1


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def f():\n raise ValueError('x')", ["ValueError"]),
        ("def f():\n '''Does.\n\n Raises:\n  ValueError: x.\n '''\n raise ValueError", []),
        ("def _g():\n raise errors.InputError('x')\ndef f():\n _g()", ["InputError"]),
        ("class A:\n def __post_init__(self):\n  raise ValueError", ["ValueError"]),
        (
            "class A:\n def f(self):\n  self._g()\n def _g(self):\n  raise InputError",
            ["InputError"],
        ),
        ("def f():\n def g():\n  raise ValueError\n return g", []),
        ("def _f():\n raise ValueError\ndef f():\n raise", []),
        ("def f():\n with flaws.noting(path):\n  raise ValueError", []),
        ("def f():\n with flaws.told(path):\n  raise ValueError", ["ValueError"]),
    ],
)
def test_what_is_not_told_is_found(source: str, expected: list[str]) -> None:
    assert [exception for _, _, exception in untold(source)] == expected
