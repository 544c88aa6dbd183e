"""Spaces by name, table and file; paths in digits."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from detnet.backbones.detnas import DETNASNET_300M
from detnet.backbones.spaces.shuffle_space import ShuffleSpace
from detnet.backbones.spaces.space import SPACE_KINDS, SPACES, parse_path, read_space
from detnet.errors import InputError

OWN = {
    "kind": "shuffle",
    "stem_channels": 8,
    "rows": [
        {"name": "c2", "blocks": 1, "channels": 16},
        {"name": "c3", "blocks": 2, "channels": 32},
    ],
}


@pytest.mark.parametrize("name", SPACES)
def test_named_spaces_survive_their_own_json(name: str) -> None:
    space = read_space(name)
    assert read_space(space.to_json()) == space
    genes = space.genes
    assert len({(gene.stage, gene.name) for gene in genes}) == len(genes)
    assert all(1 < len(gene.choices) <= 10 for gene in genes)
    first = space.check([0] * len(genes))
    assert space.check(parse_path(space.format_path(first))) == first


def test_the_small_space_is_the_papers() -> None:
    space = read_space("detnas_small")
    stages = [gene.stage for gene in space.genes]
    assert [stages.count(name) for name in ("c2", "c3", "c4", "c5")] == [4, 4, 8, 4]
    assert space.genes[0].choices == (
        "shufflenet_3x3", "shufflenet_5x5", "shufflenet_7x7", "xception_3x3",
    )  # fmt: skip
    assert space.format_path(DETNASNET_300M) == "2120 2112 33130031 3132"


def test_a_space_of_ones_own_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(OWN))
    space = read_space(str(path))
    assert isinstance(space, ShuffleSpace)
    assert space == read_space(OWN)
    assert [gene.name for gene in space.genes] == ["block 0", "block 0", "block 1"]
    assert len(space.choices) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "shufle"}, "space: unknown kind of space 'shufle'; did you mean 'shuffle'"),
        ({"rows": []}, "space: it has no rows"),
        ({"stem_channels": 16}, "space: c2: its channels must be even and more than the 16"),
        ({"rows": [{"name": "x", "blocks": 1, "channels": 16}]}, "rows are named c2, c3"),
        ({"rows": [{"name": "c2", "blocks": 0, "channels": 16}]}, "c2: 1 to 1000 blocks, got 0"),
        ({"tail_channels": "16"}, "space: tail_channels must be a whole number, got '16'"),
        (
            {"choices": [{"name": "a", "kernels": [3], "narrow": 2}]},
            "space: narrow must be true or false, got '2'",
        ),
        ({"depth": 3}, "^space: unknown key of a shuffle space 'depth'; choose from: stem_ch"),
        (
            {"kind": "detnet", "rows": [{"name": "c2", "depths": [1], "channels": [8]}]},
            "^space: unknown key of a detnet space 'stem_channels'; choose from: rows$",
        ),
        (
            {"rows": [{"name": "c2", "blocks": 1, "chanels": 16}]},
            "^space: unknown key of a row 'chanels'; did you mean 'channels'",
        ),
        (
            {"choices": [{"name": "a", "kernel": [3]}]},
            "^space: unknown key of a choice 'kernel'; did you mean 'kernels'",
        ),
        ({"choices": [{"name": "a", "kernels": [4]}]}, r"a: kernels must be odd, got \(4,\)"),
    ],
)
def test_tables_that_do_not_hold_together(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_space({**OWN, **change})


@pytest.mark.parametrize("kind", ["shuffle", "detnet"])
@pytest.mark.parametrize("rows", [[["c2"]], ["c2"], {"c2": {"blocks": 1}}, 3, None])
def test_rows_that_are_no_mappings(tmp_path: Path, kind: str, rows: object) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump({**OWN, "kind": kind, "rows": rows}))
    with pytest.raises(InputError, match=r"own\.yaml: rows must be a list of mappings") as caught:
        read_space(str(path))
    assert str(caught.value).endswith(f"got {str(rows)!r}") and "\n" not in str(caught.value)


def test_a_kind_that_is_no_text() -> None:
    with pytest.raises(InputError, match=r"^space: unknown kind of space \['shuffle'\]; did you"):
        read_space({**OWN, "kind": ["shuffle"]})


def test_a_mistake_that_a_kind_of_space_stumbles_over(monkeypatch: pytest.MonkeyPatch) -> None:
    class Careless(ShuffleSpace):
        @classmethod
        def from_json(cls, table: Any) -> "Careless":
            return cls(**table["rows"].items())

    monkeypatch.setitem(SPACE_KINDS._homes, "careless", Careless)
    with pytest.raises(InputError, match="^space: no careless space: 'list' object has no"):
        read_space({**OWN, "kind": "careless"})


def test_names_and_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown space 'detnas_smal'; did you mean"):
        read_space("detnas_smal")
    with pytest.raises(InputError, match="gone.yaml: no such file"):
        read_space(str(tmp_path / "gone.yaml"))
    broken = tmp_path / "broken.yaml"
    broken.write_text("kind: [")
    with pytest.raises(InputError, match="broken.yaml: is not YAML"):
        read_space(str(broken))
    with pytest.raises(InputError, match="with a 'kind', one of shuffle, detnet"):
        read_space({"stem_channels": 8})


def test_paths_are_digits() -> None:
    assert parse_path("21 20") == (2, 1, 2, 0)
    with pytest.raises(InputError, match="digits and blanks, got '2-1'"):
        parse_path("2-1")
