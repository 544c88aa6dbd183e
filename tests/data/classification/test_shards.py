import tarfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detnet.data.batches import stream
from detnet.data.classification.dataset import ClassificationDataset, ShuffledBatches
from detnet.data.classification.image_folder import ImageFolder
from detnet.data.classification.shards import ShardedImages, index_images, index_shards
from detnet.data.classification.transforms import TrainView
from detnet.errors import InputError


def picture(number: int) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (30, 44, 3)).astype(np.uint8)
    content = BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def write_shard(path: Path, files: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, BytesIO(content))


@pytest.fixture
def split(tmp_path: Path) -> Path:
    """Two shards of three images; classes 0, 1, 2, 0, 1, 2."""
    for shard in range(2):
        files = {}
        for place in range(3):
            number = 3 * shard + place
            files[f"a/{number:03d}.cls"] = str(number % 3).encode()
            files[f"a/{number:03d}.png"] = picture(number)
            files[f"a/{number:03d}.json"] = b"{}"
        write_shard(tmp_path / "data" / "train" / f"{shard}.tar", files)
    return tmp_path / "data" / "train"


def test_images_and_classes_are_found(split: Path) -> None:
    found = index_images(split)
    assert isinstance(found, ShardedImages)
    assert found.classes == ("0", "1", "2")
    assert found.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert found.name(4) == "1.tar/a/004.png"
    assert [found.content(i).read() for i in range(6)] == [picture(i) for i in range(6)]
    (split.parent / "classes.txt").write_text("ape\nbee\ncat\ndog\n")
    assert index_images(split).classes == ("ape", "bee", "cat", "dog")
    assert index_images(split).fingerprint() != found.fingerprint()


def test_class_folders_are_found_where_there_are_no_shards(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "a.png").write_bytes(picture(0))
    found = index_images(tmp_path)
    assert isinstance(found, ImageFolder) and found.content(0) is None


@pytest.mark.parametrize("workers", [0, 2])
def test_shards_are_read_in_the_keyed_order(split: Path, workers: int) -> None:
    dataset = ClassificationDataset(index_images(split), TrainView(16), seed=1, substitute=True)
    batches = ShuffledBatches(6, batch_size=2)
    whole = list(stream(dataset, batches, start=0, stop=5))
    for (pixels, targets), (others, wanted) in zip(
        stream(dataset, batches, start=2, stop=5, workers=workers), whole[2:], strict=True
    ):
        assert torch.equal(pixels, others) and targets == wanted


def test_a_listing_is_kept_until_a_shard_changes(
    split: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from detnet.data.classification import image_folder as listing

    monkeypatch.setenv("DETNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(listing, "_KEEP_AFTER_S", 0.0)
    monkeypatch.setattr(listing, "_SETTLED_NS", -(10**15))
    first, second = index_shards(split), index_shards(split)
    assert (first.cached, second.cached) == (False, True)
    assert second.fingerprint() == first.fingerprint()
    write_shard(split / "1.tar", {"x.cls": b"1", "x.png": picture(9)})
    third = index_shards(split)
    assert not third.cached and len(third) == 4


def test_images_that_the_keys_leave_out_are_counted(split: Path) -> None:
    files = {"b.v2.png": picture(7), "b.v2.cls": b"0", "c.png": picture(8), "c.cls": b"1"}
    write_shard(split / "1.tar", {**files, "c.JPG": picture(9), "d.pngs": b"", ".png.txt": b""})
    found = index_images(split)
    assert (len(found), found.others) == (4, 2)  # b.v2.png, and c.png before c.JPG
    assert [found.name(index) for index in range(3, len(found))] == ["1.tar/c.JPG"]


def test_a_shard_that_vanishes_is_one_line(split: Path) -> None:
    found = index_images(split)
    (split / "1.tar").unlink()
    with pytest.raises(InputError, match=r"1\.tar: cannot be read: No such file"):
        found.content(5)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.png": b""}, "a.png has no class; a file a.cls should tell it"),
        ({"a.png": b"", "a.cls": b"cat"}, "a.cls should hold a class's number from 0, not b'cat'"),
        ({"a.png": b"", "a.cls": b"-1"}, "a class's number"),
        ({"a.txt": b""}, "its 1 shards hold no images"),
    ],
)
def test_shards_that_cannot_be_used(tmp_path: Path, files: dict, message: str) -> None:
    write_shard(tmp_path / "train" / "0.tar", files)
    with pytest.raises(InputError, match=message) as caught:
        index_images(tmp_path / "train")
    assert "\n" not in str(caught.value)


def test_damaged_shards_and_missing_names(split: Path) -> None:
    (split / "classes.txt").write_text("ape\nbee\n")
    with pytest.raises(InputError, match="names 2 classes, and the shards of .* have 3"):
        index_images(split)
    (split / "classes.txt").write_bytes("ape\nbée\ncat\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"classes\.txt: no text in UTF-8"):
        index_images(split)
    content = (split / "0.tar").read_bytes()
    for bad in (b"no tar", content[: len(content) // 2]):
        (split / "0.tar").write_bytes(bad)
        with pytest.raises(InputError, match=r"0\.tar: not a whole tar file"):
            index_images(split)


def test_what_webdataset_writes(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset", reason="pip install 'detnet[shards]'")
    (tmp_path / "train").mkdir()
    with webdataset.ShardWriter(
        str(tmp_path / "train" / "%03d.tar"), maxcount=3, verbose=0
    ) as writer:
        for number in range(5):
            writer.write({"__key__": f"{number:04d}", "png": picture(number), "cls": number % 2})
    found = index_images(tmp_path / "train")
    assert found.labels.tolist() == [0, 1, 0, 1, 0]
    assert [found.content(i).read() for i in range(5)] == [picture(i) for i in range(5)]
