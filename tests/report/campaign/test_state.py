"""What is known of a campaign while it goes on."""

from detnet.report.campaign.state import CampaignState


def test_runs_costs_and_answers_are_read(pretended: CampaignState) -> None:
    assert [one.word for one in pretended.runs] == ["done"] * 4 + ["to do"] * 2
    assert pretended.done == 4 and len(pretended.answers) == 3
    costs = {cost.name: (cost.left, cost.seconds, cost.measured) for cost in pretended.costs}
    assert costs == {
        "detnet59 on few": (1, 60.5, True),
        "resnet50 on few": (1, 60.5, True),
    }
    assert pretended.seconds_left == 121.0
    assert set(pretended.outcomes("few", "detnet59")) == {0, 1}


def test_nothing_is_known_before_it_begins(begun: CampaignState) -> None:
    assert begun.done == 0 and begun.seconds_left is None and begun.environment == {}
