"""What compared detectors cost."""

import json
from itertools import count
from pathlib import Path

import pytest

import detnet
from detnet.backbones.cost import count_params
from detnet.detectors.files import save_model
from detnet.errors import InputError
from detnet.evaluation.comparison.sources import compare_sources
from detnet.report.comparison_cost import add_cost, measure, spread
from tests.conftest import TINY
from tests.report.runs import write_data, write_run


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    paths = []
    for backbone in ("detnet59", "resnet50"):
        options = {**TINY["detector_options"], "width": 0.125, "min_size": 64, "max_size": 100}
        model = detnet.create("faster_rcnn_fpn", backbone=backbone, num_classes=4, **options)
        paths.append(tmp_path_factory.mktemp("models") / f"{backbone}.safetensors")
        save_model(paths[-1], model)
    return paths


def test_measure(models: list[Path], tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", val=3)
    images = sorted((data / "val").iterdir())
    ticks = count()
    cost = measure(
        [models[0], None, models[1]], images, device="cpu", clock=lambda: next(ticks) / 4
    )
    first, nothing, other = cost["models"]
    assert first is not None and other is not None and nothing is None
    assert cost["images"] == 3 and cost["device"] == "cpu"
    assert first["params"] == count_params(detnet.load(models[0]).model)
    assert first["input_size"] == (64, 88)  # of 160×220
    assert 0 < first["body_macs"] < first["macs"] and first["body_macs"] > other["body_macs"]
    assert first["images_per_s"] == other["images_per_s"] == pytest.approx(4)
    assert next(ticks) == 2 * 2 * (1 + 3)  # each has a first image that is not counted


def test_a_slow_model_stops_early(models: list[Path], tmp_path: Path) -> None:
    images = sorted((write_data(tmp_path / "data", val=4) / "val").iterdir())
    ticks = count(step=5)
    cost = measure(models[:1], images, device="cpu", clock=lambda: float(next(ticks)))
    assert cost["images"] == 2
    assert [model["images_per_s"] for model in cost["models"] if model] == [pytest.approx(0.2)]


def test_models_of_runs_and_of_results(models: list[Path], tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", val=3)
    runs = [write_run(tmp_path / name, data) for name in "ab"]
    (runs[1] / "best.safetensors").write_bytes(models[1].read_bytes())
    compared = compare_sources(runs, resamples=100)
    add_cost(compared, runs, count=2)
    assert compared.comparison["cost"]["models"][0] is None
    assert compared.comparison["cost"]["models"][1]["images_per_s"] > 0
    assert compared.comparison["cost"]["images"] == 2
    json.dumps(compared.comparison)
    with pytest.raises(InputError, match="no such run folder or model file"):
        add_cost(compared, runs, models=["nowhere", "-"])
    for image in (data / "val").iterdir():
        image.unlink()
    del compared.comparison["cost"]
    add_cost(compared, runs, models=[str(models[0]), "-"])
    assert "cost" not in compared.comparison
    assert "images are not found" in compared.comparison["notes"][0]


def test_spread() -> None:
    paths = [Path(str(n)) for n in range(10)]
    assert spread(paths, 3) == [paths[0], paths[4], paths[9]]
    assert spread(paths, 99) == paths and spread([], 3) == []
