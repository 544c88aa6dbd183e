"""The settings of a search: one typed dataclass, from defaults, a file and options.

Nothing here imports torch: `detnet search --help` answers at once.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from detnet.engine.launch import image_readers
from detnet.errors import InputError
from detnet.kinds import require_not_negative, require_positive
from detnet.search.costs import COSTS
from detnet.training.detection.config import fitting_options
from detnet.training.settings import Settings

BudgetName = Literal["full", "cheap"]  # of scoring
PHASES = ("pretrain", "finetune", "search", "retrain")

_POSITIVE = (
    *("search_images", "recalibration_images", "recalibration_batch"),
    *("cheap_recalibration_images", "cheap_score_images", "cheap_proposals"),
    *("width", "max_macs", "max_params", "max_latency_ms"),
)
_PLACES = ("data", "pretrain_data", "supernet", "search_annotations", "search_images_folder")
_IN_A_FILE = re.compile(r"sqlite(\+\w+)?:///(?!:memory:)|(?!.*://)")  # or no URL: a plain path


@dataclass(frozen=True)
class SearchConfig(Settings):
    """Everything a search depends on; the defaults are DetNAS's, for COCO.

    Args:
        data: data set folder that the search is for, in any layout that training takes.
        pretrain_data: folder of images in class folders, train/CLASS/… and val/CLASS/…
        train_split: split of data to train on; the search split is carved out of it.
        val_split: split of data on which networks trained alone are measured; no phase before that
            sees it.
        space: what is searched, detnas_small, detnas_large, detnet, or a YAML file of a table.
        width: factor on all channel counts, of pyramid and heads too.
        guide: what candidates are scored by, detection or classification (the paper's comparison
            ClsNAS).
        detector: what the networks are trained under.
        seed: of everything random.
        device: cpu, cuda, or auto.
        precision: fp32, bf16, or auto for bf16 where the device is fast at it.
        workers: processes that read images, per training process; by default its share of this
            machine's cores, at most 8.
        image_memory: gigabytes of decoded images that each process keeps from candidate to
            candidate; by default half of the memory that is free, shared among the processes that
            torchrun has started on this machine.
        from_scratch: no pre-training, neither of the supernet nor of networks trained alone.
        supernet: run folder of another search, whose pre-trained supernet is taken instead of
            training one; with /finetune behind it the fine-tuned one.
        pretrain_sampling: how the supernet's path is drawn in pre-training: uniform; bins of equal
            chance (the release's); fair, where each choice of a position is trained as often.
        finetune_sampling: the same in fine-tuning: uniform (the release's) or fair.
        bin_low: where the bins begin, multiply-adds with tail and a classifier of 1,000.
        bin_high: where they end.
        bin_width: of each.
        single_steps: how many of the supernet's first steps take one path, the first choices, whose
            weights then begin all others; not in the paper, for short trainings.
        pretrain: settings of the supernet's pre-training, as those of detnet pretrain.
        finetune: settings of the supernet's fine-tuning, as those of detnet train.
        search_images: how many images are kept apart from training to score candidates on; at most
            half of them.
        search_annotations: annotation file of a search split of one's own, nothing is carved then.
        search_images_folder: image folder of search_annotations.
        method: evolution (the paper's), random, or nsga2 for a front of score and objectives.
        population: candidates of a generation.
        generations: how many.
        parents: how many of the best so far have children.
        mutations: mutants in a generation.
        crossovers: crossovers in a generation.
        mutation_rate: chance of each gene of a mutant to be redrawn.
        objectives: what nsga2 makes small beside the score, of macs, params, latency_ms.
        max_macs: most multiply-adds of a candidate's body at width and cost_image_size.
        max_params: most parameters of its body.
        max_latency_ms: longest time of its body for one image on this machine.
        cost_image_size: height and width in pixels at which multiply-adds and time are taken.
        scoring: full (the paper's) or cheap.
        recalibration_images: that a candidate's batch norms are recalibrated on, in the full way.
        recalibration_batch: images of each of these batches, in both ways.
        cheap_recalibration_images: the same in the cheap way, which takes plain means.
        cheap_score_images: of the search split, that the cheap way scores on.
        cheap_proposals: regions of an image that a two-stage detector looks at in the cheap way.
        retries: how often a candidate is tried again that crashed or gave NaN.
        heartbeat_s: how often a worker shows that it is alive, once a day at least; another takes
            its candidate after two missed ones.
        storage: where the study is, postgresql://… for many machines; study.db in the run folder by
            default.
        retrain_pretrain: settings of the pre-training of networks alone.
        retrain: settings of the training of networks alone.
        validate: changes to those two, under pretrain and train, for `detnet search validate`.

    Raises:
        InputError: a setting is out of its range, or an objective unknown.
    """

    preset_folder: ClassVar[str] = "search"
    data: str = ""
    pretrain_data: str = ""
    train_split: str = "train"
    val_split: str = "val"
    space: str | dict[str, Any] = "detnas_small"
    width: float = 1.0
    guide: Literal["detection", "classification"] = "detection"
    detector: str = "faster_rcnn_fpn"
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    workers: int = field(default_factory=image_readers)
    image_memory: float | None = None
    from_scratch: bool = False
    supernet: str = ""
    pretrain_sampling: Literal["uniform", "bins", "fair"] = "bins"
    finetune_sampling: Literal["uniform", "fair"] = "uniform"
    bin_low: float = 290e6
    bin_high: float = 360e6
    bin_width: float = 10e6
    single_steps: int = 0
    pretrain: dict[str, Any] = field(default_factory=dict)
    finetune: dict[str, Any] = field(default_factory=dict)
    search_images: int = 5000
    search_annotations: str | None = None
    search_images_folder: str | None = None
    method: Literal["evolution", "random", "nsga2"] = "evolution"
    population: int = 50
    generations: int = 20
    parents: int = 10
    mutations: int = 20
    crossovers: int = 20
    mutation_rate: float = 0.1
    objectives: list[str] = field(default_factory=lambda: ["macs"])
    max_macs: float | None = 300e6
    max_params: float | None = None
    max_latency_ms: float | None = None
    cost_image_size: list[int] = field(default_factory=lambda: [224, 224])
    scoring: Literal["full", "cheap"] = "full"
    recalibration_images: int = 4000
    recalibration_batch: int = 8
    cheap_recalibration_images: int = 200
    cheap_score_images: int = 1500
    cheap_proposals: int = 1000
    retries: int = 2
    heartbeat_s: float = 60.0
    storage: str | None = None
    retrain_pretrain: dict[str, Any] = field(default_factory=dict)
    retrain: dict[str, Any] = field(default_factory=dict)
    validate: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_positive(self, *_POSITIVE)
        require_positive(self, "heartbeat_s", most=86_400)
        require_not_negative(self, "retries", "seed", "workers", "single_steps", "image_memory")
        if len(self.cost_image_size) != 2 or min(self.cost_image_size) < 1:
            raise InputError(
                f"cost_image_size takes a height and a width, got {self.cost_image_size}"
            )
        strange = [name for name in self.objectives if name not in COSTS]
        if strange or not self.objectives:
            raise InputError(
                f"objectives are of {', '.join(COSTS)}, got {', '.join(strange) or 'none'}"
            )
        for part, changes in self.validate.items():
            if part not in ("pretrain", "train"):
                raise InputError(f"validate has pretrain and train in it, got {part!r}")
            if changes is not None and not isinstance(changes, Mapping):
                raise InputError(
                    f"validate: {part} must be a group of settings, got {changes!r:.60}"
                )

    @classmethod
    def fitting(cls, values: Mapping[str, Any], changes: Mapping[str, Any]) -> Mapping[str, Any]:
        """A file's settings without the options that another detector than the file's has not."""
        found = {**values}
        if changes.get("detector", values.get("detector")) != values.get("detector"):
            for group in ("finetune", "retrain"):
                settings = values.get(group)
                options = settings.get("detector_options") if isinstance(settings, Mapping) else 0
                if options and isinstance(options, Mapping):  # else it is refused later, by name
                    kept = fitting_options(options, str(changes["detector"]))
                    found[group] = {**values[group], "detector_options": kept}
        return found

    def places(self) -> tuple[str, ...]:
        """The settings that are paths."""
        space = ("space",) if is_file(self.space) else ()
        storage = ("storage",) if self.storage and _IN_A_FILE.match(self.storage) else ()
        return (*_PLACES, *space, *storage)

    @property
    def image_memory_bytes(self) -> float | None:
        """Bytes of `image_memory`."""
        return None if self.image_memory is None else self.image_memory * 1e9

    @property
    def by_classes(self) -> bool:
        """Whether candidates are scored as classifiers."""
        return self.guide == "classification"


def is_file(space: str | dict[str, Any]) -> bool:
    """Whether a space is given as a file, not by its name or whole."""
    return isinstance(space, str) and space.endswith((".yaml", ".yml", ".json"))
