import pytest

from detnet.coco.categories import Categories
from detnet.errors import InputError

ODD = [{"id": 90, "name": "bus"}, {"id": 0, "name": "cat"}, {"id": 7, "name": "Löwe"}]


def test_labels_follow_ascending_ids_whatever_the_order_and_the_gaps() -> None:
    categories = Categories.from_json(ODD)
    assert categories.ids == (0, 7, 90)
    assert len(categories) == 3
    assert categories.names == ("cat", "Löwe", "bus")


def test_json_and_back() -> None:
    categories = Categories.from_json(ODD)
    assert Categories.from_json(categories.to_json()) == categories


def test_ids_must_ascend() -> None:
    with pytest.raises(ValueError, match="ascend"):
        Categories((3, 2), ("a", "b"))


def test_the_same_set_is_accepted_and_another_named_in_one_line() -> None:
    categories = Categories.from_json(ODD)
    categories.require_same(Categories.from_json(ODD[::-1]), mine="a", theirs="b")
    other = Categories((0, 7, 8), ("cat", "lion", "dog"))
    with pytest.raises(InputError) as caught:
        categories.require_same(other, mine="m.safetensors", theirs="val.json")
    message = str(caught.value)
    assert "\n" not in message
    assert "only m.safetensors has 90 'bus'" in message
    assert "only val.json has 8 'dog'" in message
    assert "id 7 is 'Löwe' in m.safetensors but 'lion' in val.json" in message
