"""Videos: frames come back as they were written, upright, with their times."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from detnet.data.images import SETTING
from detnet.errors import InputError
from detnet.inference.video import VideoWriter, read_frames, read_info

av = pytest.importorskip("av", reason="needs the video extra")


def write_film(path: Path, *, frames: int = 6, size: tuple[int, int] = (48, 64)) -> None:
    """A white bar that grows from the left by an eighth of the width a frame."""
    with VideoWriter(path, rate=Fraction(30000, 1001)) as writer:
        for index in range(frames):
            pixels = np.zeros((*size, 3), dtype=np.uint8)
            pixels[:, : size[1] * index // 8] = 255
            writer.write(pixels)


def test_frames_come_back_in_order(tmp_path: Path) -> None:
    write_film(tmp_path / "a.mp4")
    info = read_info(tmp_path / "a.mp4")
    assert info.frames == 6 and info.rate == Fraction(30000, 1001)
    frames = list(read_frames(tmp_path / "a.mp4"))
    assert [frame.index for frame in frames] == list(range(6))
    for frame in frames:
        assert frame.pixels.shape == (48, 64, 3) and frame.pixels.dtype == np.uint8
        assert frame.time_s == pytest.approx(frame.index * 1001 / 30000, abs=1e-3)
        assert frame.pixels.mean() / 255 == pytest.approx(frame.index / 8, abs=0.02)


def test_odd_sides_are_made_even(tmp_path: Path) -> None:
    write_film(tmp_path / "a.mp4", size=(47, 63))
    assert next(read_frames(tmp_path / "a.mp4")).pixels.shape == (48, 64, 3)


def test_turned_videos_are_shown_upright(tmp_path: Path) -> None:
    path, turned = tmp_path / "a.mp4", tmp_path / "turned.mp4"
    write_film(path)
    with av.open(str(path)) as source, av.open(str(turned), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        if not hasattr(stream, "set_display_rotation"):
            pytest.skip("this PyAV cannot write a rotation")
        stream.set_display_rotation(90)
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    last = list(read_frames(turned))[-1].pixels
    assert last.shape == (64, 48, 3)
    # The bar stood at the left; a quarter turn counterclockwise lays it at the bottom.
    assert last[-4:].mean() > 250 and last[:4].mean() < 5


def test_what_was_written_before_an_error_can_be_played(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError, match="stop"),
        VideoWriter(tmp_path / "a.mp4", rate=Fraction(25)) as writer,
    ):
        for _ in range(3):
            writer.write(np.zeros((48, 64, 3), dtype=np.uint8))
        raise RuntimeError("stop")
    assert len(list(read_frames(tmp_path / "a.mp4"))) == 3


def test_frames_that_change_their_size_are_all_kept(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", rate=Fraction(25)) as writer:
        for index, size in enumerate(((48, 64), (24, 32), (64, 48))):
            writer.write(np.full((*size, 3), 80 * index, dtype=np.uint8))
    frames = [frame.pixels for frame in read_frames(tmp_path / "a.mp4")]
    assert [frame.shape for frame in frames] == [(48, 64, 3)] * 3
    assert [frame.mean() for frame in frames] == pytest.approx([0, 80, 160], abs=4)


def test_no_frames_leave_no_file(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", rate=Fraction(25)):
        pass
    assert not (tmp_path / "a.mp4").exists()


def test_what_is_no_video_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_text("this is a text file")
    with pytest.raises(InputError, match="a.mp4: cannot be read as a video"):
        read_info(path)
    with pytest.raises(InputError, match="a.mp4: cannot be read as a video"):
        list(read_frames(path))


def test_frames_beyond_the_bound_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.mp4"
    write_film(path, size=(32, 48))
    monkeypatch.setenv(SETTING, "1000")
    for read in (read_info, lambda path: next(read_frames(path))):
        with pytest.raises(InputError, match="a.mp4: 48 x 32 pixels are more than the 1,000"):
            read(path)
