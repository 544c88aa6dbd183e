"""Tables of names: lazy, read-only in use, and helpful about a slip."""

import subprocess
import sys

import pytest

from detnet.errors import InputError
from detnet.tables import NameTable, nearest, unknown_name

TABLE = NameTable("part", {"root": "math:sqrt", "rest": "math:fmod", "gone": "math:nothing"})


def test_a_name_gives_what_it_stands_for() -> None:
    assert TABLE["root"](9.0) == 3.0
    assert list(TABLE) == ["root", "rest", "gone"] and len(TABLE) == 3
    assert "root" in TABLE and "roots" not in TABLE and 3 not in TABLE


def test_nothing_is_imported_before_it_is_asked_for() -> None:
    code = (
        "import sys\nfrom detnet.tables import NameTable\n"
        "table = NameTable('part', {'a': 'wave:open'})\n"
        "print(list(table), 'a' in table, 'wave' in sys.modules)\n"
        "print(table['a'].__module__, 'wave' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["['a'] True False", "wave True"]


def test_an_unknown_name_is_the_users_mistake() -> None:
    plugin = "a plugin's is known with --plugin MODULE"
    with pytest.raises(InputError, match=f"^unknown part 'rot'; did you mean 'root'\\? {plugin}; "):
        TABLE["rot"]
    with pytest.raises(InputError, match=f"^unknown part 'xyz'; {plugin}; choose from: root, "):
        TABLE["xyz"]
    with pytest.raises(InputError, match="unknown part"):
        TABLE.get("rot")  # no silent None either


def test_a_home_that_is_wrong_is_a_defect() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        TABLE["gone"]


def test_nearest() -> None:
    assert nearest("trian", ["train", "val"]) == "train"
    assert nearest("detnet60", ["detnet110", "detnet59", "resnet50"]) == "detnet59"
    assert nearest("fp61", ["fp32", "fp11", "fp16"]) == "fp16"  # two letters swapped
    assert nearest("xyzzy", ["train", "val"]) is None
    assert nearest("train", iter(())) is None
    assert nearest("--out", ["--count", "--output"]) == "--output"  # the longer one was meant
    assert nearest("--o", ["--only", "--output", "--of"]) == "--of"


def test_what_is_said_of_any_object() -> None:
    assert unknown_name("level", 7, iter(["p2", "p3"])) == "unknown level 7; choose from: p2, p3"
    assert "did you mean 'p3'?" in unknown_name("level", "p33", ["p2", "p3"])


def test_a_long_list_is_left_out_beside_the_nearest() -> None:
    names = [f"level{number}" for number in range(20)]
    assert unknown_name("level", "levl7", names) == "unknown level 'levl7'; did you mean 'level7'?"
    assert unknown_name("level", "xyz", names).endswith("choose from: " + ", ".join(names))
    table = NameTable("level", dict.fromkeys(names, "math:sqrt"), listed_by="detnet levels")
    near = "did you mean 'level7'? a plugin's is known with --plugin MODULE; `detnet levels`"
    assert table.unknown("levl7") == f"unknown level 'levl7'; {near} lists all"
    assert "lists all" not in table.unknown("xyz")


def test_a_plugin_adds_a_name_that_is_new() -> None:
    table = NameTable("part", {"root": "math:sqrt"})
    table.register("half", half := lambda value: value / 2)
    table.register("rest", "math:fmod")
    assert [*table] == ["root", "half", "rest"]
    assert table["half"](6) == 3 and table["rest"](7, 4) == 3
    table.register("half", half)  # a module that is imported again
    with pytest.raises(ValueError, match="there is a part 'root' already: math:sqrt"):
        table.register("root", half)
    with pytest.raises(ValueError, match="'my part' is no name of a part"):
        table.register("my part", half)
    with pytest.raises(ValueError, match="there is a part 'half' already"):
        table.register("half", nearest)


def test_what_a_notebook_defines_again_takes_its_place() -> None:
    table = NameTable("part", {})
    for times in (2, 3):

        def grow(value: int, times: int = times) -> int:
            return times * value

        table.register("grow", grow)
    assert table["grow"](5) == 15
    table.register("sizes", [1])
    with pytest.raises(ValueError, match="there is a part 'sizes' already"):
        table.register("sizes", [2])


def test_names_are_asked_for_by_name_and_shown() -> None:
    with pytest.raises(InputError, match="^a part is asked for by its name, got a list; "):
        TABLE[["root"]]  # type: ignore[index]
    assert repr(TABLE) == "<parts: root, rest, gone>"
