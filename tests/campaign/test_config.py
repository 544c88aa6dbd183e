"""The campaign file: settings put together, and everything in it that cannot be."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from detnet.campaign.config import (
    VariantTraining,
    read_campaign,
    read_questions,
    read_variants,
    score_kinds,
)
from detnet.errors import InputError

WHOLE: dict[str, Any] = {
    "data": {"bccd": "sets/bccd", "few": {"data": "sets/few", "epochs": 3}},
    "pretrain": {"config": "small_images", "data": "sets/classes", "epochs": 2},
    "train": {"config": "small", "epochs": 6},
    "variants": {
        "detnet59": {"backbone": "detnet59", "width": 0.5},
        "resnet50": {"backbone": "resnet50", "width": 0.5, "pretrain": {"epochs": 4}},
    },
    "seeds": 2,
    "questions": ["detnet59 over resnet50: AP85 large"],
}


def write(folder: Path, **changes: Any) -> Path:
    file = folder / "c.yaml"
    file.write_text(yaml.safe_dump({**WHOLE, **changes}))
    return file


def variants(file: Path) -> list[VariantTraining]:
    config = read_campaign(file, root=file.parent)
    found = read_variants(config, where=str(file))
    kinds = score_kinds((one.data, one.train) for one in found)
    read_questions(config, kinds, where=str(file))
    return found


def test_each_variant_is_laid_over_the_base_and_its_data(tmp_path: Path) -> None:
    found = {(one.data, one.variant): one for one in variants(write(tmp_path))}
    assert len(found) == 4
    few = found["few", "resnet50"].train
    assert (few.backbone, few.width, few.epochs) == ("resnet50", 0.5, 3)
    assert few.data == str(tmp_path / "sets/few") and few.threads == 1 and few.preset == "small"
    assert few.min_sizes == [240], "of the preset"
    assert found["bccd", "resnet50"].train.epochs == 6
    before = found["bccd", "resnet50"].pretrain
    assert before is not None and (before.backbone, before.width, before.epochs) == (
        "resnet50",
        0.5,
        4,
    )
    other = found["bccd", "detnet59"].pretrain
    assert other is not None and other.epochs == 2 and other.data == str(tmp_path / "sets/classes")


def test_a_file_of_settings_is_found_from_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base.yaml").write_text("epochs: 7\n")
    config = read_campaign(write(tmp_path, train={"config": "base.yaml"}), root=tmp_path)
    monkeypatch.chdir("/")
    first, *_ = read_variants(config, where="c.yaml")
    assert first.train.epochs == 7


def test_a_variant_can_do_without_the_pre_training(tmp_path: Path) -> None:
    scratch = {"backbone": "detnet59", "width": 0.5, "pretrain": None}
    file = write(tmp_path, variants={**WHOLE["variants"], "scratch": scratch})
    found = {one.variant: one for one in variants(file) if one.data == "bccd"}
    assert found["scratch"].pretrain is None and found["detnet59"].pretrain is not None


def test_names_may_be_numbers(tmp_path: Path) -> None:
    names = {50: {"backbone": "resnet50", "width": 0.5}, 59: WHOLE["variants"]["detnet59"]}
    file = write(tmp_path, variants=names, questions=["59 over 50: AP"])
    assert [*read_campaign(file).variants] == ["50", "59"] and len(variants(file)) == 4


def test_seeds_are_a_number_or_named(tmp_path: Path) -> None:
    assert read_campaign(write(tmp_path)).seed_numbers == (0, 1)
    assert read_campaign(write(tmp_path, seeds=[3, 5])).seed_numbers == (3, 5)


def change(name: str, **settings: Any) -> dict[str, Any]:
    return {"variants": {**WHOLE["variants"], name: settings}}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"varants": {}}, "unknown setting 'varants'; did you mean 'variants'"),
        (change("detnet59", widht=1), "variants: detnet59: unknown setting 'widht'; did you mean"),
        (change("detnet59", seed=1), "variants: detnet59: seed is the campaign's"),
        (change("detnet59", data="x"), "variants: detnet59: data belongs under data"),
        (change("detnet59", batch_size="many"), "variants: detnet59: setting batch_size"),
        (change("detnet59", width=0.5, pretrain={"epoch": 1}), "unknown setting 'epoch'"),
        (change("detnet59", width=0.5, weights="w"), "weights are those of its pre-training"),
        (change("third", backbone="detnet59", width=0.5), "detnet59 and third are the same"),
        (change("detnet59", width=0.5, patience=3), "patience would end a run by its scores"),
        ({"train": {**WHOLE["train"], "val_split": "none"}}, "leaves nothing to compare on"),
        (
            change("detnet59", val_split="x"),
            "val_split is the same for all variants; give it under",
        ),
        ({"train": {"config": "base.yaml"}}, "base.yaml: no such settings file"),
        (change("detnet59", pretrain={"width": 0.25}), "pre-trained with width 0.25, trained with"),
        (change("detnet59", pretrain=3), "pretrain: give settings, or null for none"),
        ({"variants": {"a": {}}}, "variants: give 2 or more by name, got 1"),
        ({"variants": {"a": 3, "b": {}}}, "variants: a: give settings, got 3"),
        (change("pretrain", backbone="resnet50"), "'pretrain' is no name for a folder"),
        (change("a/b", backbone="resnet50"), "'a/b' is no name for a folder"),
        ({"data": {}}, "data: give 1 or more by name"),
        ({"data": {"bccd": {"data": "x", "epoch": 1}}}, "data: bccd: unknown setting 'epoch'"),
        ({"train": {"config": "smal"}}, "unknown preset 'smal'"),
        ({"train": {"config": 5}}, "train: config must be a preset or a YAML file, got 5"),
        (
            {"pretrain": {"config": [1]}},
            "pretrain: config must be a preset or a YAML file, got [1]",
        ),
        ({"train": {"config": ""}}, "train: config must be a preset or a YAML file, got ''"),
        ({"train": {"data": "x"}}, "train: data belongs under data"),
        ({"seeds": 0}, "seeds: give a number of seeds or different ones, got 0"),
        ({"seeds": [1, 1]}, "seeds: give a number of seeds or different ones"),
        ({"seeds": "many"}, "seeds"),
        ({"confidence": 2}, "confidence must lie in (0.5, 1), got 2"),
        ({"resamples": 1}, "resamples must be 100 to 20,000, got 1"),
        ({"threads": 0}, "threads must be positive, got 0"),
        ({"retries": -1}, "retries must not be negative, got -1"),
        ({"heartbeat_s": -1.0}, "heartbeat_s must be positive and 86400 at most, got -1"),
        ({"heartbeat_s": 1e300}, "heartbeat_s must be positive and 86400 at most, got 1e+300"),
        ({"data": {"plan.json": {}}}, "'plan.json' is a file of the campaign's own folder"),
        ({"effect": -2.0, "questions": []}, "effect must be positive, got -2"),
        ({"questions": "detnet59 over resnet50: AP"}, "questions must be a list, got"),
        ({"variants": {"..": {}, "a": {}}}, "'..' is no name for a folder"),
        ({"pretrain": None}, "variants: resnet50: pretrain: the campaign has no pre-training"),
        ({"questions": ["detnet over resnet50: AP"]}, "question 1: unknown variant 'detnet'"),
    ],
)
def test_what_cannot_be_is_one_line_with_file_and_record(
    tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    file = write(tmp_path, **changes)
    with pytest.raises(InputError) as error:
        variants(file)
    text = str(error.value)
    assert text.startswith(f"{file}: ") and told in text and "\n" not in text
