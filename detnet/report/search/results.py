"""A finished search as a section of RESULTS.md."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from detnet.errors import InputError
from detnet.search.standalone.text import baselines_markdown, ranking_line


@dataclass(frozen=True)
class SearchResult:
    """What a search's run folder says about itself.

    Args:
        name: of the folder.
        config: its settings.
        winner: the best candidate; None before the search's third phase is over.
        baselines: the winner beside other networks, each trained alone; None where that is not
            done.
        validation: how the supernet ranks; likewise.
        environment: command, commit, versions, hardware.
    """

    name: str
    config: Mapping[str, Any]
    winner: Mapping[str, Any] | None
    baselines: Mapping[str, Any] | None
    validation: Mapping[str, Any] | None
    environment: dict[str, Any] = field(default_factory=dict)


def is_search(run: Path) -> bool:
    """Whether a run folder is a search's."""
    return (run / "space.json").is_file()


def read_search_result(run: Path) -> SearchResult:
    """Reads a search's folder.

    Raises:
        InputError: a file in it is damaged.
    """
    return SearchResult(
        run.resolve().name,
        _read(run / "config.yaml") or {},
        _read(run / "winner.json"),
        _read(run / "baselines" / "baselines.json"),
        _read(run / "validate" / "validation.json"),
        _read(run / "environment.json") or {},
    )


def search_section(search: SearchResult) -> str:
    """Writes what was searched, how well the supernet ranks, and what the winner reached."""
    config = search.config
    parts = [f"## {search.name}: {_what(config)}"]
    if search.winner is not None:
        winner = search.winner
        parts.append(
            f"Winner `{winner['path']}`, {winner['macs'] / 1e6:.1f} M multiply-adds (body), score "
            f"with shared weights {100 * winner['score']:.1f}."
        )
    if search.validation is not None:
        rankings = search.validation["rankings"]
        parts += [f"{ranking_line(search.validation, way)}." for way in rankings]
    if search.baselines is not None:
        parts.append(baselines_markdown(search.baselines).strip())
    return "\n\n".join(parts)


def _what(config: Mapping[str, Any]) -> str:
    space = config.get("space")
    named = space if isinstance(space, str) and "/" not in space else "a space of its own"
    data = Path(str(config.get("data") or "?")).name
    sizes = f"{config.get('generations')} generations of {config.get('population')}"
    return (
        f"{named} at width {config.get('width', 1.0):g}, {config.get('method')}, {sizes}, "
        f"{config.get('detector')} on {data}"
    )


def _read(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    text = path.read_text(encoding="utf-8")
    try:
        found = yaml.safe_load(text) if path.suffix == ".yaml" else json.loads(text)
    except (ValueError, yaml.YAMLError) as error:
        raise InputError(f"{path}: was cut or damaged ({' '.join(str(error).split())})") from None
    if not isinstance(found, dict):
        raise InputError(f"{path}: holds no record, but a {type(found).__name__}")
    return found
