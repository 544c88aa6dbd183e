"""Imports go one way through the house; this table is the rule, and these tests enforce it.

Every import counts, also those inside functions and under `TYPE_CHECKING`: a late import hides a
cycle, it does not undo it.
"""

import ast
from collections.abc import Iterator, Mapping, Set
from pathlib import Path

import pytest

import detnet

PACKAGE = Path(detnet.__file__).parent
# Free to all: they import nothing of ours but each other.
COMMON = {"errors", "files", "kinds", "plugins", "tables", "text", "__init__"}
# From the ground up, each part with those it may import besides itself.
GROUND = {"backbones", "coco", "engine"}
SCORED = GROUND | {"data", "detectors", "evaluation"}
MAY_IMPORT: dict[str, set[str]] = {
    "backbones": set(),
    "coco": set(),
    "engine": set(),
    "detectors": {"backbones"},
    "data": {"coco"},
    "evaluation": {"coco", "data", "engine"},
    "inference": SCORED,
    "training": SCORED | {"inference"},
    "search": SCORED | {"inference", "training"},
    "campaign": SCORED | {"training", "search"},
    "report": SCORED | {"inference", "training", "search", "campaign"},
    "demo": SCORED | {"inference", "training", "search", "report"},
    "cli": SCORED | {"inference", "training", "search", "campaign", "report", "demo"},
    # What candidates cost, which come next and who scores them: no detector, no data.
    "search.costs": {"backbones"},
    "search.methods": {"backbones", "search.costs"},
    "search.study": {"backbones", "search.costs", "search.methods"},
    # The package's front offers names of any part, and `python -m detnet` is the command line.
    "__init__": SCORED | {"inference", "training", "search", "report"},
    "__main__": {"cli"},
    # A door for another framework: `import detnet.timm`.
    "timm": {"backbones"},
} | {name: set() for name in COMMON - {"__init__"}}


def part_of(module: str) -> str:
    """The part of the house a dotted name belongs to: detnet.data.reading -> data."""
    names = module.split(".")
    if len(names) == 1:
        return "__init__"
    # `from detnet import load` imports what stands behind the front door.
    home = detnet._HOMES.get(names[1])
    if home:
        return part_of(home)
    inner = ".".join(names[1:3])
    return inner if inner in MAY_IMPORT else names[1]


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
        # A folder with a rule of its own inside belongs to its part for everyone outside.
        if known and not {target, target.split(".")[0]} & allowed:
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


def test_the_table_itself_has_no_circle() -> None:
    assert circles(MAY_IMPORT) == []


def circles(uses: Mapping[str, Set[str]]) -> list[list[str]]:
    """The names that reach each other, as lists; none where imports go one way."""
    left = {name: set(others) & uses.keys() for name, others in uses.items()}
    while ready := [name for name, others in left.items() if not others & left.keys()]:
        for name in ready:
            del left[name]
    reach = {name: others & left.keys() for name, others in left.items()}
    for middle in left:
        for name in left:
            if middle in reach[name]:
                reach[name] = reach[name] | reach[middle]
    groups = {tuple(sorted(o for o in left if o in reach[n] and n in reach[o])) for n in left}
    return sorted([*group] for group in groups if group)


def test_circles_are_found() -> None:
    uses = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}, "e": {"e"}}
    assert circles(uses) == [["b", "c"], ["e"]]


def test_no_files_import_each_other_in_a_circle() -> None:
    """Not inside a folder either, and late imports count: they hide a circle, not undo it."""
    known = dict(modules())
    uses: dict[str, set[str]] = {}
    for module, path in known.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found = imported_names(tree, module, is_package=path.name == "__init__.py")
        uses[module] = {name if name in known else name.rpartition(".")[0] for name in found}
        uses[module].discard(module)
    assert circles(uses) == []


def imported_names(tree: ast.AST, module: str, *, is_package: bool) -> Iterator[str]:
    """Yields the full dotted name of everything that a module imports, with what it takes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not node.level and node.module:
            homes = detnet._HOMES if node.module == "detnet" else {}
            yield from (homes.get(a.name, f"{node.module}.{a.name}") for a in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("detnet.data.reading", "from detnet.engine.loop import train_steps"),
        ("detnet.data.reading", "def f():\n    import detnet.detectors.files"),
        ("detnet.engine.loop", "from detnet import data"),
        ("detnet.engine.loop", "from ..data import coco"),
        ("detnet.engine.loop", "from detnet import load"),
        ("detnet.data.dataset", "if TYPE_CHECKING:\n    from detnet.evaluation.coco import score"),
        ("detnet.search.study.worker", "from detnet.search.scoring import scorer"),
        ("detnet.inference.predictor", "from detnet.training.pretrained import find_weights"),
        ("detnet.training.detection.train", "from detnet.cli import main"),
        ("detnet.errors", "import detnet.tables, detnet.data.reading"),
    ],
)
def test_a_violation_is_found(module: str, source: str) -> None:
    assert len(violations(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("detnet.data.reading", "import torch\nfrom detnet.errors import InputError"),
        ("detnet.data.reading", "from detnet.coco.masks import x\nfrom .folders import Split"),
        ("detnet.detectors.roi", "from detnet.detectors.fpn import FPN"),
        (
            "detnet.cli.train",
            "def run(args):\n    from detnet.training.detection.train import train",
        ),
        ("detnet.report.run", "from detnet import __version__"),
    ],
)
def test_what_the_table_allows_passes(module: str, source: str) -> None:
    assert violations(source, module) == []


def test_a_packages_own_relative_imports_are_resolved() -> None:
    assert violations("from ..engine import loop", "detnet.data", is_package=True)
    assert violations("from .coco import Split", "detnet.data", is_package=True) == []
