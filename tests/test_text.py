import pytest

from detnet.text import lay_out


def test_names_stand_to_the_left_and_numbers_to_the_right() -> None:
    rows = [["", "AP", "of"], ["disk", "50.0", "a"], ["bar", "7.5", "longer"]]
    assert lay_out(rows, left=(0, 2)).splitlines() == [
        "        AP  of",
        "disk  50.0  a",
        "bar    7.5  longer",
    ]
    assert lay_out([["1", "22"]], indent="  ") == "  1  22"
    assert lay_out([]) == ""


def test_rows_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        lay_out([["a", "b"], ["c"]])
