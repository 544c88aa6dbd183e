"""One HTML page of a campaign, complete in itself; of one that goes on, the state so far."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path

from detnet.campaign.answers import Answer
from detnet.campaign.statistics import POWER, Verdict
from detnet.evaluation.comparison.bootstrap import NOISE
from detnet.evaluation.metrics import prefix
from detnet.files import write_text
from detnet.report.campaign.state import CampaignState, RunStand
from detnet.report.campaign.text import lines_of, progress_line, score_tables
from detnet.report.charts import Chart, Frame, Line, line_chart, nice_ticks, plot, style_of
from detnet.report.comparison_view import Axis, Row, on_axis
from detnet.report.rendering import flat_settings, render_template
from detnet.text import duration

_WORDS: dict[Verdict, str] = {"agrees": "higher", "disagrees": "lower", "cannot tell": "noise"}
_SPREAD = 0.28  # half the width, of 1, over which a side's seeds lie apart


@dataclass(frozen=True)
class AnswerCard:
    """A question on one data set, as the page shows it.

    Args:
        style: of its verdict.
        seeds: a drawing of every seed's score, HTML; empty before there are any.
    """

    answer: Answer
    verdict: str
    style: str
    lines: list[str]
    seeds: str


def write_campaign_page(path: Path, state: CampaignState) -> Path:
    """Writes the page of a campaign, and gives its path."""
    write_text(path, render(state))
    return path


def render(state: CampaignState) -> str:
    """Makes the page's HTML."""
    variants = state.campaign.config.variants
    styles = {name: style_of(index) for index, name in enumerate(variants)}
    cards = [_card(answer, styles) for answer in state.answers]
    forests = [
        (data, axis, [card for card in cards if card.answer.data == data])
        for data in state.campaign.config.data
        if (axis := _forest(data, state.answers)) is not None
    ]
    charts = _curves(state, styles)
    tables = score_tables(state)
    sections = [
        ("answers", "Answers", cards),
        ("scores", "Scores", tables),
        ("curves", "Curves", charts),
        ("runs", "Runs", state.runs),
        ("settings", "Settings", True),
    ]
    config = asdict(state.campaign.config)
    return render_template(
        "campaign.html.j2",
        campaign=state,
        name=state.name,
        progress=progress_line(state),
        figures=_figures(state),
        cards=cards,
        forests=forests,
        tables=tables,
        charts=charts,
        rows=[(one, *_took(one)) for one in state.runs],
        sections=[(anchor, title) for anchor, title, content in sections if content],
        sure=f"{100 * state.campaign.config.confidence:g} %",
        by_chance=f"{100 * (1 - state.campaign.config.confidence):.3g}",
        power=f"{100 * POWER:g} %",
        resamples=state.campaign.config.resamples,
        config=flat_settings(config),
        environments=[flat_settings(one) for one in state.environments],
    )


def _card(answer: Answer, styles: Mapping[str, str]) -> AnswerCard:
    verdict: Verdict = answer.found.verdict if answer.found else "cannot tell"
    drawing = _seed_drawing(answer, styles)
    return AnswerCard(answer, verdict, _WORDS[verdict], lines_of(answer), drawing)


def _figures(state: CampaignState) -> list[tuple[str, str]]:
    found = [one.found for one in state.answers]
    verdicts: list[str] = [one.verdict if one else "cannot tell" for one in found]
    counts = [(str(verdicts.count(word)), word) for word in _WORDS] if verdicts else []
    runs = [(f"{state.done} of {len(state.runs)}", "runs done")]
    if state.done < len(state.runs) and state.seconds_left is not None:
        runs.append((duration(state.seconds_left), "left for one worker"))
    return counts + runs


def _forest(data: str, answers: Sequence[Answer]) -> Axis | None:
    """The intervals of all questions on one data set, on a common axis."""
    rows, last = [], ""
    for answer in answers:
        found = answer.found
        if answer.data != data or found is None:
            continue
        pair, _, measure = answer.question.text.partition(": ")
        first, other = answer.means
        low, high = found.interval or (None, None)
        row = Row(
            measure,
            first=other or 0.0,
            other=first or 0.0,
            difference=found.value,
            low=low,
            high=high,
            verdict=NOISE if found.verdict == "cannot tell" else _WORDS[found.verdict],
            group="" if pair == last else pair,
        )
        rows.append(row)
        last = pair
    return on_axis(rows) if rows else None


def _seed_drawing(answer: Answer, styles: Mapping[str, str]) -> str:
    """Every seed's score as a dot, and the means as lines."""
    values = [value for side in answer.values for value in side]
    if not values:
        return ""
    low, high = min(values), max(values)
    ticks = nice_ticks(low, max(high, low + 0.01), about=4)  # they may be all the same
    frame = Frame(0, 2, ticks[0], ticks[-1])
    names = (answer.question.first, answer.question.other)
    parts = []
    places: list[list[tuple[float, float]]] = []
    for side, scores in enumerate(answer.values):
        style = styles[names[side]]
        width = max(1, len(scores) - 1)
        across = [side + 0.5 + _SPREAD * (2 * i / width - 1) for i in range(len(scores))]
        if len(scores) == 1:
            across = [side + 0.5]
        places.append([frame.place(x, y) for x, y in zip(across, scores, strict=True)])
        mean = sum(scores) / len(scores)
        (x0, y), (x1, _) = frame.place(side + 0.15, mean), frame.place(side + 0.85, mean)
        parts.append(f'<polyline class="{style}" points="{x0},{y} {x1},{y}"/>')
        parts += [
            f'<path class="dot {style}" d="M{x} {y}h0"><title>{escape(names[side])}, seed {seed}: '
            f"{100 * score:.1f}</title></path>"
            for (x, y), seed, score in zip(places[side], answer.seeds[side], scores, strict=True)
        ]
    if answer.found and answer.found.paired:
        parts += [
            f'<line class="even" x1="{a[0]}" y1="{a[1]}" x2="{b[0]}" y2="{b[1]}"/>'
            for a, b in zip(*places, strict=True)
        ]
    return plot(
        parts,
        frame,
        [(0.5, names[0]), (1.5, names[1])],
        [(tick, f"{100 * tick:g}") for tick in ticks],
        x_name=answer.question.text.partition(": ")[2],
        label=f"scores of each seed: {answer.question.text}",
        style="chart seeds",
    )


def _curves(state: CampaignState, styles: Mapping[str, str]) -> list[Chart]:
    """AP by epoch on each data set, a line for each seed, a colour for each variant."""
    found = []
    for data in state.campaign.config.data:
        for kind, words in (("bbox", ""), ("segm", " of masks"), ("keypoints", " of keypoints")):
            key, lines = f"{prefix(kind)}AP", []
            for one in state.runs:
                points = [
                    (float(event["epoch"]), float(event[key]))
                    for event in one.events
                    if event.get("event") == "evaluation" and event.get(key) is not None
                ]
                if one.run.data == data and points:
                    lines.append(Line(one.run.variant, points, styles[one.run.variant]))
            drawing = line_chart(lines, x_name="epoch", percent=True)
            if drawing:
                legend = [*dict.fromkeys((line.name, line.style) for line in lines)]
                note = "a line for each seed, by the evaluations during training"
                found.append(Chart(f"AP{words} on {data}", legend, drawing, note))
    losses = [_loss_chart(state, data, styles) for data in state.campaign.config.data]
    return [*found, *(one for one in losses if one is not None)]


def _loss_chart(state: CampaignState, data: str, styles: Mapping[str, str]) -> Chart | None:
    lines = []
    for one in state.runs:
        steps = [
            (float(event["epoch"]), float(event["loss"]))
            for event in one.events
            if event.get("event") == "step" and event.get("loss") is not None
        ]
        if one.run.data == data and steps:
            lines.append(Line(one.run.variant, _even(steps), styles[one.run.variant]))
    drawing = line_chart(lines, x_name="epoch", dots=False)
    if not drawing:
        return None
    legend = [*dict.fromkeys((line.name, line.style) for line in lines)]
    return Chart(f"Loss on {data}", legend, drawing, "means over a twentieth of the run")


def _even(steps: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Twenty means, so that many seeds can lie over each other."""
    size = -(-len(steps) // 20)
    blocks = [steps[i : i + size] for i in range(0, len(steps), size)]
    return [(b[-1][0], sum(y for _, y in b) / len(b)) for b in blocks]


def _took(one: RunStand) -> tuple[str, str]:
    """A run's score and time, as the table shows them."""
    if one.outcome is None:
        return "", ""
    score = one.outcome.scores.get("AP")
    return "" if score is None else f"{100 * score:.1f}", duration(one.outcome.seconds)
