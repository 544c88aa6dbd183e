import pytest
import torch
from torchvision.models.detection.image_list import ImageList

from detnet.backbones.base import FeatureInfo
from detnet.detectors.proposals import ProposalNetwork, ProposalOptions
from detnet.errors import InputError

LEVELS = [FeatureInfo(name, 8, 16) for name in ("p4", "p5", "p6")]


def network(**options: object) -> ProposalNetwork:
    torch.manual_seed(0)
    return ProposalNetwork(8, LEVELS, ProposalOptions(**options)).eval()


BOXES = torch.tensor(
    [
        [0.0, 0.0, 40.0, 20.0],  # level 0
        [60.0, 0.0, 90.0, 20.0],
        [1.0, 0.0, 40.0, 20.0],  # level 1, the first box again and surer
        [0.0, 30.0, 50.0, 60.0],
        [-5.0, 30.0, 45.0, 58.0],  # level 2, the fourth box again, partly outside
    ]
)
LOGITS = torch.tensor([1.0, 2.0, 3.0, -1.0, -2.0])


def test_pooled_suppresses_across_levels_and_per_level_within_them() -> None:
    arguments = BOXES[None], LOGITS[None, :, None], [(60, 100)], [2, 2, 1]
    pooled, scores = network().filter_proposals(*arguments)
    assert pooled[0].tolist() == BOXES[[2, 1, 3]].tolist()  # by score, doubles gone
    assert scores[0].tolist() == pytest.approx(LOGITS[[2, 1, 3]].sigmoid().tolist())
    apart, _ = network(proposals="per_level").filter_proposals(*arguments)
    clipped = BOXES.clone()
    clipped[4, 0] = 0
    assert apart[0].tolist() == clipped[[2, 1, 0, 3, 4]].tolist()


def test_counts_are_per_image_or_per_level() -> None:
    spread = torch.tensor([[10.0 * i, 0, 10.0 * i + 8, 8] for i in range(9)])
    logits = torch.arange(9.0)
    arguments = spread[None], logits[None, :, None], [(60, 100)], [3, 3, 3]
    few = {"pre_nms_test": 2, "post_nms_test": 5}
    pooled, _ = network(**few).filter_proposals(*arguments)
    assert pooled[0].tolist() == spread[[8, 7]].tolist()
    apart, _ = network(**few, proposals="per_level").filter_proposals(*arguments)
    assert apart[0].tolist() == spread[[8, 7, 5, 4, 2]].tolist()


def test_paper_counts_by_mode() -> None:
    net = network()
    assert (net.pre_nms_top_n(), net.post_nms_top_n()) == (6000, 1000)
    net.train()
    assert (net.pre_nms_top_n(), net.post_nms_top_n()) == (12000, 2000)


def test_anchors_follow_the_levels_own_grids() -> None:
    """Three levels at one stride, as DetNet's, have anchors of three sizes on one grid."""
    net = network()
    features = {name: torch.rand(1, 8, 6, 10) for name in ("p4", "p5", "p6")}
    images = ImageList(torch.rand(1, 3, 96, 160), [(96, 160)])
    (anchors,) = net.anchor_generator(images, list(features.values()))
    sizes = (anchors[:, 2:] - anchors[:, :2]).prod(1).sqrt().view(3, 6 * 10 * 3)
    for level, size in enumerate((32, 64, 128)):
        assert sizes[level].tolist() == pytest.approx([size] * 180, rel=0.03)
    centres = (anchors[:, 2:] + anchors[:, :2]).view(3, 6, 10, 3, 2)[..., 0, :] / 2
    assert torch.equal(centres[0, 2, 3], torch.tensor([48.0, 32.0]))
    assert torch.equal(centres[0], centres[2])
    boxes, _ = net(images, features)
    assert boxes[0].shape[1] == 4 and (boxes[0][:, 2] <= 160).all() and (boxes[0][:, 3] <= 96).all()


def test_unknown_way_is_refused() -> None:
    with pytest.raises(InputError, match="'pooled' or 'per_level', got 'both'"):
        ProposalOptions(proposals="both")  # type: ignore[arg-type]
