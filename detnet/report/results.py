"""What finished run folders say about themselves, and their curves as pictures."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detnet.engine.run_records import read_run, shown_evaluation
from detnet.errors import InputError
from detnet.files import read_json, read_text, write_text
from detnet.report.charts import Line, chart_file
from detnet.training.catalogue import Published


@dataclass(frozen=True)
class Result:
    """What a run folder says about itself.

    Args:
        name: of the folder.
        data: name of the data set's folder.
        config: its settings.
        environment: command, commit, versions, hardware.
        scores: of its best evaluation, else of the latest by hand; masks under "segm", keypoints
            under "keypoints".
        curve: epoch and score of each evaluation, AP of a detector, top-1 error of a classifier.
        iterations: trained, of which `best_iteration` gave the scores.
        seconds: of training, evaluations included.
        published: the paper's rows that its recipe stands for.
        scored_on: data and split of the scores, where the run has no validation split of its own.
    """

    name: str
    data: str
    config: dict[str, Any]
    environment: dict[str, Any]
    scores: dict[str, Any]
    curve: tuple[tuple[float, float], ...]
    iterations: int
    best_iteration: int
    seconds: float
    published: Sequence[Published] = ()
    scored_on: str = ""

    @property
    def classifier(self) -> bool:
        """Whether the run pre-trained a backbone."""
        return "detector" not in self.config

    @property
    def images_seen(self) -> int:
        """In training, those seen several times counted as often."""
        return self.iterations * int(self.config["batch_size"])

    @property
    def model(self) -> str:
        """Detector, backbone and width, and whose weights it began with."""
        parts = [] if self.classifier else [str(self.config["detector"])]
        parts.append(str(self.config["backbone"]))
        if (width := self.config.get("width", 1.0)) != 1:
            parts.append(f"width {width:g}")
        if weights := self.config.get("weights"):
            parts.append(f"from {Path(weights).name}")
        if self.scored_on:
            parts.append(f"scored on {self.scored_on}")
        return ", ".join(parts)


def hardware(environment: Mapping[str, Any]) -> str:
    """What a run's environment.json says of the machine."""
    gpus = environment.get("gpus") or []
    if gpus:
        return f"{len(gpus)} × {gpus[0]}"
    cores, name = (environment.get(key, "?") for key in ("cpu_cores", "cpu"))
    return f"{cores} {'core' if cores == 1 else 'cores'} of {name}"


def command_of(environment: Mapping[str, Any]) -> str:
    """The command of a run's environment.json; … stands where someone keeps data and runs."""
    words = ["detnet", *environment.get("command", ["", "?"])[1:]]  # not python -m's __main__.py
    return " ".join(re.sub(r"(^|=)(?:~|\.{1,2})?/(?:[^/]+/)*", r"\1…/", word) for word in words)


def read_result(run: Path) -> Result:
    """Reads a finished run's folder.

    Raises:
        InputError: it is no run folder, is damaged, or was not evaluated.
    """
    for name in ("config.yaml", "environment.json", "metrics.jsonl"):
        if not (run / name).is_file():
            raise InputError(f"{run}: holds no run (no {name} in it)")
    scores = shown_evaluation(run) / "scores.json"
    if not scores.is_file():
        raise InputError(f"{run}: was not evaluated; run `detnet evaluate {run} --data DATA`")
    record = read_run(run)
    config, events = record.config, record.events
    best = [event for event in events if event["event"] == "evaluation" and event.get("best")]
    ends = [event for event in events if event["event"] == "end"]
    if not ends:
        raise InputError(f"{run}: is not complete; go on with `detnet train --resume {run}`")
    return Result(
        name=record.name,
        data=Path(config["data"] or config["train_annotations"]).name,
        config=config,
        environment=record.environment,
        scores=read_json(scores),
        curve=tuple(_curve(events, "AP" if "detector" in config else "top1_error")),
        iterations=ends[-1]["iteration"],
        best_iteration=best[-1]["iteration"] if best else 0,
        seconds=ends[-1]["seconds"],
        scored_on=record.scored_on,
    )


def _curve(events: list[dict[str, Any]], score: str) -> Iterator[tuple[float, float]]:
    for event in events:
        if event["event"] == "evaluation" and event.get(score) is not None:
            yield float(event.get("epoch", event["iteration"])), float(event[score])


def write_curves(results: Sequence[Result], folder: Path) -> dict[tuple[str, bool], Path]:
    """Draws the score of each evaluation over the epochs, an SVG for each kind and data set.

    Those whose runs were evaluated once only get none. The picture is named like the data set; that
    of classifiers is DATA-classifiers.svg where the same data have detectors, too.

    Returns:
        the picture by data set and whether it shows classifiers.
    """
    pictures = {}
    detected = {result.data for result in results if not result.classifier}
    for data, classifier in dict.fromkeys((result.data, result.classifier) for result in results):
        alike = [one for one in results if (one.data, one.classifier) == (data, classifier)]
        curves = [one for one in alike if one.curve[1:]]
        if curves:
            folder.mkdir(parents=True, exist_ok=True)
            name = f"{data}-classifiers" if classifier and data in detected else data
            path = pictures[data, classifier] = folder / f"{name}.svg"
            lines = [Line(one.name, [(x, 100 * y) for x, y in one.curve], "") for one in curves]
            what = "top-1 error, percent" if classifier else "AP, percent"
            write_text(path, chart_file(lines, x_name="epoch", y_name=what))
    return pictures


def read_comparison(path: Path) -> dict[str, Any]:
    """Reads what `detnet compare --output` wrote, the folder or its comparison.json.

    Raises:
        InputError: there is none, or it is damaged.
    """
    file = path / "comparison.json" if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"{file}: no such file; `detnet compare --output` writes it")
    content = read_json(file)
    if not isinstance(content, dict) or "differences" not in content:
        raise InputError(f"{file}: is no comparison; `detnet compare --output` writes them")
    return content


SINGLE_RUNS = "single runs"
_RESULTS = """# Results

Not edited by hand between its marks. Campaigns come first: many seeds, and intervals that hold for
other seeds and other images. Single runs stand at the end: one seed each says little. Small data
sets: they tell of the software, and little of the papers' claims.
"""


def put_section(page: Path, name: str, text: str) -> None:
    """Puts a section into the Markdown page of results, in the place of the one of that name.

    A new one comes before the single runs, and those come at the end. Whatever stands outside the
    marks is kept. Where there is no page, it is made.

    Args:
        page: Markdown file.
        name: for its marks: `SINGLE_RUNS`, or a campaign.
        text: Markdown.

    Raises:
        InputError: the page cannot be read, or a section has no end.
    """
    before = read_text(page) if page.exists() else _RESULTS
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    section = f"{begin}\n{text.strip()}\n{end}"
    head, there, rest = before.partition(begin)
    if there:
        _, ends, tail = rest.partition(end)
        if not ends:
            raise InputError(f"{page}: '{begin}' has no '{end}'")
    else:
        head, singles, rest = before.partition(f"<!-- {SINGLE_RUNS} -->")
        head = head.rstrip("\n") + "\n\n"
        tail = f"\n\n{singles}{rest}" if singles else "\n"
    write_text(page, head + section + tail)
