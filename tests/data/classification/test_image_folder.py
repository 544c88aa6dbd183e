import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from detnet.data.classification import image_folder as listing
from detnet.data.classification.image_folder import index_folder, require_same_classes
from detnet.errors import InputError


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.fixture
def split(tmp_path: Path) -> Path:
    split = tmp_path / "data" / "train"
    touch(split, "dog/b.jpg", "dog/a.PNG", "cat/more/c.jpeg", "cat/z.jpg", "cat/ä.jpg")
    touch(split, "classes.txt", "dog/notes.txt", "dog/.hidden.jpg", ".git/x.jpg")
    return split


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Listings are kept however fast they were made and however new the folders are."""
    monkeypatch.setenv("DETNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(listing, "_KEEP_AFTER_S", 0.0)
    monkeypatch.setattr(listing, "_SETTLED_NS", -(10**15))
    return tmp_path / "cache"


def names(split: Path) -> list[str]:
    found = index_folder(split)
    return [found.name(index) for index in range(len(found))]


def test_classes_and_names_are_sorted(split: Path) -> None:
    found = index_folder(split)
    assert found.classes == ("cat", "dog")
    assert names(split) == ["cat/more/c.jpeg", "cat/z.jpg", "cat/ä.jpg", "dog/a.PNG", "dog/b.jpg"]
    assert found.labels.tolist() == [0, 0, 0, 1, 1]
    assert found.labels.dtype == np.int32
    assert found.image_path(3) == split / "dog" / "a.PNG"
    assert found.others == 1  # dog/notes.txt; what is hidden or lies beside the classes is not ours
    assert not found.cached


def test_a_link_to_a_folder_it_lies_in_is_not_followed(split: Path) -> None:
    before = names(split)
    (split / "cat" / "more" / "again").symlink_to("..")
    (split / "dog" / "all").symlink_to(split)
    assert names(split) == before
    touch(split.parent, "others/c.jpg")
    (split / "dog" / "others").symlink_to(split.parent / "others")  # leads elsewhere
    assert names(split) == [*before, "dog/others/c.jpg"]


def test_a_small_listing_leaves_no_file(
    split: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DETNET_CACHE", str(tmp_path / "cache"))
    index_folder(split)
    assert not (tmp_path / "cache").exists()


def test_the_second_start_takes_the_kept_listing(split: Path, kept: Path) -> None:
    first = index_folder(split)
    second = index_folder(split)
    assert (first.cached, second.cached) == (False, True)
    assert second.classes == first.classes and second.others == first.others
    assert [second.name(i) for i in range(5)] == [first.name(i) for i in range(5)]
    assert second.labels.tolist() == first.labels.tolist()
    assert second.fingerprint() == first.fingerprint()


def test_a_change_in_any_folder_is_noticed(split: Path, kept: Path) -> None:
    for change in (
        lambda: touch(split, "cat/more/d.jpg"),
        lambda: (split / "dog" / "b.jpg").unlink(),
        lambda: touch(split, "emu/e.jpg"),
        lambda: shutil.rmtree(split / "cat" / "more"),
    ):
        before = index_folder(split).fingerprint()
        assert index_folder(split).cached
        change()
        after = index_folder(split)
        assert not after.cached and after.fingerprint() != before


def test_a_folder_that_changed_just_now_is_not_trusted(
    split: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "_SETTLED_NS", 10**12)
    index_folder(split)
    assert not index_folder(split).cached


def test_a_damaged_listing_is_made_anew(split: Path, kept: Path) -> None:
    expected = names(split)
    (place,) = (kept / "listings").iterdir()
    for content in (b"", b"nonsense", place.read_bytes()[:200]):
        place.write_bytes(content)
        assert not index_folder(split).cached
        assert names(split) == expected


def test_no_place_for_listings_is_no_error(
    split: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocker = kept.parent / "file"
    blocker.touch()
    monkeypatch.setenv("DETNET_CACHE", str(blocker / "cache"))
    assert len(index_folder(split)) == 5


def test_many_images_take_few_bytes(tmp_path: Path, kept: Path) -> None:
    for label in range(40):
        folder = tmp_path / "many" / f"n{label:08d}"
        folder.mkdir(parents=True)
        for number in range(100):
            os.close(os.open(folder / f"n{label:08d}_{number}.JPEG", os.O_CREAT))
    index_folder(tmp_path / "many")
    found = index_folder(tmp_path / "many")
    assert found.cached and len(found) == 4000
    assert found.name(3999) == "n00000039/n00000039_99.JPEG"
    kept_for_each = (found.names.blob, found.names.offsets, found.labels)
    assert sum(array.nbytes for array in kept_for_each) / len(found) < 32


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["a.jpg", "b.jpg"], "has no class folders; 2 images lie directly in it; sort"),
        (["readme.txt"], "has no class folders; sort"),
        (["cat/a.jpg", "dog/a.txt", "emu/.x.jpg"], r"2 of 3 class folders hold no images \(dog"),
    ],
)
def test_folders_that_cannot_be_used(tmp_path: Path, files: list[str], message: str) -> None:
    touch(tmp_path / "train", *files)
    with pytest.raises(InputError, match=message) as caught:
        index_folder(tmp_path / "train")
    assert "\n" not in str(caught.value) and str(tmp_path / "train") in str(caught.value)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing: no such folder"):
        index_folder(tmp_path / "nothing")


def test_classes_of_val_must_be_those_of_train(split: Path, tmp_path: Path) -> None:
    val = tmp_path / "data" / "val"
    touch(val, "cat/a.jpg", "dog/a.jpg")
    require_same_classes(index_folder(val), index_folder(split))
    touch(val, "ape/a.jpg", "bee/a.jpg", "eel/a.jpg", "fox/a.jpg")
    shutil.rmtree(val / "dog")
    expected = r"class folders differ: 4 not in .*train \(ape, bee, eel, …\); 1 missing \(dog\)"
    with pytest.raises(InputError, match=expected):
        require_same_classes(index_folder(val), index_folder(split))


def test_a_class_whose_name_is_no_text_is_refused(split: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    touch(split, f"dog/{name}.jpg")
    assert f"dog/{name}.jpg" in names(split)
    touch(split, f"{name}/a.jpg")
    with pytest.raises(
        InputError, match=r"train: the class folder b'caf\\xe9' has no name in UTF-8"
    ):
        index_folder(split)
