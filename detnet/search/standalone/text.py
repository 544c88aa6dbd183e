"""Networks of a search that were trained standalone, as text and as Markdown."""

from detnet.search.records import Baselines, Validation
from detnet.text import amount, interval, lay_out, percent, points


def format_validation(found: Validation) -> str:
    """How well a supernet ranks, for a terminal."""
    names = list(found.rankings)
    rows = [["network", *(f"score, {name}" for name in names), "AP", "multiply-adds", "path"]]
    ordered = sorted(found.networks, key=lambda one: -(one.AP or 0.0))
    for one in ordered:
        scores = [percent(one.scores[name], 2) for name in names]
        rows.append([one.name, *scores, percent(one.AP), amount(one.macs), one.path])
    lines = [ranking_line(found, name) for name in names]
    errors = [f"{one.name}: {one.error}" for one in ordered if one.error]
    return "\n".join([lay_out(rows, left=(0, len(names) + 3)), "", *lines, *errors])


def ranking_line(found: Validation, name: str) -> str:
    """Kendall's τ of one scoring budget, in a sentence."""
    one = found.rankings[name]
    if one.tau is None or one.interval is None:
        return f"Kendall's tau ({name} scoring) is not defined: {one.undefined}"
    low, high = one.interval
    return (
        f"Kendall's tau between the supernet's score ({name} scoring) and AP trained alone: "
        f"{one.tau:.2f} ({low:.2f} to {high:.2f}, {_sure(found.confidence)} interval, "
        f"{one.compared} networks)"
    )


def format_baselines(found: Baselines) -> str:
    """The winner beside what it must beat, for a terminal."""
    heads, *rows = _baseline_rows(found)
    table = lay_out([heads, *rows], left=(0, len(heads) - 1))
    return "\n".join([table, "", *comparison_lines(found)])


def baselines_markdown(found: Baselines) -> str:
    """The winner beside what it must beat, as a section of RESULTS.md."""
    heads, *rows = _baseline_rows(found)
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for row in rows:
        lines.append("| " + " | ".join([*row[:-1], f"`{row[-1]}`" if row[-1] else ""]) + " |")
    said = [f"- {line}" for line in comparison_lines(found)]
    return "\n".join([*lines, "", *said]) + "\n"


def comparison_lines(found: Baselines) -> list[str]:
    """What the winner has over each baseline, a sentence each."""
    lines = []
    for one in found.differences:
        text = f"the winner less {one.name}: {points(one.difference)} points of AP"
        if one.interval is not None:
            low, high = (points(end) for end in one.interval)
            text += f" ({low} to {high}, {_sure(found.confidence)} interval, Welch's)"
        lines.append(text)
    mean, random = found.networks[0].AP, found.random_values
    if random and mean is not None:
        below = sum(value < mean for value in random)
        lines.append(f"{below} of {len(random)} random networks lie below its mean")
    return lines + [f"{one.name}: {text}" for one in found.networks for text in one.notes]


def _baseline_rows(found: Baselines) -> list[list[str]]:
    """The table's cells, its head first."""
    rows = [["network", "multiply-adds", "params", "AP of each seed", "AP", "interval", "path"]]
    for one in found.networks:
        costs = [amount(one.macs), amount(one.params, 2)]
        values = " ".join(map(percent, one.values)) or "–"
        rows.append([one.name, *costs, values, percent(one.AP), interval(one.interval), one.path])
    random = found.random_values
    if len(random) > 1:
        spread = interval((min(random), max(random)))
        mean = percent(found.random_mean)
        together = interval(found.random_interval)
        rows.append(["the random ones together", "", "", spread, mean, together, ""])
    return rows


def _sure(confidence: float) -> str:
    return f"{100 * confidence:g} %"
