"""A class name means one thing in the whole package, so that a reader need not ask which."""

import ast
from collections import defaultdict
from pathlib import Path

import detnet

PACKAGE = Path(detnet.__file__).parent


def test_no_class_name_has_two_meanings() -> None:
    homes: dict[str, list[str]] = defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                homes[node.name.lstrip("_")].append(str(path.relative_to(PACKAGE)))
    assert len(homes) > 100
    assert {name: files for name, files in homes.items() if len(files) > 1} == {}
