"""The diagnosis on a terminal."""

from detnet.evaluation.diagnosis.diagnose import diagnose
from detnet.evaluation.diagnosis.records import format_diagnosis
from tests.evaluation.diagnosis.cases import FIRST, NOWHERE, SECOND, evaluated

SMALL = """\
Errors of boxes at IoU 0.5 (AP50 25.0), and the points of AP they cost
error           count  cost
classification      1  75.0
localisation        0   0.0
both                0   0.0
duplicate           0   0.0
background          1   0.0
missed              0   0.0

Confusion at scores from 0.5 on: of 2 objects 1 found, 1 taken for another class, 0 missed; \
1 detections of nothing
Rows are labels, columns detections
            a  b  background
a           0  1           0
b           0  1           0
background  1  0           0

Calibration: scores are off by 56.7 on average (ECE), 90.0 at most, percent
scores      mean score  right  count
"""
LABEL_ERRORS = """\
Likely label errors, for a person to look at
image  kind         score  labelled  detected    x    y  width  height
x.jpg  wrong class  0.900         a         b   10   10    100     100
2      unlabelled   0.600         -         a  200  150     20      20"""


def test_a_small_diagnosis_as_text() -> None:
    evaluation = evaluated(
        [(1, "a", FIRST), (1, "b", SECOND)],
        [(1, "b", FIRST, 0.9), (1, "b", SECOND, 0.8), (2, "a", NOWHERE, 0.6)],
    )
    text = format_diagnosis(diagnose(evaluation), image_names={1: "x.jpg"})
    start, end = text.split("0.0 to 0.1")
    assert start == SMALL
    assert "0.6 to 0.7        60.0    0.0      1" in end
    assert text.endswith(LABEL_ERRORS)


def test_many_classes_are_told_as_the_most_frequent_confusions() -> None:
    classes = "abcdefghijklm"
    evaluation = evaluated(
        [(1, "a", FIRST), (2, "a", FIRST), (1, "c", SECOND)],
        [(1, "d", FIRST, 0.9), (2, "d", FIRST, 0.8), (1, "m", SECOND, 0.8)],
        classes=classes,
    )
    text = format_diagnosis(diagnose(evaluation))
    table = "Most frequent\nlabelled  detected  count\na         d             2\nc         m"
    assert table in text
    none = evaluated([], [], classes=classes)
    assert "No class is taken for another" in format_diagnosis(diagnose(none))


def test_what_is_not_there_is_a_dash() -> None:
    text = format_diagnosis(diagnose(evaluated([], [])))
    assert "None" not in text and "nan" not in text
    assert "(AP50 -)" in text
    assert "Calibration: -" in text
    assert "Likely label errors: none" in text
