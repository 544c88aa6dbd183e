import pytest

from detnet.search.scoring.racing import racing

OTHERS = [{25: 0.30, 50: 0.32}, {25: 0.20}, {25: 0.28, 50: 0.26}, {}]


def test_only_those_far_behind_the_best_after_the_same_images_are_given_up() -> None:
    prune = racing(2, margin=0.1)
    assert prune(OTHERS, 25, 0.25) and not prune(OTHERS, 25, 0.26)  # the second best has 0.28
    assert prune(OTHERS, 50, 0.23) and not prune(OTHERS, 50, 0.24)


def test_as_many_as_are_kept_run_to_the_end_first() -> None:
    assert not racing(2)(OTHERS, 100, 0.0)
    assert not racing(4)(OTHERS, 25, 0.0) and racing(3)(OTHERS, 25, 0.0)


def test_a_race_that_keeps_nobody_is_refused() -> None:
    with pytest.raises(ValueError, match="keep must be positive"):
        racing(0)
