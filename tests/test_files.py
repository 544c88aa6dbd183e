"""Files are there whole or not at all: on a full disk, after a mistake, from several processes."""

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from detnet.backbones import BACKBONES, model_file
from detnet.backbones.weights.export import export
from detnet.backbones.weights.pretrained import open_weights
from detnet.cli import main
from detnet.data.scenes import write_scenes
from detnet.engine.checkpoint import save
from detnet.engine.runs import RunFolder
from detnet.errors import InputError
from detnet.evaluation.results import write_results
from detnet.files import (
    Similar,
    cache_folder,
    hint_at_similar,
    make_writable,
    read_json,
    replacing,
    sha256_of,
    write_bytes,
    write_json,
    write_text,
)
from detnet.inference.export.folder import folder_beside
from detnet.training.run_config import RunConfig
from detnet.training.settings import write_config
from tests.limits import disk_of


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "own.safetensors"
    torch.manual_seed(0)
    state = BACKBONES["resnet50"](width=0.125).state_dict()
    model_file.write_tensors(path, state)
    return path


def exporting(layout: str, name: str) -> Callable[[Path, Path], object]:
    return lambda folder, weights: export(
        open_weights(weights), layout, folder / name, overwrite=True
    )


BIG = {"a": "x" * 200_000}
WRITERS: dict[str, tuple[str, Callable[[Path, Path], object]]] = {
    "text": ("a.txt", lambda folder, _: write_text(folder / "a.txt", BIG["a"])),
    "bytes": ("a.bin", lambda folder, _: write_bytes(folder / "a.bin", b"x" * 200_000)),
    "json of several": (
        "a.json",
        lambda folder, _: write_json(folder / "a.json", BIG, shared=True),
    ),
    "results": (
        "results.json",
        lambda folder, _: write_results(
            folder / "results.json",
            [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}] * 4000,
        ),
    ),
    "settings": (
        "config.yaml",
        lambda folder, _: write_config(
            RunConfig(data="d" * 200, steps=[0.5] * 60_000), folder / "config.yaml"
        ),
    ),
    "our model file": ("a.safetensors", exporting("detnet", "a.safetensors")),
    "torchvision's safetensors": ("a.safetensors", exporting("torchvision", "a.safetensors")),
    "torchvision's pth": ("a.pth", exporting("torchvision", "a.pth")),
    "Detectron's pickle": ("a.pkl", exporting("detectron", "a.pkl")),
}


@pytest.mark.parametrize("size", [0, 4096, 100_000])
@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_leaves_the_old_file(
    tmp_path: Path, weights: Path, writer: str, size: int
) -> None:
    name, write = WRITERS[writer]
    (tmp_path / name).write_text("old")
    with disk_of(size), pytest.raises(OSError, match=r"File too large|could not be written") as e:
        write(tmp_path, weights)
    assert "\n" not in str(e.value) and name in str(e.value)
    assert (tmp_path / name).read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == [name]
    write(tmp_path, weights)
    assert (tmp_path / name).stat().st_size > 100_000
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_metrics_cut_on_a_full_disk_stay(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for iteration in range(1, 400):
        run.log({"event": "step", "iteration": iteration})
    before = run.metrics.read_bytes()
    with disk_of(1000), pytest.raises(InputError, match="metrics.jsonl: cannot write"):
        run.cut_metrics(300)
    assert run.metrics.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == [
        "metrics.jsonl"
    ]


def test_conversion_on_a_full_disk_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_scenes(tmp_path / "data", train=2, val=1)
    call = ["convert", str(tmp_path / "data"), "--copy", "--to", "voc"]
    with disk_of(3000):
        assert main([*call, "--output", str(tmp_path / "out")]) == 2
    assert "File too large" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_export_overwrites_only_when_told(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.pth"
    out.write_text("old")
    call = ["weights", str(weights), "--export", "torchvision", str(out)]
    assert main(call) == 2
    assert "is there already; name another file, or give --overwrite" in capsys.readouterr().err
    assert out.read_text() == "old"
    assert main([*call, "--overwrite"]) == 0
    assert out.stat().st_size > 100_000
    own = str(weights)
    assert main(["weights", own, "--export", "detnet", own, "--overwrite"]) == 2
    assert "is what is read" in capsys.readouterr().err
    assert main(["weights", own, "--export", "detnet", str(tmp_path / "no" / "a.safetensors")]) == 2
    assert "no such folder" in capsys.readouterr().err


def test_a_mistake_on_the_way_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    with pytest.raises(KeyError), replacing(path) as beside:
        beside.write_text("half")
        raise KeyError("on the way")
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["a"]


def test_what_a_kill_left_is_written_over(tmp_path: Path) -> None:
    (tmp_path / ".a.part").write_text("half of a file from before")
    write_text(tmp_path / "a", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_readers_see_one_of_the_versions(tmp_path: Path) -> None:
    path, done = tmp_path / "a", threading.Event()
    write_text(path, "0" * 50_000)
    seen: list[str] = []

    def read() -> None:
        while not done.is_set():
            seen.append(path.read_text())

    reader = threading.Thread(target=read)
    reader.start()
    for digit in "123456789":
        write_text(path, digit * 50_000)
    done.set()
    reader.join()
    assert seen and all(len(text) == 50_000 and len(set(text)) == 1 for text in seen)


def test_where_is_kept_what_can_be_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DETNET_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_folder() == Path("/somewhere/detnet")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "detnet"


def test_a_folder_that_cannot_be_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_writable(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    with pytest.raises(PermissionError, match=f"Permission denied: '{tmp_path}'"):
        make_writable(tmp_path)


def test_a_hint_looks_no_further_than_the_folder(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "1.png").touch()
    there = f"; {tmp_path / 'a' / 'b' / '1.png'} does"
    assert hint_at_similar(tmp_path / "a", "c/1.png") == there
    assert hint_at_similar(tmp_path / "a", r"D:\c\1.png") == there
    assert hint_at_similar(tmp_path / "a" / "b", "1.PNG") == "; 1.png does"
    assert hint_at_similar(tmp_path / "gone", "c/1.png") == ""
    assert hint_at_similar(tmp_path / "a", "x" * 300 + "/1.png") == ""
    assert hint_at_similar(tmp_path / "a", "c/2.png") == ""


def test_hints_for_many_names_list_each_folder_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        (tmp_path / f"{number}.png").touch()
    listed, iterdir = list[Path](), Path.iterdir

    def counted(folder: Path) -> Iterator[Path]:
        listed.append(folder)
        return iterdir(folder)

    monkeypatch.setattr(Path, "iterdir", counted)
    cache: Similar = {}
    hints = [hint_at_similar(tmp_path, f"{number}.JPG", cache) for number in range(4)]
    assert hints == ["; 0.png does", "; 1.png does", "; 2.png does", ""]
    assert listed == [tmp_path]


def test_a_digest_is_of_the_content(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    assert sha256_of(path).startswith("ba7816bf8f01cfea") and len(sha256_of(path)) == 64
    with pytest.raises(InputError, match="none: cannot be read: No such file"):
        sha256_of(tmp_path / "none")


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_colleagues_read_what_the_umask_lets_them(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        model_file.write_tensors(tmp_path / "model.safetensors", {"a": torch.zeros(2)})
        save(tmp_path / "last.ckpt", {"a": torch.zeros(2)})
        write_json(tmp_path / "scores.json", {})
        with folder_beside(tmp_path / "export") as made:
            folder_mode = made.stat().st_mode & 0o777
    finally:
        os.umask(before)
    assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == dict.fromkeys(
        ("model.safetensors", "last.ckpt", "scores.json"), mode
    )
    assert folder_mode == 0o777 & ~umask


def test_a_name_of_other_bytes_is_read_again_as_it_was(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9 \\ \\\xe9.jpg") + "\ud800"
    path = tmp_path / "a.json"
    write_json(path, {name: ["\xe9", name]})
    assert read_json(path) == {name: ["\xe9", name]} and b'"\xc3\xa9"' in path.read_bytes()
    config = RunConfig(data=str(tmp_path / os.fsdecode(b"caf\xe9")))
    write_config(config, path)
    assert RunConfig.read(path).data == config.data
    write_text(path, f"<p>{name}</p>")
    assert path.read_bytes() == rb"<p>caf\udce9 \ \\udce9.jpg\ud800</p>"
