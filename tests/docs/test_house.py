"""The drawing and the list of the core are of this code, and the core can be read."""

import re
from pathlib import Path

from docs._tools import house
from docs._tools.pages import ROOT


def test_the_core_can_be_read() -> None:
    size = sum(house.lines_of_code(house.modules()[module]) for module in house.core())
    assert 5_000 < size <= 9_000


def test_the_drawing_is_of_this_house() -> None:
    told = "python -m docs._tools.house draws it again"
    assert house.DRAWING.read_text(encoding="utf-8") == house.drawing(), told


def test_the_core_is_listed_in_order() -> None:
    text = house.ARCHITECTURE.read_text(encoding="utf-8")
    block = text[text.index(house.BEGIN) : text.index(house.END)]
    listed = re.findall(r"^1\. `(.+?)`", block, re.MULTILINE)
    there = [house.modules()[module].relative_to(ROOT).as_posix() for module in house.core()]
    assert listed == there, "python -m docs._tools.house lists it again"


def test_what_is_run_by_name_belongs_to_the_core_and_comes_after_what_it_needs() -> None:
    core = house.core()
    assert {"detnet.detectors.yolo", "detnet.backbones.detnet"} <= set(core)
    assert core.index("detnet.backbones.stages") < core.index("detnet.backbones.detnet")
    assert not any(name.startswith("detnet.search") for name in core)


def test_lines_of_code_are_those_that_do_something(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text(
        '"""A\n\nmodule."""\n\n# why\nx = """\n"""\n\n\ndef f():\n    """F."""\n    # x\n'
    )
    assert house.lines_of_code(path) == 3


def test_floors_and_direct_lines() -> None:
    uses = {"a": {"b", "c"}, "b": {"c"}, "c": set(), "d": {"c"}}
    assert house.layers(uses) == [["c"], ["b", "d"], ["a"]]
    assert house.direct(uses) == {("a", "b"), ("b", "c"), ("d", "c")}
