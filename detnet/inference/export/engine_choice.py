"""Chooses what runs a model here: torch, or an export of exactly that model that lies beside it."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from detnet.engine.environment import cpu_name
from detnet.errors import InputError
from detnet.files import read_json, sha256_of
from detnet.inference.engines.predictor import require_engine
from detnet.inference.engines.record import (
    CHECK_FILE,
    LEAST,
    RECORD_FILE,
    RUNTIMES,
    ExportRecord,
    is_export,
    read_export,
    require_runtime,
)
from detnet.inference.models import find_model

EXPORTS = "exports"  # beside a model file
_FORMATS = {runtime: format for format, runtime in RUNTIMES.items()}


@dataclass(frozen=True)
class EngineChoice:
    """What runs a model.

    Args:
        model: its file, or the exported folder.
        engine: of `ENGINES`.
        why: in words.
    """

    model: Path
    engine: str
    why: str

    def __str__(self) -> str:
        return f"runs in {self.engine}: {self.why}"


def choose_engine(
    model: str | Path,
    engine: str = "auto",
    *,
    torch_only: str | None = None,
    device: str | None = "cpu",
    precision: str = "fp32",
    least_score: float = 1.0,
    tell: Callable[[str], None],
) -> EngineChoice:
    """Says what runs a model; with an engine other than torch it is exported once, if it must be.

    By itself it leaves torch only for an export in fp32 of exactly this model (by its SHA-256) that
    was faster than torch when it was checked, on this processor and with the versions of now.

    Args:
        model: a run folder, a `.safetensors` file, or an exported folder.
        engine: of `ENGINES`, or "auto".
        torch_only: what is asked for that only torch can do, None for nothing.
        device, precision: as `--device` and `--precision` take them; by itself it stays with torch
            on a GPU, and where bf16 is fast.
        least_score: that objects are wanted from; an export has a least one built in.
        tell: is called with a line when a model is exported.

    Raises:
        InputError: there is no such engine or model, the engine cannot do what is asked for, or
            the export fails.
    """
    require_engine(engine)
    if is_export(model):
        own = RUNTIMES[read_export(Path(model)).format]
        if engine not in ("auto", own):
            raise InputError(f"{model}: is an export for {own}; leave --engine {engine} out")
        return EngineChoice(Path(model), own, "the export's own runtime")
    file = find_model(model)
    if engine == "torch":
        return EngineChoice(file, "torch", "as asked for")
    asked = torch_only or _asked_of_torch(device, precision)
    if engine != "auto":
        if asked:
            raise InputError(f"--engine {engine} cannot do {asked}; leave one of them out")
        return EngineChoice(_exported(file, _FORMATS[engine], tell), engine, "as asked for")
    if reason := asked or _fast_in_torch(device, precision):
        return EngineChoice(file, "torch", f"{reason} is torch's alone")
    exports = exports_of(file)
    shares = [
        (share, folder, RUNTIMES[record.format])
        for folder, record in exports
        if record.thresholds.score <= least_score and (share := _share(folder, record))
    ]
    share, folder, runtime = min(shares, default=(1.0, file, "torch"))
    if share < 1:
        why = f"{folder}, checked to be {1 / share:.1f} times as fast as torch"
        return EngineChoice(folder, runtime, why)
    if exports and not shares:
        why = "no export beside it was checked as it would run here; export it again to compare"
        return EngineChoice(file, "torch", why)
    return EngineChoice(file, "torch", "no faster export of this model lies beside it")


def _asked_of_torch(device: str | None, precision: str) -> str | None:
    if precision == "bf16":
        return "--precision bf16"
    return f"--device {device}" if device not in (None, "auto", "cpu") else None


def _fast_in_torch(device: str | None, precision: str) -> str | None:
    from detnet.engine.machine import accelerator, fast_bf16  # torch

    if device != "cpu" and accelerator() is not None:
        return "a GPU"
    if precision == "auto" and fast_bf16("cpu"):
        return "bf16, which this machine is fast at,"
    return None


def exports_of(file: Path) -> list[tuple[Path, ExportRecord]]:
    """The sound fp32 exports of exactly this model file, of any image size, that lie beside it."""
    places = sorted((file.parent / EXPORTS).glob(f"*/{RECORD_FILE}"))
    own = sha256_of(file) if places else ""
    found = []
    for place in places:
        try:
            record = read_export(place.parent)
        except InputError:
            continue  # damaged, or its runtime is not installed
        fits = record.precision == "fp32" and record.images.size is None and record.batch == 1
        if fits and record.source.sha256 == own:
            found.append((place.parent, record))
    return found


def _exported(file: Path, format: str, tell: Callable[[str], None]) -> Path:
    """The export of a model in fp32, made if it is not there."""
    require_runtime(RUNTIMES[format], LEAST[RUNTIMES[format]], f"--engine {RUNTIMES[format]}")
    for folder, record in exports_of(file):
        if record.format == format:
            return folder
    from detnet.inference.export.plan import ExportPlan  # torch, as the next
    from detnet.inference.export.writing import export_model

    # The second name where the first is of what the model was before it was trained further.
    name = f"{file.stem}-{format}-fp32"
    names = (name, f"{name}-{sha256_of(file)[:8]}")
    places = [file.parent / EXPORTS / name for name in names]
    place = next((place for place in places if not place.exists()), None)
    if place is None:
        raise InputError(f"{places[-1]}: is damaged; remove it, and it is made again")
    tell(f"exporting {file} to {place}, once; it takes a minute or two")
    return export_model(ExportPlan(file, place, format), data=None, tell=tell).folder


def _share(folder: Path, record: ExportRecord) -> float | None:
    """Of torch's time an image took; None where that was another processor, or other versions."""
    try:
        content = read_json(folder / CHECK_FILE)
        if content["machine"] != cpu_name():
            return None
        if any(metadata.version(name) != version for name, version in record.versions.items()):
            return None
        return float(content["export_s"]) / float(content["torch_s"])
    except (InputError, KeyError, TypeError, ValueError, ArithmeticError):
        return None
    except metadata.PackageNotFoundError:  # only exporting needs some of them
        return None
