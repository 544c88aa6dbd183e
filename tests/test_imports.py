"""Imports go one way through the house; this table is the rule, and these tests enforce it.

Every import counts, also those inside functions and under `TYPE_CHECKING`: a late import hides a
cycle, it does not undo it.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import detnet

PACKAGE = Path(detnet.__file__).parent
# What may be used everywhere: they import nothing of ours but each other.
COMMON = {"errors", "kinds", "tables", "writing", "__init__"}
EVERYTHING = {
    "backbones",
    "necks",
    "detectors",
    "data",
    "evaluation",
    "engine",
    "search",
    "inference",
    "report",
    "recipes",
}
MAY_IMPORT: dict[str, set[str]] = {
    "backbones": set(),
    "necks": {"backbones"},
    "detectors": {"necks", "backbones"},
    "data": set(),
    "evaluation": set(),
    "engine": set(),
    "search": {"backbones"},
    "inference": {"detectors", "data", "evaluation"},
    "report": {"evaluation", "data", "inference"},
    "recipes": EVERYTHING - {"recipes"},
    "cli": EVERYTHING,
    # The package's front offers names of any part, and `python -m detnet` is the command line.
    "__init__": EVERYTHING,
    "__main__": {"cli"},
    "errors": set(),
    "kinds": set(),
    "tables": set(),
    "writing": set(),
    # A door for another framework: `import detnet.timm`.
    "timm": {"backbones"},
}


def part_of(module: str) -> str:
    """The part of the house a dotted name belongs to: detnet.data.coco -> data."""
    names = module.split(".")
    if len(names) == 1:
        return "__init__"
    # `from detnet import load` imports what stands behind the front door.
    home = detnet._HOMES.get(names[1])
    return part_of(home) if home else names[1]


def imported_modules(tree: ast.AST, module: str, *, is_package: bool) -> Iterator[tuple[int, str]]:
    """Yields (line, dotted name) of everything of ours that a module imports, relative or late."""
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, base]).rstrip(".")
            # `from detnet import data` names the part in the alias.
            names = [f"{base}.{alias.name}" for alias in node.names] if base == "detnet" else [base]
            yield from ((node.lineno, name) for name in names)


def violations(source: str, module: str, *, is_package: bool = False) -> list[str]:
    """Says of each import of `module` that the table does not allow what it is and where."""
    part = part_of(module)
    allowed = MAY_IMPORT[part] | COMMON | {part}
    found = []
    for line, name in imported_modules(ast.parse(source), module, is_package=is_package):
        if name.split(".")[0] != "detnet":
            continue
        target = part_of(name)
        known = target in MAY_IMPORT
        if known and target not in allowed:
            found.append(f"{module}:{line}: {part} may not import {target} ({name})")
    return found


def modules() -> list[tuple[str, Path]]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        names = ("detnet", *path.relative_to(PACKAGE).with_suffix("").parts)
        found.append((".".join(names).removesuffix(".__init__"), path))
    return found


def test_imports_go_one_way() -> None:
    found = []
    for module, path in modules():
        source = path.read_text(encoding="utf-8")
        found += violations(source, module, is_package=path.name == "__init__.py")
    assert not found, "\n".join(found)


def test_every_part_is_in_the_table() -> None:
    parts = {part_of(module) for module, _ in modules()}
    assert parts <= MAY_IMPORT.keys()
    assert len(modules()) > 20


def test_the_table_itself_has_no_cycle() -> None:
    done: set[str] = set()
    remaining = {part: set(uses) for part, uses in MAY_IMPORT.items() if part in EVERYTHING}
    while remaining:
        ready = [part for part, uses in remaining.items() if uses <= done]
        assert ready, f"a cycle among {sorted(remaining)}"
        done.update(ready)
        for part in ready:
            del remaining[part]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("detnet.data.coco", "from detnet.engine.loop import train_steps"),
        ("detnet.data.coco", "def f():\n    import detnet.detectors.files"),
        ("detnet.engine.loop", "from detnet import data"),
        ("detnet.engine.loop", "from ..data import coco"),
        ("detnet.engine.loop", "from detnet import load"),
        ("detnet.evaluation.coco", "if TYPE_CHECKING:\n    from detnet.data.coco import Split"),
        ("detnet.necks.fpn", "from detnet.detectors import create"),
        ("detnet.inference.predictor", "from detnet.engine.precision import fast_bf16"),
        ("detnet.recipes.detect", "from detnet.cli import main"),
        ("detnet.errors", "import detnet.tables, detnet.data.coco"),
    ],
)
def test_a_violation_is_found(module: str, source: str) -> None:
    assert len(violations(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("detnet.data.coco", "import torch\nfrom detnet.errors import InputError"),
        ("detnet.data.coco", "from detnet.data.folders import Split\nfrom .categories import x"),
        ("detnet.detectors.roi", "from detnet.necks.fpn import Pyramid"),
        ("detnet.cli.train", "def run(args):\n    from detnet.recipes.detect import train"),
        ("detnet.report.page", "from detnet import __version__"),
    ],
)
def test_what_the_table_allows_passes(module: str, source: str) -> None:
    assert violations(source, module) == []


def test_a_packages_own_relative_imports_are_resolved() -> None:
    assert violations("from ..engine import loop", "detnet.data", is_package=True)
    assert violations("from .coco import Split", "detnet.data", is_package=True) == []
