"""A search's networks, preferences and candidates, made ready for the page's template."""

from collections.abc import Mapping, Sequence
from typing import Any

from detnet.report.search.charts import cost_name, cost_text
from detnet.report.search.records import STATES, CandidateRow, GeneRow, SearchRecord


def network_view(
    record: SearchRecord, path: Sequence[int], *, beside: Sequence[int] = ()
) -> dict[str, Any]:
    """One network drawn gene by gene, a row per stage.

    Args:
        record: the search, whose genes it is made of.
        path: the network.
        beside: another one; where the two differ is marked.
    """
    stages = dict.fromkeys([*record.fixed, *(gene.stage for gene in record.genes)])
    rows: dict[str, dict[str, Any]] = {
        stage: {"stage": stage, "note": record.stage_notes.get(stage, ""), "cells": []}
        for stage in stages
    }
    for index, (gene, choice) in enumerate(zip(record.genes, path, strict=True)):
        rows[gene.stage]["cells"].append(
            {
                "gene": index,
                "name": gene.name,
                "choice": choice,
                "label": gene.labels[choice],
                "note": gene.note,
                "title": ", ".join(filter(None, (gene.name, gene.choices[choice], gene.note))),
                "differs": bool(beside) and beside[index] != choice,
            }
        )
    columns = _columns(record)
    if not record.alike:
        for stage, row in rows.items():  # a table: the same question of all stages under one head
            there = {cell["name"]: cell for cell in row["cells"]}
            fixed = record.fixed.get(stage, {})
            row["cells"] = [there.get(name) or {"fixed": fixed.get(name, "")} for name in columns]
            row["absent"] = there.get("depth", {}).get("label") == "0"
    return {"alike": record.alike, "columns": columns, "rows": list(rows.values())}


def _columns(record: SearchRecord) -> list[str]:
    """The questions, in the order of the stage that has most."""
    named = [gene.name for gene in record.genes]
    whole: dict[str, list[str]] = {}
    for gene in record.genes:
        whole.setdefault(gene.stage, []).append(gene.name)
    longest = max(whole.values(), key=len, default=[])
    fixed = [name for answers in record.fixed.values() for name in answers]
    return list(dict.fromkeys([*longest, *named, *fixed]))


def kinds_legend(record: SearchRecord) -> list[tuple[int, str, str]]:
    """Index, label and name of each kind of block, where all genes have the same."""
    if not record.genes or not record.alike:
        return []
    gene = record.genes[0]
    pairs = zip(gene.labels, gene.choices, strict=True)
    return [(index, label, name) for index, (label, name) in enumerate(pairs)]


def genes_for_script(genes: Sequence[GeneRow]) -> list[dict[str, Any]]:
    """What the script needs to draw another path."""
    return [
        {"name": gene.name, "labels": gene.labels, "choices": gene.choices, "note": gene.note}
        for gene in genes
    ]


def preference_view(preferences: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Heat tables: rows by stage (where all genes are alike) and by gene."""
    if not preferences:
        return None
    return {
        "best": preferences["best"],
        "all": preferences["all"],
        "stages": [_heat_row(row, row["stage"], "") for row in preferences["stages"]],
        "genes": [_heat_row(row, row["stage"], row["name"]) for row in preferences["genes"]],
    }


def _heat_row(row: Mapping[str, Any], stage: str, name: str) -> dict[str, Any]:
    cells = []
    for choice, best, everyone in zip(row["choices"], row["best"], row["all"], strict=True):
        more = best - everyone
        cells.append(
            {
                "choice": choice,
                "best": f"{100 * best:.0f}",
                "all": f"{100 * everyone:.0f}",
                "kind": "more" if more >= 0 else "less",
                "strength": f"{min(50.0, 110 * abs(more)):.0f}",
                "most": best > 0 and best == max(row["best"]),
            }
        )
    return {"stage": stage, "name": name, "cells": cells}


def candidate_rows(
    record: SearchRecord, *, winner: CandidateRow | None, on_front: Sequence[CandidateRow]
) -> list[dict[str, Any]]:
    """The table's rows; numbers to sort by beside the texts."""
    workers = sorted({one.worker for one in record.candidates if one.worker})
    front = {(one.generation, one.slot) for one in on_front}
    paths = sorted({one.text for one in record.candidates})
    order = {text: index for index, text in enumerate(paths)}
    return [
        {
            "number": number,
            "generation": one.generation,
            "slot": one.slot,
            "path": one.text,
            "order": order[one.text],
            "indices": "".join(map(str, one.path)),
            "score": _value(one.score),
            "score_text": score_text(one.score),
            "costs": [
                (_value(one.costs.get(n)), cost_text(n, one.costs.get(n)))
                for n in record.cost_names
            ],
            "state": one.state,
            "state_order": STATES.index(one.state) if one.state in STATES else len(STATES),
            "seconds": _value(one.seconds),
            "seconds_text": "–" if one.seconds is None else f"{one.seconds:,.1f}",
            "worker": one.worker or "–",
            "worker_order": workers.index(one.worker) if one.worker else "",
            "attempts": one.attempts,
            "error": one.error or "",
            "winner": one is winner,
            "front": (one.generation, one.slot) in front,
        }
        for number, one in enumerate(record.candidates)
    ]


def score_text(score: float | None) -> str:
    """A score in percent with the second decimal that neighbours in a search differ in."""
    return "–" if score is None else f"{100 * score:.2f}"


def duration(seconds: float | None) -> str:
    """Seconds in the two units that tell most."""
    if seconds is None:
        return "–"
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def cost_heads(record: SearchRecord) -> list[tuple[str, str]]:
    """Key and words of each cost that candidates have."""
    return [(name, cost_name(name)) for name in record.cost_names]


def _value(number: float | None) -> str:
    return "" if number is None else f"{number:.6g}"
