"""Draws the house and lists its core, both from the imports in the code.

    python -m docs._tools.house

writes docs/house.svg and the list in docs/architecture.md; tests say when that is due.
"""

import ast
import re
import sys
from collections.abc import Iterator, Mapping, Set
from functools import cache
from html import escape
from pathlib import Path
from typing import NamedTuple

import detnet
from docs._tools.pages import ROOT

PACKAGE = Path(detnet.__file__).parent
DRAWING, ARCHITECTURE = ROOT / "docs/house.svg", ROOT / "docs/architecture.md"
# Free to all, and so not worth a line in a drawing.
COMMON = ("errors", "tables", "text", "files", "kinds", "plugins")
# The core in the order in which it is read, and the modules where what it does begins.
CORE = ("backbones", "detectors", "coco", "data", "engine", "training", "evaluation", "inference")
BEGINNINGS = (
    "detnet.backbones",
    "detnet.detectors",
    "detnet.training.detection.train",
    "detnet.training.detection.evaluate",
    "detnet.inference.predictor",
)
# What the core reaches and can be read without: other projects' weights, other formats, metrics and
# evaluators, what is kept of files for the next start, drawing, how masks are packed, predictions
# of several views, kernels for some processors, spaces for searches and networks found in them,
# what several processes agree on, what is said when one is lost or memory is short, what is
# reckoned of a network, a machine or the boxes before a run begins, and what a run writes of its
# machine.
BEYOND = (
    "detnet.backbones.cost",
    "detnet.backbones.detnas",
    "detnet.backbones.spaces",
    "detnet.backbones.sync",
    "detnet.backbones.weights",
    "detnet.data.formats",
    "detnet.data.kept",
    "detnet.detectors.export",
    "detnet.detectors.weights",
    "detnet.engine.agreement",
    "detnet.engine.environment",
    "detnet.engine.memory",
    "detnet.engine.parallel",
    "detnet.engine.peers",
    "detnet.engine.processor",
    "detnet.engine.launch",
    "detnet.evaluation.curves",
    "detnet.evaluation.original",
    "detnet.evaluation.submission",
    "detnet.evaluation.voc",
    "detnet.inference.augmentation",
    "detnet.inference.bench",
    "detnet.inference.draw",
    "detnet.inference.engines",
    "detnet.inference.export",
    "detnet.inference.pasting",
    "detnet.inference.soft_nms",
    "detnet.inference.stages",
    "detnet.inference.winograd",
    "detnet.training.classification",
    "detnet.training.detection.box_sizes",
    "detnet.training.plan",
    "detnet.training.pretrained",
)
BEGIN, END = "<!-- core: made by docs/_tools/house.py -->", "<!-- end of core -->"


@cache
def modules() -> dict[str, Path]:
    """Dotted name and file of every module."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        names = ("detnet", *path.relative_to(PACKAGE).with_suffix("").parts)
        found[".".join(names).removesuffix(".__init__")] = path
    return found


@cache
def imports(module: str) -> frozenset[str]:
    """The modules that a module imports or names in a table ("module:function"), types' aside."""
    known, found = modules(), set()
    for node in _run(ast.parse(known[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            homes = detnet._HOMES if node.module == "detnet" else {}
            for each in node.names:
                inner = homes.get(each.name, f"{node.module}.{each.name}")
                found.add(inner if inner in known else node.module)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value.partition(":")[0])
    return frozenset((found & known.keys()) - {module, "detnet"})


def _run(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes of what is run: nothing under `if TYPE_CHECKING`."""
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)):
            yield node
            yield from _run(node)


def part_of(module: str) -> str:
    """The part of the house that a module belongs to."""
    return module.split(".")[1] if "." in module else module


def parts() -> dict[str, set[str]]:
    """Every folder of the house with those it imports, what is common to all left out."""
    found: dict[str, set[str]] = {}
    for module in modules():
        part = part_of(module)
        if (PACKAGE / part).is_dir():
            uses = {part_of(other) for other in imports(module)}
            found.setdefault(part, set()).update(
                other for other in uses - {part} if (PACKAGE / other).is_dir()
            )
    return found


def core() -> list[str]:
    """The modules that a training, its evaluation and a prediction run, in reading order."""
    reached: set[str] = set()
    waiting = list(BEGINNINGS)
    while waiting:
        module = waiting.pop()
        beyond = any(module == name or module.startswith(f"{name}.") for name in BEYOND)
        if module not in reached and not beyond and part_of(module) in CORE:
            reached.add(module)
            waiting += imports(module)
    written = [module for module in reached if lines_of_code(modules()[module])]
    return [module for part in CORE for module in in_order(part, written)]


def in_order(part: str, chosen: list[str]) -> list[str]:
    """The chosen modules of a part, each after those of the part that it imports."""
    left = {name: imports(name) for name in sorted(chosen) if part_of(name) == part}
    order: list[str] = []
    while left:
        ready = [name for name in left if not (left[name] - {name}) & left.keys()]
        for name in ready or [next(iter(left))]:  # a circle is cut at its first name
            order.append(name)
            del left[name]
    return order


def lines_of_code(path: Path) -> int:
    """Counts a file's lines without blank ones, comments and docstrings."""
    text = path.read_text(encoding="utf-8")
    left_out: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        if documented and ast.get_docstring(node) is not None:
            left_out |= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return sum(
        1
        for number, line in enumerate(text.splitlines(), 1)
        if number not in left_out and line.strip() and not line.strip().startswith("#")
    )


def summary(module: str) -> str:
    """The first line of a module's docstring, without its full stop."""
    tree = ast.parse(modules()[module].read_text(encoding="utf-8"))
    return (ast.get_docstring(tree) or "").partition("\n")[0].rstrip(".")


def core_list() -> str:
    """The core as Markdown, a list for each part."""
    lines = [BEGIN, ""]
    for part in CORE:
        lines += [f"**`detnet/{part}`**: {summary(f'detnet.{part}')}", ""]
        for module in core():
            if part_of(module) == part:
                lines.append(f"1. `{modules()[module].relative_to(ROOT)}`: {summary(module)}")
        lines.append("")
    return "\n".join([*lines, END])


def layers(uses: Mapping[str, Set[str]]) -> list[list[str]]:
    """The parts by floor: each stands on the floors below, those on nothing first."""
    left = {name: set(others) & uses.keys() for name, others in uses.items()}
    found = []
    while left:
        floor = sorted(name for name, others in left.items() if not others & left.keys())
        if not floor:  # a circle, which tests refuse, is cut where the fewest are missing
            floor = [min(left, key=lambda name: len(left[name] & left.keys()))]
        found.append(floor)
        for name in floor:
            del left[name]
    return found


def direct(uses: Mapping[str, Set[str]]) -> set[tuple[str, str]]:
    """Pairs (part, what it imports), those left out that others of its imports imply."""

    def below(name: str) -> set[str]:
        found: set[str] = set()
        waiting = list(uses.get(name, ()))
        while waiting:
            other = waiting.pop()
            if other not in found:
                found.add(other)
                waiting += uses.get(other, ())
        return found

    return {
        (name, other)
        for name, others in uses.items()
        for other in others
        if not any(other in below(middle) for middle in others - {other})
    }


_WIDTH, _HEIGHT, _GAP_X, _GAP_Y, _MARGIN = 290, 62, 26, 46, 24
# A colour for each floor.
_FILLS = ("#e8f1fb", "#e6f4ea", "#fdf3dc", "#fbe9e7", "#f1eafb", "#e6f3f5", "#f3f0ea", "#fdeef4")


class Place(NamedTuple):
    """Where a part is drawn: its column, upper left corner in pixels, and colour."""

    column: int
    left: float
    top: float
    fill: str


def drawing() -> str:
    """The house as SVG: a box for each part, the ground below, a line to what a part stands on."""
    uses = parts()
    floors = layers(uses)
    columns = max(map(len, floors))
    width = 2 * _MARGIN + columns * _WIDTH + (columns - 1) * _GAP_X
    height = 2 * _MARGIN + len(floors) * _HEIGHT + (len(floors) - 1) * _GAP_Y + _HEIGHT + _GAP_Y
    places: dict[str, Place] = {}
    for number, floor in enumerate(floors):
        free = list(range(columns))
        for name in floor:
            column = min(free, key=lambda each: abs(each - _middle(name, uses, places, columns)))
            free.remove(column)
            left = _MARGIN + column * (_WIDTH + _GAP_X)
            top = height - _MARGIN - _HEIGHT - (number + 1) * (_HEIGHT + _GAP_Y)
            places[name] = Place(column, left, top, _FILLS[number % len(_FILLS)])
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="Helvetica, Arial, sans-serif">',
        f'<rect width="{width}" height="{height}" rx="10" fill="white"/>',
    ]
    lines += [_line(places[name], places[other]) for name, other in sorted(direct(uses))]
    lines += [_box(name, place) for name, place in places.items()]
    ground = height - _MARGIN - _HEIGHT
    lines += [
        f'<rect x="{_MARGIN}" y="{ground}" width="{width - 2 * _MARGIN}" height="{_HEIGHT}" rx="8" '
        'fill="#eceff1" stroke="#90a4ae"/>',
        _text(width / 2, ground + 26, ", ".join(COMMON), size=15, bold=True),
        _text(width / 2, ground + 46, "free to all", size=11.5),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _middle(
    name: str, uses: Mapping[str, Set[str]], places: Mapping[str, Place], columns: int
) -> float:
    """The column where a part belongs: over the one it stands on, else in the middle."""
    below = [places[other].column for one, other in direct(uses) if one == name]
    return sum(below) / len(below) if len(below) == 1 else (columns - 1) / 2


def _box(name: str, place: Place) -> str:
    left, top, fill = place.left, place.top, place.fill
    words = _cut(summary(f"detnet.{name}").replace("`", ""), 46)
    return "\n".join(
        [
            f'<rect x="{left:g}" y="{top:g}" width="{_WIDTH}" height="{_HEIGHT}" rx="8" '
            f'fill="{fill}" stroke="#607d8b"/>',
            _text(left + _WIDTH / 2, top + 22, name, size=15, bold=True),
            *(
                _text(left + _WIDTH / 2, top + 39 + 14 * row, line, size=11)
                for row, line in enumerate(words)
            ),
        ]
    )


def _cut(text: str, width: int) -> list[str]:
    """A text in two lines at most."""
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + 1 + len(word) > width:
            if len(lines) == 2:
                lines[-1] += " …"
                break
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def _text(x: float, y: float, words: str, *, size: float, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size:g}" text-anchor="middle" fill="#1b1f24"'
        f"{weight}>{escape(words)}</text>"
    )


def _line(above: Place, below: Place) -> str:
    """From one part down to another: to its column in the gap below, and then straight."""
    x1, y1 = above.left + _WIDTH / 2, above.top + _HEIGHT
    x2, y2 = below.left + _WIDTH / 2, below.top
    path = f"M{x1:g} {y1:g} "
    if x1 != x2:
        turn, radius = y1 + _GAP_Y / 2, 10 if x2 > x1 else -10
        path += f"V{turn - 10:g} Q{x1:g} {turn:g} {x1 + radius:g} {turn:g} "
        path += f"H{x2 - radius:g} Q{x2:g} {turn:g} {x2:g} {turn + 10:g} "
    return f'<path d="{path}V{y2:g}" fill="none" stroke="#78909c" stroke-width="1.6"/>'


def main() -> int:
    """Writes the drawing and the list again, and says how large the core is."""
    DRAWING.write_text(drawing(), encoding="utf-8")
    if ARCHITECTURE.is_file():
        text = ARCHITECTURE.read_text(encoding="utf-8")
        block = re.compile(f"{re.escape(BEGIN)}.*{re.escape(END)}", re.DOTALL)
        ARCHITECTURE.write_text(block.sub(lambda _: core_list(), text), encoding="utf-8")
    size = sum(lines_of_code(modules()[module]) for module in core())
    print(f"core: {size:,} lines of code in {len(core())} files")
    return 0


if __name__ == "__main__":
    sys.exit(main())
