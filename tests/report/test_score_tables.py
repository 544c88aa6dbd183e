import pytest

from detnet.coco.keypoints import COCO_SIGMAS
from detnet.evaluation.metrics import names_of
from detnet.report.score_tables import PaperRow, column_title, score_view, sigmas_in_words
from detnet.training.published import PUBLISHED
from tests.report.test_page import scores


@pytest.mark.parametrize(
    ("column", "title"),
    [("mean", "mean"), ("50", ".50"), ("85", ".85"), ("92.5", ".925"), ("100", "1.00")],
)
def test_overlaps_are_titled_as_in_the_paper(column: str, title: str) -> None:
    assert column_title(column) == title


def test_own_numbers_of_results_are_shown() -> None:
    view = score_view({**scores(), "AR300": 0.7}, [])
    assert [key for key, *_ in view["headline"]][-1] == "AR300"
    assert view["paper"] is None and all(not row["paper"] for row in view["tables"][0]["rows"])


def test_the_paper_stands_beside_the_same_kind_of_scores() -> None:
    one = PaperRow(PUBLISHED["faster_rcnn_fpn", "detnet59"][0], "as it is")
    view = score_view(scores(), [one])
    assert view["headline"][0][2:] == (0.4321, 0.402)
    large = view["tables"][1]["rows"][3]
    assert large["size"] == "large" and large["paper"][-1] == pytest.approx(0.563)
    assert [table["source"] for table in view["tables"]] == ["Table 3", "Table 4"]
    assert score_view(scores("segm"), [one])["paper"] is None


def test_keypoints_have_ten_numbers() -> None:
    own = {**dict.fromkeys(names_of("keypoints"), 0.25), "AR@50": 0.3, "sigmas": [0.05] * 4}
    view = score_view({**scores("keypoints"), **own, "APs": 0.9}, [])
    assert [key for key, *_ in view["headline"]] == [*names_of("keypoints"), "AR@50"]
    long = {key: words for key, words, *_ in view["headline"]}
    assert long["AR"] == "average recall, mean over OKS .50 to .95"
    assert long["AR75"] == "average recall at OKS .75" and long["ARm"].endswith("medium objects")
    assert long["AR@50"] == "average recall, 50 results an image"
    assert view["kind"] == "Keypoints" and view["overlap"] == "OKS"
    assert "by sigma 0.05," in view["note"] and "20 results" in view["note"]


def test_the_note_says_which_ground_truth_was_taken() -> None:
    taken = "repaired in 1 of 9 annotations: left out 1 without width or height"
    view = score_view({**scores("bbox"), "ground_truth_taken": taken}, [])
    assert f"Ground truth: {taken}. s, m, l:" in view["note"]
    assert "Ground truth" not in score_view(scores("bbox"), [])["note"]  # of earlier versions


@pytest.mark.parametrize(
    ("sigmas", "words"),
    [
        (COCO_SIGMAS, "COCO's sigmas"),
        ([0.1, 0.1], "sigma 0.1"),
        ([0.1, 0.05, 0.1], "sigmas 0.1, 0.05, 0.1"),
    ],
)
def test_sigmas(sigmas: list[float], words: str) -> None:
    assert sigmas_in_words(sigmas) == words


def test_classifiers_have_theirs() -> None:
    row = {"top1": 0.5, "top5": 0.9, "top1_error": 0.5, "top5_error": 0.1, "images": 8}
    view = score_view({**row, "per_class": dict.fromkeys("abcdef", row)}, [])
    assert [value for _, _, value, _ in view["headline"]] == [0.5, 0.9, 0.5, 0.1]
    assert view["class_columns"] == ["top1", "top5"] and view["counted"] == "images"
    few = score_view({**row, "per_class": dict.fromkeys("abcde", row)}, [])
    assert [name for name, *_ in few["headline"]] == ["top-1 accuracy", "top-1 error"]
    assert few["class_columns"] == ["top1"]
