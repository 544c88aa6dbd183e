"""Disks that fill at random bytes: a small file system in memory, or a limit on the size of files.

What was asked for is told in one line and leaves nothing half; with room again, the same command
gives what it gives on a disk that was never full.
"""

import hashlib
import shutil
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.search.small_search import write_data
from tests.torture.command import Found, Said, judge
from tests.torture.material import write_coco, write_voc
from tests.torture.mutate_bytes import Random
from tests.torture.networks import write_detector, write_resnet
from tests.torture.processes import limit_files, run, start
from tests.torture.record import ACCEPTED, CLEAR, FINDINGS, TRACEBACK, WRONG
from tests.torture.trainings import difference, fingerprint, write_material

BOUND_S = 240.0
_ROOM = 256 * 2**20
_TRAININGS = ("train", "pretrain", "search")


def base(folder: Path) -> None:
    """Everything that commands read, and what each gives on a disk with room."""
    write_material(folder)
    write_data(folder / "few", train=1, val=2)
    write_coco(folder / "coco")
    write_voc(folder / "voc")
    write_detector(folder / "model.safetensors")
    write_resnet(folder / "resnet.safetensors")


def attack(random: Random, base: Path, scratch: Path) -> Found:
    """Runs a command on a disk that fills, and then again with room."""
    names = [*_TRAININGS[:2], *_TRAININGS[:2], *_TRAININGS, *_commands(base, scratch)]
    name = names[int(random.integers(len(names)))]
    with _Disk(scratch / "disk") as disk:
        share = random.random()
        by_size = random.random() < 0.5 or not disk.mounted
        if name in _TRAININGS:
            return _training(name, base, disk, share, by_size)
        return _command(name, base, disk, share, by_size)


def _commands(base: Path, disk: Path) -> dict[str, tuple[str, ...]]:
    """Commands that write OUT, without it at their end."""
    model = str(base / "model.safetensors")
    results = ("--results", str(base / "coco/results.json"))
    truth = str(base / "coco/annotations/instances_train.json")
    return {
        "convert coco": ("convert", str(base / "coco"), "--to", "voc", "--copy", "--output"),
        "convert voc": ("convert", str(base / "voc"), "--copy", "--output"),
        "weights": ("weights", str(base / "resnet.safetensors"), "--export", "torchvision"),
        "predict": ("predict", model, str(base / "few/val"), "--output"),
        "evaluate": ("evaluate", model, "--data", str(base / "few"), "--workers", "0", "--output"),
        "score": ("score", "--annotations", truth, *results, "--submission"),
    }


def _out(name: str, folder: Path) -> Path:
    suffix = {"weights": ".pth", "score": ".zip"}.get(name, "")
    return folder / f"out{suffix}"


class _Disk:
    """A folder whose room can be changed, where the system allows to mount one."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.mounted = folder, False

    def __enter__(self) -> "_Disk":
        self.folder.mkdir(parents=True, exist_ok=True)
        self.mounted = _quiet("mount", "-t", "tmpfs", "-o", f"size={_ROOM}", "none", self.folder)
        return self

    def __exit__(self, *error: object) -> None:
        if self.mounted:
            _quiet("umount", "-l", self.folder)
        shutil.rmtree(self.folder, ignore_errors=True)

    def room(self, size: int) -> None:
        """How much the file system holds."""
        _quiet("mount", "-o", f"remount,size={max(4096, size)}", self.folder)


def _quiet(*words: str | Path) -> bool:
    with suppress(OSError):
        return subprocess.run(words, capture_output=True, check=False).returncode == 0
    return False


def _ended(argv: tuple[str, ...], said: Path, prepare: Callable[[], None] | None) -> Said:
    child = start(argv, said, prepare)
    code = child.wait(BOUND_S)
    child.sweep()
    text = child.said()
    trace = " ".join(text.split())[-300:] if "Traceback (most recent" in text or code < 0 else ""
    return Said(argv, code, "", text, trace and f"code {code}: {trace}")


def _training(name: str, base: Path, disk: _Disk, share: float, by_size: bool) -> Found:
    """A full disk in the middle of a training, then room, then --resume: the same bits."""
    known, job = _known(name, base), write_material(base)[name]
    place, said = disk.folder / "run", disk.folder.parent / "said.txt"
    words = (*job.begin, "--output", str(place))
    full = _full(disk, share, by_size, known["largest"], known["sum"], known["largest"])
    found = _judged(_ended(words, said, full), notes=True)
    if found.verdict in FINDINGS or found.verdict == ACCEPTED:
        return _named(found, name, by_size, share)
    disk.room(_ROOM)
    if halves := _halves(disk.folder):
        return Found(WRONG, f"{name}: a full disk left {halves}")
    begun = (place / "config.yaml").exists()
    code, text = run((*job.resume, str(place)) if begun else words, said, BOUND_S)
    if code:
        return Found(TRACEBACK, f"{name}, full at {share:.3f}, then with room: {text[-300:]}")
    wrong = difference(job, place, known["prints"])
    return Found(WRONG, f"{name}, full at {share:.3f}: {wrong}") if wrong else found


def _command(name: str, base: Path, disk: _Disk, share: float, by_size: bool) -> Found:
    """A command that writes: on a full disk all or nothing, then what it always writes."""
    known, words = _known(name, base), _commands(base, disk.folder)[name]
    out, said = _out(name, disk.folder), disk.folder.parent / "said.txt"
    full = _full(disk, share, by_size, known["largest"], known["sum"], 0)
    found = _judged(_ended((*words, str(out)), said, full), notes=False)
    if found.verdict in FINDINGS or found.verdict == ACCEPTED:
        return _named(found, name, by_size, share)
    disk.room(_ROOM)
    if halves := _halves(disk.folder):
        return Found(WRONG, f"{name}: a full disk left {halves}")
    if out.is_file() or name.startswith("convert") and out.exists():
        return Found(WRONG, f"{name}: {out.name} is there, though it failed")
    code, text = run((*words, str(out)), said, BOUND_S)
    if code:
        return Found(TRACEBACK, f"{name}, full at {share:.3f}, then with room: {text[-300:]}")
    if _prints(out) != known["prints"]:
        return Found(WRONG, f"{name}, full at {share:.3f}: writes something else with room again")
    return found


def _full(
    disk: _Disk, share: float, by_size: bool, largest: int, total: int, more: int
) -> Callable[[], None] | None:
    """Lets the disk be full at a byte: of its largest file, or of all that is written."""
    if by_size:
        return lambda: limit_files(max(4096, int(share * largest)), deadly=False)
    disk.room(int(share * (total + more)))
    return None


def _judged(said: Said, *, notes: bool) -> Found:
    """As other commands; the line must name a file or a folder."""
    found = judge(said, notes=notes)
    if found.verdict == CLEAR and "/" not in found.detail:
        return Found(TRACEBACK, f"names no file: {found.detail}")
    return found


def _named(found: Found, name: str, by_size: bool, share: float) -> Found:
    how = "a limit on files" if by_size else "tmpfs"
    return Found(found.verdict, f"{name}, full at {share:.3f} ({how}): {found.detail}")


def _halves(folder: Path) -> list[str]:
    """What a failed command must not leave: parts of files, folders beside."""
    odd = (path for path in folder.rglob("*") if path.suffix in (".part", ".partial"))
    hidden = (path for path in folder.glob(".out*"))
    return [str(path.relative_to(folder)) for path in (*odd, *hidden)]


_results: dict[tuple[Path, str], dict[str, Any]] = {}


def _known(name: str, base: Path) -> dict[str, Any]:
    """What a command writes on a disk with room, found when it is first asked for."""
    if (base, name) not in _results:
        place = base / "undisturbed"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        job = write_material(base)[name] if name in _TRAININGS else None
        out = place / "run" if job else _out(name, place)
        words = (*job.begin, "--output") if job else _commands(base, place)[name]
        code, text = run((*words, str(out)), base / "said.txt", BOUND_S)
        if code:
            raise RuntimeError(f"{name} does not work with room: {text[-300:]}")
        sizes = [path.stat().st_size for path in place.rglob("*") if path.is_file()]
        prints = fingerprint(job, out) if job else _prints(out)
        _results[base, name] = {"prints": prints, "largest": max(sizes), "sum": sum(sizes)}
        shutil.rmtree(place)
    return _results[base, name]


def _prints(out: Path) -> dict[str, str]:
    """Hashes of all files."""
    files = [out] if out.is_file() else sorted(path for path in out.rglob("*") if path.is_file())
    return {
        str(path.relative_to(out.parent)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }
