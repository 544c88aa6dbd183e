"""The layers of int8 are chosen on other images than those that AP is told on."""

import json
from pathlib import Path

import numpy as np
import pytest

from detnet.data.folders import find_split
from detnet.data.scenes import write_scenes
from detnet.detectors import create
from detnet.detectors.files import save_model
from detnet.errors import InputError
from detnet.evaluation.results import Results
from detnet.inference.engines.predictor import open_engine
from detnet.inference.engines.record import read_export
from detnet.inference.export import checking, writing
from detnet.inference.export.checking import CheckData
from detnet.inference.export.plan import ExportPlan
from detnet.inference.export.quantising import QuantisedLayers
from detnet.inference.export.writing import ExportData, export_model
from detnet.training.detection.evaluate import load_for
from tests.inference.engines.tiny import tiny_export, tiny_network
from tests.inference.export.test_checking import Shifted

CATEGORIES = [{"id": i, "name": n} for i, n in enumerate(("disk", "square", "triangle"), 1)]


def scenes(folder: Path, val: int) -> CheckData:
    """Scenes whose file names its images backwards, so that an image's place is not its rank."""
    write_scenes(folder, train=0, val=val, size=(120, 90))
    (place,) = (folder / "annotations").glob("*val*.json")
    content = json.loads(place.read_text())
    place.write_text(json.dumps(content | {"images": content["images"][::-1]}))
    split = find_split(folder, "val")
    _, annotations, truths = load_for(split, CATEGORIES, masks=False, categories_of="m")
    assert annotations.image_ids.tolist() == [*range(val, 0, -1)]
    return CheckData(annotations, truths)


@pytest.mark.parametrize(("most", "aside"), [(200, 3), (2, 2)])
def test_images_are_set_aside_with_what_is_to_be_found_on_them(
    most: int, aside: int, tmp_path: Path
) -> None:
    whole = scenes(tmp_path, 7)
    parts = whole.divide(most)
    assert [len(part) for part in parts] == [aside, 7 - aside]
    assert sorted([*parts[0].positions, *parts[1].positions]) == list(range(7))
    truth = whole.truths.bbox
    for part in parts:
        own = part.truths.bbox
        ids = {int(whole.annotations.image_ids[place]) for place in part.positions}
        assert own.image_ids.tolist() == sorted(ids) and len(own.sizes) == len(ids)
        expected = [
            (int(truth.image_ids[image]), *box)
            for image, box in zip(truth.images, truth.boxes.tolist(), strict=True)
            if truth.image_ids[image] in ids
        ]
        found = zip(own.image_ids[own.images].tolist(), *own.boxes.T.tolist(), strict=True)
        assert [*found] == expected


def test_one_image_cannot_do_both(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs 2 images or more to validate on"):
        scenes(tmp_path, 1).divide(200)


def saved_model(path: Path) -> Path:
    network = create("faster_rcnn_fpn", backbone="resnet50", num_classes=4, width=0.125)
    network.info.categories = CATEGORIES
    network.post_processor.score_thresh = 0.05
    save_model(path, network)
    return path


def test_an_empty_folder_that_is_there_is_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where one is mounted, or where the export goes to `.`."""
    engine = open_engine(tiny_export(tmp_path / "torch"))
    monkeypatch.setattr(writing, "reference_engine", lambda *_: engine)
    monkeypatch.setattr(
        writing, "_write_network", lambda plan, model, folder: tiny_network(folder / "model.onnx")
    )
    model = saved_model(tmp_path / "best.safetensors")
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "there")
    before = Path.cwd().stat().st_ino
    done = export_model(ExportPlan(model, Path(), "onnx"), data=None, tell=lambda _: None)
    names = ["check.json", "check.png", "model.json", "model.onnx"]
    assert sorted(each.name for each in Path.cwd().iterdir()) == names
    assert Path.cwd().stat().st_ino == before and done.bytes == Path("model.onnx").stat().st_size
    read_export(Path.cwd())

    def taken(*_: object) -> None:  # while it was exported
        (tmp_path / "other" / "something").touch()
        _write_network(*_)

    (tmp_path / "other").mkdir()
    _write_network = writing._write_network
    monkeypatch.setattr(writing, "_write_network", taken)
    with pytest.raises(InputError, match="other: holds something by now"):
        export_model(ExportPlan(model, tmp_path / "other", "onnx"), data=None, tell=lambda _: None)
    assert [each.name for each in (tmp_path / "other").iterdir()] == ["something"]
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("precision", "remedy"),
    [("fp32", "in a model that has learnt little: give --data"), ("fp16", "a higher --precision")],
)
def test_what_differs_is_refused_with_what_to_try(
    precision: str, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Shifted(open_engine(tiny_export(tmp_path / "torch")))
    monkeypatch.setattr(writing, "reference_engine", lambda *_: engine)
    monkeypatch.setattr(
        writing, "_write_network", lambda plan, model, folder: tiny_network(folder / "model.onnx")
    )
    plan = ExportPlan(saved_model(tmp_path / "best.safetensors"), tmp_path / "o", "onnx", precision)
    with pytest.raises(InputError, match=f"not made: the export differs .*{remedy}"):
        export_model(plan, data=None, tell=lambda _: None)
    left = {"torch", "best.safetensors", "o-check.png"}
    assert {each.name for each in tmp_path.iterdir()} == left


def test_layers_are_chosen_on_other_images_than_ap_is_told_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way of an int8 export, with a network of a few nodes in place of what NNCF makes."""
    engine = open_engine(tiny_export(tmp_path / "torch"))
    looked_at: list[set[int]] = []

    def make(source: Path, target: Path, samples: object, *, ignored: object) -> None:
        tiny_network(target)

    def watched(*args: object, chosen: object, **others: object) -> Results:
        looked_at.append(set(chosen))
        return engine_results(*args, chosen=chosen, **others)

    engine_results = writing.engine_results
    for module in (writing, checking):
        monkeypatch.setattr(module, "engine_results", watched)
    layers = QuantisedLayers({"a": ("x",)}, ())
    monkeypatch.setattr(writing, "quantise", make)
    monkeypatch.setattr(writing, "_write_network", lambda *_: layers)
    monkeypatch.setattr(writing, "reference_engine", lambda *_: engine)
    model = saved_model(tmp_path / "best.safetensors")
    val = scenes(tmp_path / "data", 7)
    lines: list[str] = []
    done = export_model(
        ExportPlan(model, tmp_path / "export", "onnx", "int8"),
        data=ExportData(val, val.annotations),
        tell=lines.append,
    )
    to_choose, to_tell = looked_at[:2], looked_at[2:]
    assert to_choose == [to_choose[0]] * 2 and to_tell == [to_tell[0]] * 2
    assert to_choose[0] | to_tell[0] == set(range(7)) and not to_choose[0] & to_tell[0]
    assert any("choosing them on 3 of 7 validation images" in line for line in lines)
    check = json.loads((tmp_path / "export" / "check.json").read_text())
    assert (check["ap_images"], check["other_images"]) == (4, 3)
    assert done.check.ap[0].difference == 0
    assert np.isfinite(done.check.ap[0].export)
