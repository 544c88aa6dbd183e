"""What is predicted on, and where its drawn copy goes."""

from pathlib import Path

import pytest
from PIL import Image

from detnet.data.images import IMAGE_SUFFIXES
from detnet.errors import InputError
from detnet.inference.media import find_media


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = "PPM" if path.suffix in (".ppm", ".pgm") else None
    Image.new("RGB", (12, 8)).save(path, kind)
    return path


def test_folders_are_searched_and_their_shape_is_kept(tmp_path: Path) -> None:
    picture(tmp_path / "in" / "b.png")
    picture(tmp_path / "in" / "deep" / "a.JPG")
    (tmp_path / "in" / "notes.txt").write_text("no image")
    picture(tmp_path / "in" / ".cache" / "a.png")
    (tmp_path / "in" / "._b.png").write_bytes(b"no image")
    (tmp_path / "in" / "film.mp4").write_bytes(b"")
    output = tmp_path / "out"
    sources, skipped = find_media([tmp_path / "in"], output)
    places = {s.path.name: s.destination.relative_to(output).as_posix() for s in sources}
    assert places == {"b.png": "b.png", "a.JPG": "deep/a.jpg", "film.mp4": "film.mp4"}
    assert [source.path.name for source in sources if source.video] == ["film.mp4"]
    assert not any(source.asked_for for source in sources)
    assert [path.name for path in skipped] == ["notes.txt"]


def test_whatever_a_data_set_may_hold_is_predicted_on(tmp_path: Path) -> None:
    for suffix in IMAGE_SUFFIXES:
        picture(tmp_path / "in" / f"a{suffix}")
    sources, skipped = find_media([tmp_path / "in"], tmp_path / "out")
    assert (len(sources), skipped) == (len(IMAGE_SUFFIXES), [])


def test_equal_names_do_not_overwrite_each_other(tmp_path: Path) -> None:
    paths = [picture(tmp_path / folder / "a.jpg") for folder in ("one", "two", "three")]
    paths += [picture(tmp_path / "four" / "A.JPEG"), picture(tmp_path / "five" / "a-2.jpg")]
    sources, _ = find_media(paths, tmp_path / "out")
    names = [source.destination.name for source in sources]
    assert names == ["a.jpg", "a-2.jpg", "a-3.jpg", "A-4.jpg", "a-2-2.jpg"]
    assert all(source.asked_for for source in sources)


def test_no_drawn_copy_stands_where_a_folder_is_wanted(tmp_path: Path) -> None:
    for name in ("a.bmp", "a.png/x.png", "B.PNG/x.png", "b.png/y/z.png", "b.tif"):
        picture(tmp_path / "in" / name)
    for paths in ([tmp_path / "in"], sorted((tmp_path / "in").iterdir(), reverse=True)):
        sources, _ = find_media(paths, tmp_path / "out")
        places = {str(source.destination).lower() for source in sources}
        assert len(places) == 5
        assert not places & {str(up).lower() for one in sources for up in one.destination.parents}


def test_a_file_given_twice_counts_once(tmp_path: Path) -> None:
    path = picture(tmp_path / "in" / "a.png")
    sources, _ = find_media([path, tmp_path / "in", path], tmp_path / "out")
    assert len(sources) == 1


def test_an_output_folder_within_the_input_is_not_searched(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / "out" / "a.png")
    sources, _ = find_media([tmp_path], tmp_path / "out")
    assert [source.path for source in sources] == [tmp_path / "a.png"]


def test_inputs_are_never_overwritten(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png")
    with pytest.raises(InputError, match="is the output folder too"):
        find_media([tmp_path], tmp_path)
    with pytest.raises(InputError, match="a.png: would be overwritten"):
        find_media([path], tmp_path)


def test_what_cannot_be_used_is_named(tmp_path: Path) -> None:
    text = tmp_path / "letter.jpg"
    text.write_text("this is a text file")
    (tmp_path / "empty").mkdir()
    (tmp_path / "nothing.png").touch()
    with pytest.raises(InputError, match="nothing.png: the file is empty"):
        find_media([tmp_path / "nothing.png"], tmp_path / "out")
    with pytest.raises(InputError, match="letter.jpg: neither an image nor a video"):
        find_media([text], tmp_path / "out")
    with pytest.raises(InputError, match="gone.jpg: no such file"):
        find_media([tmp_path / "gone.jpg"], tmp_path / "out")
    with pytest.raises(InputError, match="empty: no image or video found"):
        find_media([tmp_path / "empty"], tmp_path / "out")


def test_an_image_with_an_unusual_name_is_taken_when_asked_for(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png").rename(tmp_path / "scan.jfif")
    (source,), _ = find_media([path], tmp_path / "out")
    assert source.path == path and source.destination.name == "scan.png"


def test_a_link_in_the_output_folder_leads_nowhere(tmp_path: Path) -> None:
    inside, output, away = tmp_path / "in" / "sub", tmp_path / "out", tmp_path / "away"
    for folder in (inside, output, away):
        folder.mkdir(parents=True)
    Image.new("RGB", (60, 40)).save(inside / "a.png")
    (output / "sub").symlink_to(away)
    with pytest.raises(InputError, match=r"out/sub/a.png: a link there leads out of .*out"):
        find_media([tmp_path / "in"], output)
    (output / "sub").unlink()
    sources, _ = find_media([tmp_path / "in"], output)
    assert [source.destination for source in sources] == [output / "sub" / "a.png"]
    linked = tmp_path / "linked"
    linked.symlink_to(output)
    assert len(find_media([tmp_path / "in"], linked)[0]) == 1
