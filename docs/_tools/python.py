"""Writes the Python reference from the source: signatures and docstrings of all public names.

Nothing is imported, so that neither a GPU nor an extra is needed, and it takes a second.
"""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

from sphinx.ext.napoleon import Config, GoogleDocstring

import detnet
from docs._tools.docstrings import to_rst

PARTS = {
    "detnet": "The front door",
    "detnet.backbones": "Backbones",
    "detnet.detectors": "Detectors",
    "detnet.coco": "COCO's records",
    "detnet.data": "Data",
    "detnet.evaluation": "Evaluation",
    "detnet.engine": "Engine",
    "detnet.training": "Training",
    "detnet.search": "Search",
    "detnet.inference": "Inference",
    "detnet.report": "Reports",
}
_PACKAGE = Path(detnet.__file__).parent
_FIELDS = ("NamedTuple", "TypedDict")  # whose fields are the arguments, as a dataclass's are
_NAPOLEON = Config(napoleon_use_rtype=False, napoleon_use_param=True, napoleon_use_ivar=True)
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def reference_pages() -> Iterator[tuple[str, str]]:
    """Yields name and text: an index, and a page for each part with a section for each module."""
    lines = ["# Python", "", "Made from the source: every name without a leading underscore.", ""]
    lines += ["| part | |", "|---|---|"]
    for part, title in PARTS.items():
        lines.append(f"| [{title}]({part}.md) | `{part}` |")
        sections = [section for path in modules(part) if (section := module_section(path))]
        yield f"{part}.md", "\n".join([f"# {title}", "", *sections])
    lines += ["", "```{toctree}", ":hidden:", "", *PARTS, "```", ""]
    yield "index.md", "\n".join(lines)


def modules(part: str) -> list[Path]:
    """The files of a part, its `__init__.py` first; of `detnet`, those beside the parts."""
    folder = _PACKAGE.joinpath(*part.split(".")[1:])
    found = folder.glob("*.py") if part == "detnet" else folder.rglob("*.py")
    public = [path for path in found if not path.stem.startswith("_") or path.stem == "__init__"]
    return sorted(public, key=lambda path: (path.parent, path.stem != "__init__", path.stem))


def module_section(path: Path) -> str:
    """Gives a module's section, Markdown; nothing where it has neither names nor a docstring."""
    names = ("detnet", *path.relative_to(_PACKAGE).with_suffix("").parts)
    name = ".".join(names).removesuffix(".__init__")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    _qualify(tree, name)
    body = list(_members(tree.body))
    docstring = ast.get_docstring(tree)
    if not body and not docstring:
        return ""
    lines = [f".. py:module:: {name}", "", *_rst(docstring, "module"), "", *body]
    return "\n".join([f"## {name}", "", "````{eval-rst}", *lines, "````", ""])


def _qualify(tree: ast.Module, module: str) -> None:
    """Writes names of our classes in annotations out in full, so that they lead to one class."""
    homes: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("detnet"):
            homes |= {each.asname or each.name: f"{node.module}.{each.name}" for each in node.names}
    homes |= {
        each.name: f"{module}.{each.name}" for each in tree.body if isinstance(each, ast.ClassDef)
    }
    for node in ast.walk(tree):
        for each in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            for name in ast.walk(each) if each else ():
                if isinstance(name, ast.Name):
                    name.id = homes.get(name.id, name.id)
                elif isinstance(name, ast.Constant) and isinstance(name.value, str):
                    name.value = homes.get(name.value, name.value)


def _members(body: list[ast.stmt], *, owner: bool = False) -> Iterator[str]:
    for node in body:
        if isinstance(node, _Function | ast.ClassDef) and not node.name.startswith("_"):
            if isinstance(node, ast.ClassDef):
                yield from _class(node)
            else:
                yield from _function(node, owner=owner)


def _class(node: ast.ClassDef) -> Iterator[str]:
    yield f".. py:class:: {node.name}({_fields(node)})"
    yield ""
    bases = [f"``{ast.unparse(base)}``" for base in node.bases]
    if bases:
        yield from (f"   Bases: {', '.join(bases)}", "")
    yield from (f"   {line}" for line in _rst(ast.get_docstring(node), "class"))
    yield ""
    yield from (f"   {line}" for line in _members(node.body, owner=True))


def _function(node: _Function, *, owner: bool) -> Iterator[str]:
    decorators = {ast.unparse(each).rpartition(".")[2] for each in node.decorator_list}
    if decorators & {"setter", "overload"}:
        return
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    if decorators & {"property", "cached_property"}:
        yield f".. py:property:: {node.name}"
        if returns:
            yield f"   :type: {returns.removeprefix(' -> ')}"
    else:
        static = "staticmethod" in decorators
        arguments = _arguments(node.args, skip=owner and not static)
        yield f".. py:{'method' if owner else 'function'}:: {node.name}({arguments}){returns}"
        for kind in decorators & {"classmethod", "staticmethod"}:
            yield f"   :{kind}:"
    yield ""
    yield from (f"   {line}" for line in _rst(ast.get_docstring(node), "function"))
    yield ""


def _fields(node: ast.ClassDef) -> str:
    """What a class is made with: a record's fields, or the arguments of its `__init__`."""
    marks = [ast.unparse(each) for each in (*node.decorator_list, *node.bases)]
    if any("dataclass" in mark or mark.rpartition(".")[2] in _FIELDS for mark in marks):
        fields = [each for each in node.body if isinstance(each, ast.AnnAssign)]
        shown = [_field(each) for each in fields if not ast.unparse(each.target).startswith("_")]
        return ", ".join(field for field in shown if field)
    for each in node.body:
        if isinstance(each, _Function) and each.name == "__init__":
            return _arguments(each.args, skip=True)
    return ""


def _field(node: ast.AnnAssign) -> str:
    kind = ast.unparse(node.annotation)
    if kind.startswith(("ClassVar", "InitVar")):
        return ""
    value = f" = {_default(ast.unparse(node.value))}" if node.value else ""
    return f"{ast.unparse(node.target)}: {kind}{value}"


def _default(value: str) -> str:
    """A field's default: what `field(default_factory=…)` gives, or the value as it is."""
    for name in ("dict", "list", "tuple", "set"):
        if value == f"field(default_factory={name})":
            return f"{name}()"
    return "..." if value.startswith("field(") else value


def _arguments(arguments: ast.arguments, *, skip: bool) -> str:
    text = ast.unparse(arguments)
    if skip:  # self or cls
        text = text.partition(",")[2].strip()
    return text.removeprefix("/, ")


def _rst(docstring: str | None, what: str) -> list[str]:
    lines = to_rst(inspect.cleandoc(docstring).splitlines()) if docstring else []
    made = GoogleDocstring(lines, _NAPOLEON, what=what).lines()
    # Errors that take several lines are one line with breaks in it, which indenting would miss.
    return [line for one in made for line in one.split("\n")]
