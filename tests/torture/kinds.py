"""The kinds of attacks, with their shares of the time and what is enough of each."""

from tests.torture import annotations, checkpoints, disks, images, kills, models, results
from tests.torture.harness import GIB, Attack

_train = kills.attack("train", "train", "train-workers", kills=(1, 4))

ATTACKS = {
    attack.kind: attack
    for attack in (
        Attack("coco", annotations.coco_base, annotations.coco, share=10),
        Attack("voc", annotations.voc_base, annotations.voc, share=10),
        Attack("yolo", annotations.yolo_base, annotations.yolo, share=8),
        Attack("results", results.base, results.attack, share=4),
        Attack("images", images.base, images.attack, share=8),
        Attack("models", models.base, models.attack, share=8),
        Attack(
            "checkpoints", checkpoints.base, checkpoints.attack, share=14, bound_s=60,
            memory=3 * GIB,
        ),
        Attack("disks", disks.base, disks.attack, share=12, bound_s=900, memory=None),
        Attack(
            "kill-pretrain", kills.base, kills.attack("pretrain", kills=(1, 4)), share=8,
            bound_s=900, memory=None,
        ),
        Attack("kill-train", kills.base, _train, share=10, bound_s=900, memory=None),
        Attack(
            "kill-search", kills.base, kills.attack("search", kills=(3, 6)), share=10,
            bound_s=1800, memory=None,
        ),
    )
}  # fmt: skip
