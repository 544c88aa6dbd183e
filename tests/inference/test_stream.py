"""What is predicted on in a stream: order, what is kept, errors, bounds and interruption."""

import json
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from detnet.errors import InputError
from detnet.inference import stream
from detnet.inference.media import MediaFile, find_media
from detnet.inference.prediction import Prediction
from detnet.inference.stream import PredictionRecords, batches, in_order, predict_files
from detnet.inference.video import VideoWriter


class Finder:
    """Finds one object in each picture, as wide as its first pixel is bright; notes the sizes."""

    def __init__(self) -> None:
        self.given: list[int] = []

    def predict_batch(self, images: Sequence[Any]) -> list[Prediction]:
        self.given.append(len(images))
        return [self._found(image) for image in images]

    @staticmethod
    def _found(pixels: np.ndarray) -> Prediction:
        return Prediction(
            boxes=torch.tensor([[1.0, 2.0, 1.0 + float(pixels[0, 0, 0]), 6.0]]),
            labels=torch.tensor([1]),
            scores=torch.tensor([0.5]),
            names=("cat",),
            category_ids=(9,),
            size=(pixels.shape[1], pixels.shape[0]),
        )


def write_pictures(folder: Path, count: int) -> None:
    folder.mkdir(exist_ok=True)
    for index in range(count):
        Image.new("RGB", (30, 20), (10 + index, 0, 0)).save(folder / f"{index:02}.png")


def run(finder: Any, paths: Sequence[Path], output: Path, *, batch_size: int = 1) -> list[Any]:
    files, _ = find_media(paths, output)
    return list(predict_files(finder, files, output, batch_size=batch_size))


def kept(output: Path) -> tuple[list[Any], list[Any]]:
    images = json.loads((output / "images.json").read_text())
    return images, json.loads((output / "predictions.json").read_text())


@pytest.mark.parametrize("batch_size", [1, 3])
def test_images_come_and_are_kept_in_their_order(tmp_path: Path, batch_size: int) -> None:
    write_pictures(tmp_path / "in", 8)
    finder = Finder()
    output = tmp_path / "out"
    done = run(finder, [tmp_path / "in"], output, batch_size=batch_size)
    assert [image.file.path.name for image in done] == [f"{index:02}.png" for index in range(8)]
    assert finder.given == ([1] * 8 if batch_size == 1 else [3, 3, 2])
    images, results = kept(output)
    assert [image["id"] for image in images] == [*range(1, 9)]
    assert [image["file_name"] for image in images] == [f"{index:02}.png" for index in range(8)]
    assert [result["image_id"] for result in results] == [*range(1, 9)]
    assert [result["bbox"][2] for result in results] == [10 + index for index in range(8)]
    assert all((output / image["drawn"]).is_file() for image in images)


def test_a_broken_file_in_a_folder_is_passed_over_in_its_place(tmp_path: Path) -> None:
    write_pictures(tmp_path / "in", 4)
    (tmp_path / "in" / "01.png").write_bytes(b"no image")
    done = run(Finder(), [tmp_path / "in"], tmp_path / "out", batch_size=2)
    assert [image.problem is None for image in done] == [True, False, True, True]
    images, _ = kept(tmp_path / "out")
    assert [image["file_name"] for image in images] == ["00.png", "02.png", "03.png"]
    assert [image["id"] for image in images] == [1, 2, 3]


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_what_came_before_a_broken_file_that_was_asked_for_is_kept(
    tmp_path: Path, batch_size: int
) -> None:
    write_pictures(tmp_path / "in", 6)
    whole = (tmp_path / "in" / "03.png").read_bytes()
    (tmp_path / "in" / "03.png").write_bytes(whole[:-30])
    files, _ = find_media(sorted((tmp_path / "in").iterdir()), tmp_path / "out")
    stream = predict_files(Finder(), files, tmp_path / "out", batch_size=batch_size)  # type: ignore[arg-type]
    seen = []
    with pytest.raises(InputError, match=r"03.png: the image is damaged or cut"):
        for image in stream:
            seen.append(image.file.path.name)
    assert seen == ["00.png", "01.png", "02.png"]
    images, results = kept(tmp_path / "out")
    assert [image["file_name"] for image in images] == ["00.png", "01.png", "02.png"]
    assert len(results) == 3


def test_what_was_found_before_an_error_is_kept(tmp_path: Path) -> None:
    class Tired(Finder):
        def predict_batch(self, images: Sequence[Any]) -> list[Prediction]:
            if len(self.given) == 3:
                raise KeyboardInterrupt
            return super().predict_batch(images)

    write_pictures(tmp_path / "in", 6)
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        run(Tired(), [tmp_path / "in"], tmp_path / "out")
    assert [image["file_name"] for image in kept(tmp_path / "out")[0]] == [
        "00.png",
        "01.png",
        "02.png",
    ]
    assert threading.active_count() == before
    assert [path.name for path in (tmp_path / "out").glob(".*")] == []


def test_a_caller_may_stop(tmp_path: Path) -> None:
    write_pictures(tmp_path / "in", 9)
    files, _ = find_media([tmp_path / "in"], tmp_path / "out")
    stream = predict_files(Finder(), files, tmp_path / "out")  # type: ignore[arg-type]
    assert next(stream).file.path.name == "00.png"
    stream.close()
    images, _ = kept(tmp_path / "out")
    assert 1 <= len(images) < 9
    assert {image["drawn"] for image in images} == {
        path.name for path in (tmp_path / "out").glob("*.png")
    }


def test_an_output_folder_that_fills_up_is_an_error(tmp_path: Path) -> None:
    write_pictures(tmp_path / "in", 3)
    (tmp_path / "out" / "01.png").mkdir(parents=True)
    with pytest.raises(OSError, match=r"01.png"):
        run(Finder(), [tmp_path / "in"], tmp_path / "out")
    assert [image["file_name"] for image in kept(tmp_path / "out")[0]] == ["00.png"]


def test_frames_keep_their_order_and_their_drawings(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="needs the video extra")
    from detnet.inference.video import read_frames

    film = tmp_path / "film.mp4"
    with VideoWriter(film, rate=Fraction(10)) as writer:
        for index in range(9):
            writer.write(np.full((48, 64, 3), 20 * index, dtype=np.uint8))
    write_pictures(tmp_path / "in", 2)
    output = tmp_path / "out"
    done = run(Finder(), [tmp_path / "in", film], output, batch_size=2)
    assert len(done) == 11
    images, results = kept(output)
    assert [image.get("frame") for image in images] == [None, None, *range(9)]
    assert [result["image_id"] for result in results] == [*range(1, 12)]
    widths = [result["bbox"][2] for result in results[2:]]
    assert widths == sorted(widths)
    shades = [frame.pixels[40:, 60:].mean() for frame in read_frames(output / "film.mp4")]
    assert shades == pytest.approx([20 * index for index in range(9)], abs=6)


def test_a_film_that_is_cut_is_kept_up_to_there(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="needs the video extra")
    film = tmp_path / "in" / "film.mkv"
    film.parent.mkdir()
    rng = np.random.default_rng(0)
    with av.open(str(film), "w") as target:
        stream = target.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(30):
            pixels = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
            target.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        target.mux(stream.encode())
    content = film.read_bytes()
    film.write_bytes(content[: len(content) // 2])
    done = run(Finder(), [film.parent], tmp_path / "out")
    images, _ = kept(tmp_path / "out")
    assert 5 < len(images) < 30
    assert len([image for image in done if image.problem is None]) == len(images)


def test_work_stays_in_order_and_within_its_bound() -> None:
    taken = 0

    def numbers() -> Iterator[int]:
        nonlocal taken
        for number in range(20):
            taken += 1
            yield number

    def work(number: int) -> int:
        time.sleep(0.01 * (number % 3))
        return number * 10

    with ThreadPoolExecutor(4) as pool:
        for place, result in enumerate(
            in_order(lambda number: pool.submit(work, number), numbers(), ahead=3)
        ):
            assert result == place * 10
            assert taken <= place + 4
    assert taken == 20


def test_an_error_of_the_source_comes_after_what_was_before_it() -> None:
    def numbers() -> Iterator[int]:
        yield from (1, 2)
        raise InputError("no more")

    found = []
    with ThreadPoolExecutor(1) as pool, pytest.raises(InputError, match="no more"):
        for number in in_order(lambda it: pool.submit(int, it), numbers(), ahead=5):
            found.append(number)
    assert found == [1, 2]


def test_decoding_and_drawing_go_on_while_the_detector_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each waits for the other: one after the other they would stand still."""
    decoded, drawn, running = threading.Event(), threading.Event(), threading.Event()
    threads = set()
    read_pixels = stream.read_pixels

    def read(path: Path) -> Any:
        if path.name == "01.png":
            decoded.set()
        return read_pixels(path)

    class Watched(Prediction):
        def draw(self, image: Any) -> Image.Image:
            threads.add(threading.get_ident())
            assert running.wait(60)
            drawn.set()
            return Image.fromarray(image)

    class Watching(Finder):
        def predict_batch(self, images: Sequence[Any]) -> list[Prediction]:
            if not self.given:
                assert decoded.wait(60)  # the second, while the first is looked at
            if len(self.given) == 1:
                running.set()
                assert drawn.wait(60)  # the first, while the second is
            return [Watched(**vars(found)) for found in super().predict_batch(images)]

    monkeypatch.setattr(stream, "read_pixels", read)
    write_pictures(tmp_path / "in", 4)
    assert len(run(Watching(), [tmp_path / "in"], tmp_path / "out")) == 4
    assert threading.get_ident() not in threads


def source(name: str, *, video: bool = False) -> MediaFile:
    return MediaFile(Path("in") / name, Path("out") / name, video=video, asked_for=True)


def test_records_number_images_from_one(tmp_path: Path) -> None:
    found = Finder._found(np.full((20, 30, 3), 3, dtype=np.uint8))
    records = PredictionRecords(Path("out"))
    first = records.begin(found, source("a.jpg"))
    second = records.begin(found, source("film.mp4", video=True), frame=0, time_s=0.0)
    records.keep(found, second)
    records.output = tmp_path
    records.write()
    assert kept(tmp_path) == ([], [])  # the first is not drawn yet
    records.keep(found, first)
    records.write()
    images, results = kept(tmp_path)
    assert [record["image_id"] for record in results] == [1, 2]
    assert results[0]["bbox"] == [1.0, 2.0, 3.0, 4.0] and results[0]["category_id"] == 9
    assert images[0] == {
        "id": 1,
        "file_name": "a.jpg",
        "path": str(Path("in") / "a.jpg"),
        "drawn": "a.jpg",
        "width": 30,
        "height": 20,
    }
    assert images[1]["frame"] == 0 and images[1]["id"] == 2
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_batches_cover_everything_in_order() -> None:
    assert list(batches(range(5), 2)) == [[0, 1], [2, 3], [4]]
