"""A search's page: what its folder, its study and its space tell, put together for the report."""

import contextlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detnet.backbones.detnas import (
    DETNASNET_1_3G,
    DETNASNET_300M,
    DETNASNET_300M_RETINANET,
    DETNASNET_VOC_300M,
    DETNASNET_VOC_300M_RETINANET,
)
from detnet.backbones.detnet import DETNET59, DETNET59_NOPROJ
from detnet.backbones.resnet import RESNET50, RESNET50_DILATED
from detnet.backbones.shuffle_block import BlockKind
from detnet.backbones.spaces.detnet_space import DetNetSpace, spell
from detnet.backbones.spaces.shuffle_space import ShuffleSpace
from detnet.backbones.spaces.space import SPACES, Space, parse_path, read_space
from detnet.engine.runs import read_run
from detnet.errors import InputError
from detnet.report.search.page import write_search_page
from detnet.report.search.records import (
    CandidateRow,
    GeneRow,
    KnownNetwork,
    PhaseRow,
    SearchRecord,
)
from detnet.report.search.summary import summarise
from detnet.search.costs.constraints import Costs
from detnet.search.study.storage import quiet, reaching
from detnet.search.study.study import Record, load_study, read_candidates

_PHASES = (
    ("Supernet: pre-training", "pretrain"),
    ("Supernet: fine-tuning", "finetune"),
    ("Winner: pre-training", "winner/pretrain"),
    ("Winner: training", "winner/train"),
)
_PATHS: dict[str, dict[str, tuple[int, ...]]] = {
    "detnas_small": {
        "detnasnet_300m": DETNASNET_300M,
        "detnasnet_300m_retinanet": DETNASNET_300M_RETINANET,
        "detnasnet_voc_300m": DETNASNET_VOC_300M,
        "detnasnet_voc_300m_retinanet": DETNASNET_VOC_300M_RETINANET,
        "shufflenetv2_20": (0,) * 20,
    },
    "detnas_large": {"detnasnet_1_3g": DETNASNET_1_3G, "shufflenetv2_40": (0,) * 40},
}
_TABLES = {
    "detnet59": DETNET59,
    "detnet59_noproj": DETNET59_NOPROJ,
    "resnet50": RESNET50,
    "resnet50_dilated": RESNET50_DILATED,
}


def make_search_page(
    run: Path, *, output: Path | None = None, storage: str | None = None
) -> tuple[Path, dict[str, Any]]:
    """Writes a search's page, complete or of a search that goes on.

    Args:
        run: its folder.
        output: the page; `search.html` in the folder by default.
        storage: where the study is, if not in the folder.

    Returns:
        The page's path, and what it shows as one JSON object.

    Raises:
        InputError: there is no search, one of its files is damaged, or the storage does not answer.
    """
    record = read_search(run, storage=storage)
    summary = summarise(record)
    return write_search_page(output or run / "search.html", record, summary), summary


def read_search(run: Path, *, storage: str | None = None) -> SearchRecord:
    """Reads all that a search's folder and its study tell.

    Args:
        run: its folder.
        storage: where the study is, if not in the folder.

    Raises:
        InputError: there is no search, one of its files is damaged, or the storage does not answer.
    """
    folder = read_run(run)
    if "space" not in folder.config:
        raise InputError(f"{run}: holds no search (no config.yaml of one in it)")
    space = _read_space(run, folder.config)
    config = folder.config
    winner = _read_json(run / "winner.json")
    candidates, notes = _candidates(run, space, storage, config.get("storage"))
    return SearchRecord(
        name=folder.name,
        config=config,
        environment=folder.environment,
        genes=gene_rows(space, float(config.get("width") or 1.0)),
        stage_notes=_stage_notes(space, float(config.get("width") or 1.0)),
        fixed=_fixed(space),
        candidates=candidates,
        notes=notes,
        winner=winner,
        winner_path=_path(winner.get("path")),
        known=_known(space, config),
        phases=_phases(run, config),
        validation=_read_json(run / "validate" / "validation.json"),
        baselines=_read_json(run / "baselines" / "baselines.json"),
    )


def gene_rows(space: Space, width: float) -> list[GeneRow]:
    """A space's genes with short labels and, for blocks, their channels and stride."""
    if not isinstance(space, ShuffleSpace):
        return [GeneRow(g.stage, g.name, g.choices, g.choices) for g in space.genes]
    labels = _labels(space.choices)
    rows = []
    for gene, at in zip(space.genes, space.scaled(width).positions(), strict=True):
        note = f"{at.out_channels}" + (" /2" if at.stride == 2 else "")
        rows.append(GeneRow(gene.stage, gene.name, gene.choices, labels, note))
    return rows


def _labels(choices: Sequence[BlockKind]) -> tuple[str, ...]:
    """S7 for shufflenet_7x7, X3 for xception_3x3; the index behind those that are alike."""
    short = [f"{choice.name[:1].upper()}{choice.kernels[0]}" for choice in choices]
    alike = Counter(short)
    return tuple(
        f"{label}·{index}" if alike[label] > 1 else label for index, label in enumerate(short)
    )


def _stage_notes(space: Space, width: float) -> dict[str, str]:
    if not isinstance(space, ShuffleSpace):
        return {}
    notes, stride = {}, 2
    for row in space.scaled(width).rows:
        stride *= 2
        notes[row.name] = f"{row.channels} ch, 1/{stride}"
    return notes


def _fixed(space: Space) -> dict[str, dict[str, str]]:
    """What a row of DetNet's space does not leave open."""
    if not isinstance(space, DetNetSpace):
        return {}
    return {
        row.name: {
            question: spell(question, answers[0])
            for question, answers in row.options()
            if len(answers) == 1
        }
        for row in space.rows
    }


def _read_space(run: Path, config: Mapping[str, Any]) -> Space:
    """The run's own copy of the table, which outlives the file or name it came from."""
    copy = run / "space.json"
    return read_space(_read_json(copy) if copy.is_file() else config["space"])


def _candidates(
    run: Path, space: Space, asked: str | None, settled: str | None
) -> tuple[list[CandidateRow], list[str]]:
    """The study's candidates as they are now, others may be writing them; and what is to be said.

    A study that was asked for must be there; that of the settings may not have begun.
    """
    where = asked or settled or str(run / "study.db")
    if not (asked or settled or Path(where).is_file()):
        return [], []
    try:
        with load_study(where) as study, quiet(), reaching(study.url):
            return [_candidate(run, space, one) for one in read_candidates(study)], []
    except InputError as error:
        if asked or "has not begun" not in str(error):
            raise
        return [], [str(error)]


def _candidate(run: Path, space: Space, one: Record) -> CandidateRow:
    try:
        path = space.check(one.path)
    except InputError as error:
        where = f"generation {one.generation}, slot {one.slot}"
        raise InputError(f"{run}: the study is of another space: {where}: {error}") from error
    return CandidateRow(
        generation=one.generation,
        slot=one.slot,
        path=path,
        text=space.format_path(path),
        state=one.state,
        score=one.values[0] if one.values and math.isfinite(one.values[0]) else None,
        costs=one.costs,
        seconds=one.seconds,
        worker=one.worker,
        error=None if one.state == "done" else one.error,
        attempts=one.attempts,
    )


def _known(space: Space, config: Mapping[str, Any]) -> list[KnownNetwork]:
    """The published networks of this very space, that of the search's own detector first."""
    paths = _published(space)
    if not paths:
        return []
    height, width = config.get("cost_image_size") or (224, 224)
    costs = Costs(space, width=float(config.get("width") or 1.0), image_size=(height, width))
    found = [
        KnownNetwork(
            name,
            path,
            space.format_path(path),
            {"macs": costs.macs(path), "params": costs.params(path)},
        )
        for name, path in paths.items()
    ]
    retinanet = config.get("detector") == "retinanet"
    return sorted(found, key=lambda one: one.name.endswith("_retinanet") != retinanet)


def _published(space: Space) -> dict[str, tuple[int, ...]]:
    if isinstance(space, DetNetSpace):
        found = {}
        for name, table in _TABLES.items():
            with contextlib.suppress(InputError):  # not in every such space
                found[name] = space.path_of(table)
        return found
    own = space.to_json()
    return next((_PATHS[name] for name in _PATHS if SPACES[name].to_json() == own), {})


def _phases(run: Path, config: Mapping[str, Any]) -> list[PhaseRow]:
    """The trainings that the search is made of; a search from scratch has no pre-training."""
    skipped = ("pretrain", "winner/pretrain") if config.get("from_scratch") else ()
    return [
        PhaseRow(title, folder, read_run(run / folder) if (run / folder).is_dir() else None)
        for title, folder in _PHASES
        if folder not in skipped
    ]


def _path(value: Any) -> tuple[int, ...]:
    """A path as a file has it: text or a list."""
    if isinstance(value, str):
        return parse_path(value)
    return tuple(int(index) for index in value or ())


def _read_json(path: Path) -> dict[str, Any]:
    """A small file that may not be there yet."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: is not JSON or was cut ({error})") from error
    return content if isinstance(content, dict) else {}
