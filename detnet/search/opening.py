"""Opens a search, new or begun: what is done, what is due, and what is made before its phases."""

from pathlib import Path

from detnet.engine import distributed
from detnet.engine.agreement import require_shared
from detnet.engine.runs import RunFolder
from detnet.errors import InputError
from detnet.search.begun import is_complete
from detnet.search.checks import check
from detnet.search.config import PHASES, SearchConfig
from detnet.search.reuse import take_supernet
from detnet.search.run import SearchRun
from detnet.search.split import write_split
from detnet.search.trainings import written_path
from detnet.training.detection.config import TrainConfig
from detnet.training.run_state import OnEvent
from detnet.training.settings import absolute, with_plugins


def phases_of(config: SearchConfig) -> tuple[str, ...]:
    """The phases that a search has, in their order."""
    without = {"pretrain"} if config.from_scratch else set()
    if config.by_classes:
        without |= {"finetune"}
    return tuple(phase for phase in PHASES if phase not in without)


def is_done(run: SearchRun, phase: str) -> bool:
    """Whether a phase is complete."""
    if phase == "search":
        return run.winner is not None
    if phase == "retrain":
        return _is_trained(run, run.folder / "winner" / "train")
    taken = run.taken_supernet
    if phase == "pretrain" and taken is not None:  # which a fine-tuned one has behind it
        phase = taken.phase
    return is_complete(run.folder / phase)


def _is_trained(run: SearchRun, place: Path) -> bool:
    """Whether a complete training is the winner's, which more generations may change."""
    if run.winner is None or not is_complete(place):
        return False
    options = TrainConfig.read(RunFolder(place).config).backbone_options
    return options.get("path") == written_path(run.config, run.winner.path)


def require_due(run: SearchRun, phase: str, *, new: bool = False) -> None:
    """Refuses a phase before those that it builds on are complete.

    Args:
        new: whether the folder is being made for this, and will not be there to resume.

    Raises:
        InputError: naming the first that is missing, and the command for it.
    """
    phases = phases_of(run.config)
    if phase not in phases:
        why = "from_scratch" if phase == "pretrain" else "classification as the guide"
        raise InputError(f"{run.folder}: a search with {why} has no phase {phase}")
    for before in phases[: phases.index(phase)]:
        if not is_done(run, before):
            first = f"run `detnet search --resume {run.folder} --phase {before}` first"
            raise InputError(
                f"{run.folder}: {phase} needs what {before} makes, which is not complete; "
                + (f"begin with --phase {before}" if new else first)
            )


def open_search(
    config: SearchConfig | None, folder: Path, only: str | None, *, resume: bool, on_event: OnEvent
) -> tuple[SearchRun, tuple[str, ...], list[str]]:
    """Checks everything, makes the folder if it is new, and parts the data.

    Returns:
        the run, the phases that are asked for, and those of them that are left, the same on all
        processes, whichever is the first to do something.
    """
    if resume or config is None:
        run = SearchRun.open(folder)
    else:
        run = SearchRun(folder, with_plugins(absolute(config)))
    notes = check(run, resume=resume)
    with distributed.joined("cpu") as process:  # the trainings choose their own device
        if process.main:
            notes += _make_ready(run) if resume else _begin(run, only)
        require_shared(folder, process)
        due = phases_of(run.config)
        if only is not None:
            require_due(run, only)
            due = (only,)
        left = distributed.same_on_all([phase for phase in due if not is_done(run, phase)])
    for note in notes:
        on_event({"event": "note", "text": note})
    return run, due, left


def _begin(run: SearchRun, only: str | None) -> list[str]:
    """Makes the folder of a new search ready; a refusal leaves there what was there before."""
    folder = run.folder
    before = {folder, *folder.rglob("*")} if folder.is_dir() else set()
    SearchRun.create(folder, run.config)  # refused where another has made its own meanwhile
    try:
        notes = _make_ready(run)
        if only is not None:
            require_due(run, only, new=True)
    except InputError:
        for path in sorted({folder, *folder.rglob("*")} - before, reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        raise
    return notes


def _make_ready(run: SearchRun) -> list[str]:
    """Parts the data and takes over a supernet where that was not done before; gives the notes."""
    notes = write_split(run.config, run.folder)
    return [*notes, *(take_supernet(run) if run.config.supernet else [])]
