"""The picture of how long detectors take: bars as long as their times, names that are safe."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from detnet.inference.bench import BenchReport, Latency, TimedModel, Timing
from detnet.report.bench_chart import draw_bench

SVG = "{http://www.w3.org/2000/svg}"


def timing(name: str, **stages: float) -> Timing:
    total = sum(stages.values())
    return Timing(
        candidate=TimedModel(name, Path(name)),
        engine="torch",
        runs_as="fp32",
        total=Latency(total, 1.2 * total, 1.5 * total),
        stages={stage: Latency(ms, ms, ms) for stage, ms in stages.items()},
        images_per_s=1000 / total,
        objects=2.5,
        memory_bytes=None,
    )


def report(*timings: Timing) -> BenchReport:
    ratios = tuple(timings[0].total.p50_ms / each.total.p50_ms for each in timings)
    return BenchReport(timings, ratios, 5, (Path("a.jpg"),), None, 2)


def test_bars_are_as_long_as_their_stages() -> None:
    text = draw_bench(
        report(timing("a", decode=10.0, backbone=60.0), timing("b", decode=10.0, network=30.0))
    )
    picture = ElementTree.fromstring(text)
    bars = [rect for rect in picture.iter(f"{SVG}rect") if rect.get("height") == "26"]
    wide = [float(bar.attrib["width"]) for bar in bars]
    assert len(bars) == 4
    assert wide[1] / wide[0] == pytest.approx(6, rel=0.02)
    assert wide[3] / wide[0] == pytest.approx(3, rel=0.02)
    assert bars[0].get("fill") == bars[2].get("fill") != bars[1].get("fill")
    edge = float(bars[0].attrib["x"]) + wide[0]
    assert float(bars[1].attrib["x"]) == pytest.approx(edge, abs=0.15)
    words = " ".join(picture.itertext())
    assert "decode" in words and "backbone" in words and "heads" not in words
    assert "p50 70.0, p90 84.0, p99 105.0" in words
    assert "1.75 times as fast as the first" in words


def test_everything_lies_within_the_picture() -> None:
    text = draw_bench(report(timing("a rather long name of a model", decode=1.0, heads=900.0)))
    picture = ElementTree.fromstring(text)
    width = float(picture.attrib["width"])
    for rect in picture.iter(f"{SVG}rect"):
        assert float(rect.get("x", 0)) + float(rect.attrib["width"]) <= width
    for x in re.findall(r'd="M([\d.]+)', text):
        assert 0 <= float(x) <= width


def test_names_are_escaped() -> None:
    assert "<b>" not in draw_bench(report(timing("<b>", decode=1.0)))
