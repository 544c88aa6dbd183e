"""The campaign file: variants over a common base, data sets, seeds, and the questions asked."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

from detnet.campaign.questions import Question, read_question
from detnet.detectors import DETECTORS
from detnet.errors import InputError
from detnet.files import read_yaml
from detnet.kinds import of_kind, require_not_negative, require_positive, say_kind
from detnet.tables import unknown_name
from detnet.training.classification.config import PretrainConfig
from detnet.training.detection.config import TrainConfig
from detnet.training.settings import HUB, Settings, absolute, combine

PRETRAIN = "pretrain"  # the folder of pre-trainings, and a variant's settings of its own
NETWORK = ("backbone", "backbone_options", "width", "stride_in")  # of both trainings
_SCORES = {"boxes": "bbox", "masks": "segm", "keypoints": "keypoints"}  # by target
_OURS = ("seed", "threads", "plugins", "preset", "departures")  # the campaign's to say
_PLACES = ("data", "train_annotations", "train_images", "val_annotations", "val_images")
_SPLITS = ("train_split", "val_split")
_OWN_FILE = re.compile(r"plan\.json|campaign\.(yaml|html)|study\.db.*|worker-\d+\.log")
_OPTIMISTIC = "would end a run by its scores on val; all variants take their whole length"


@dataclass(frozen=True)
class CampaignConfig(Settings):
    """What a campaign file says.

    Args:
        data: data sets by name, a folder or settings of `detnet train` that hold it.
        train: settings of `detnet train` that all variants share; config names a preset or file.
        pretrain: settings of `detnet pretrain` that all share; none to begin from other weights or
            from scratch.
        variants: settings of `detnet train` by the variant's name; those of the network hold for
            its pre-training, too, and settings under pretrain for that alone.
        seeds: how many, from 0 on, or which.
        questions: as "detnet59 over resnet50: AP85 large", asked on each data set.
        effect: in points, the smallest difference that matters where a question states none.
        paired: take seeds of two variants in pairs, where they share more than their number.
        share_pretraining: pre-train each variant once, with the first seed; intervals then say
            nothing about other pre-trainings.
        confidence: share of the intervals that hold the true difference.
        resamples: of the images.
        threads: of the processor in each worker.
        retries: how often a run that failed is tried again.
        heartbeat_s: how often a worker shows that it is alive, once a day at least; another takes
            its run after two.
        storage: where workers meet, postgresql://… for many machines; study.db in the folder by
            default.

    Raises:
        InputError: no data, fewer than two variants, or a number out of its range.
    """

    data: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)
    pretrain: dict[str, Any] | None = None
    variants: dict[str, Any] = field(default_factory=dict)
    seeds: int | list[int] = 3
    questions: list[Any] = field(default_factory=list)
    effect: float | None = None
    paired: bool = False
    share_pretraining: bool = False
    confidence: float = 0.95
    resamples: int = 1000
    threads: int = 1
    retries: int = 1
    heartbeat_s: float = 60.0
    storage: str | None = None

    def __post_init__(self) -> None:
        for kind, names, least in (("data", self.data, 1), ("variants", self.variants, 2)):
            if len(names) < least:
                raise InputError(f"{kind}: give {least} or more by name, got {len(names)}")
            for name in names:
                if not re.fullmatch(r"\w[\w.-]*", name) or name == PRETRAIN:
                    raise InputError(
                        f"{kind}: {name!r} is no name for a folder: letters, digits, _, - and ., "
                        f"but not {PRETRAIN}, and none that begins with - or ."
                    )
                if kind == "data" and _OWN_FILE.fullmatch(name):
                    raise InputError(f"data: {name!r} is a file of the campaign's own folder")
        if not self.seed_numbers or len(set(self.seed_numbers)) < len(self.seed_numbers):
            raise InputError(f"seeds: give a number of seeds or different ones, got {self.seeds}")
        if min(self.seed_numbers) < 0:
            raise InputError(f"seeds: {min(self.seed_numbers)} is negative")
        if not 0.5 < self.confidence < 1:
            raise InputError(f"confidence must lie in (0.5, 1), got {self.confidence}")
        if not 100 <= self.resamples <= 20_000:
            raise InputError(f"resamples must be 100 to 20,000, got {self.resamples}")
        require_positive(self, "threads", "effect")
        require_positive(self, "heartbeat_s", most=86_400)
        require_not_negative(self, "retries")

    @property
    def seed_numbers(self) -> tuple[int, ...]:
        """The seeds themselves, in their order."""
        return tuple(range(self.seeds)) if isinstance(self.seeds, int) else tuple(self.seeds)


@dataclass(frozen=True)
class VariantTraining:
    """What a variant is trained with on one data set, but for the seed.

    Args:
        variant, data: names in the file.
        pretrain: settings of its pre-training; None where it has none of its own.
        train: settings of the training.
    """

    variant: str
    data: str
    pretrain: PretrainConfig | None
    train: TrainConfig


def read_campaign(path: Path, *, root: Path | None = None) -> CampaignConfig:
    """Reads a campaign file; no plugin is imported.

    Args:
        root: where the places of data start, if not here.

    Raises:
        InputError: an unknown setting (with the nearest), or one of the wrong kind.
    """
    values, hints = read_yaml(path), get_type_hints(CampaignConfig)
    known = [entry.name for entry in fields(CampaignConfig)]
    for name in ("data", "variants"):  # YAML takes 50 for a number
        if isinstance(values.get(name), Mapping):
            values[name] = {str(key): value for key, value in values[name].items()}
    for name, value in values.items():
        if name not in known:
            raise InputError(f"{path}: {unknown_name('setting', name, known)}")
        if not of_kind(value, hints[name]):
            wanted = say_kind(hints[name])
            raise InputError(f"{path}: {name} must be {wanted}, got {str(value)[:60]!r}")
    try:
        config = CampaignConfig(**values)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    if config.pretrain is not None:
        config = replace(config, pretrain=_found(_placed(config.pretrain, root)))
    data = {
        name: _placed(entry if isinstance(entry, Mapping) else {"data": entry}, root)
        for name, entry in config.data.items()
    }
    return replace(config, data=data, train=_found(config.train))


def read_variants(config: CampaignConfig, *, where: str) -> list[VariantTraining]:
    """Puts the settings of every variant on every data set together.

    Args:
        where: the file, for messages.

    Raises:
        InputError: naming the record: an unknown setting (with the nearest), one that is the
            campaign's own, two variants that are the same, or networks that do not fit together.
    """
    found: list[VariantTraining] = []
    before = {name: _pretraining(config, name, own, where) for name, own in _own(config, where)}
    for data, settings in config.data.items():
        for name, own in _own(config, where):
            train = {key: value for key, value in own.items() if key != PRETRAIN}
            groups = {"train": config.train, f"data: {data}": settings, f"variants: {name}": train}
            made = _made(TrainConfig, groups, config, where)
            _require_sound(made, before[name], f"{where}: variants: {name}")
            found.append(VariantTraining(name, data, before[name], made))
    _require_different(found, where)
    return found


def score_kinds(trainings: Iterable[tuple[str, Any]]) -> dict[str, list[str]]:
    """The kinds of scores that all detectors on a data set have, by its name.

    Args:
        trainings: the data's name and the settings of each.

    Raises:
        InputError: an unknown detector.
    """
    found: dict[str, list[str]] = {}
    for data, train in trainings:
        kinds = [_SCORES[target] for target in DETECTORS[train.detector].targets]
        found[data] = [kind for kind in found.get(data, kinds) if kind in kinds]
    return found


def read_questions(
    config: CampaignConfig, kinds: Mapping[str, Collection[str]], *, where: str
) -> list[Question]:
    """Reads what is asked.

    Args:
        kinds: of scores, see `score_kinds`.
        where: the file, for messages.

    Raises:
        InputError: naming the question's number: of a variant, a measure or data that are not
            there.
    """
    return [
        read_question(
            asked,
            variants=config.variants,
            data=kinds,
            effect=config.effect,
            where=f"{where}: question {number}",
        )
        for number, asked in enumerate(config.questions, 1)
    ]


def _own(config: CampaignConfig, where: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each variant's own settings."""
    for name, own in config.variants.items():
        if own is not None and not isinstance(own, Mapping):
            raise InputError(f"{where}: variants: {name}: give settings, got {own!r}")
        yield name, own or {}


def _pretraining(
    config: CampaignConfig, name: str, own: Mapping[str, Any], where: str
) -> PretrainConfig | None:
    changes = own.get(PRETRAIN, {})
    if config.pretrain is None and changes:
        raise InputError(
            f"{where}: variants: {name}: pretrain: the campaign has no pre-training; give its data "
            "under pretrain"
        )
    if config.pretrain is None or changes is None:
        return None
    if not isinstance(changes, Mapping):
        raise InputError(
            f"{where}: variants: {name}: pretrain: give settings, or null for none, got {changes!r}"
        )
    network = {key: value for key, value in own.items() if key in NETWORK}
    groups = {"pretrain": config.pretrain, f"variants: {name}": {**network, **changes}}
    return _made(PretrainConfig, groups, config, where)


def _made(
    kind: Any, groups: Mapping[str, Mapping[str, Any]], config: CampaignConfig, where: str
) -> Any:
    """Puts one run's settings together, each group over those before."""
    known = [entry.name for entry in fields(kind)]
    together: dict[str, Any] = {}
    for number, (group, values) in enumerate(groups.items()):
        for key in values:
            if key == "config" and number == 0:
                continue
            if key not in known:
                raise InputError(f"{where}: {group}: {unknown_name('setting', key, known)}")
            if key in _OURS:
                raise InputError(f"{where}: {group}: {key} is the campaign's to say; leave it out")
            if key in _SPLITS and group.startswith("variants"):
                raise InputError(
                    f"{where}: {group}: {key} is the same for all variants; give it under "
                    f"{next(iter(groups))}"
                )
            if key in _PLACES and group not in ("pretrain", f"data: {group.partition(': ')[2]}"):
                raise InputError(f"{where}: {group}: {key} belongs under data")
        together = combine(together, values)
    source = together.pop("config", None)
    if source is not None and not (isinstance(source, str) and source):
        group = next(iter(groups))
        raise InputError(
            f"{where}: {group}: config must be a preset or a YAML file, got {source!r}"
        )
    together |= {"threads": config.threads, "plugins": config.plugins}
    last = list(groups)[-1]
    try:
        return absolute(kind.make(source, together))
    except InputError as error:
        said = str(error)
        if not said.endswith("no such settings file"):
            said = said.removeprefix(f"{source}: ").removeprefix("options: ")
        raise InputError(f"{where}: {last}: {said}") from error


def _require_sound(train: TrainConfig, before: PretrainConfig | None, where: str) -> None:
    """Refuses what a run would only find out after hours."""
    if train.patience or before is not None and before.patience:
        raise InputError(f"{where}: patience {_OPTIMISTIC}")
    if train.val_split == "none":
        raise InputError(f"{where}: val_split none leaves nothing to compare on")
    if before is None:
        return
    if train.weights:
        raise InputError(f"{where}: weights are those of its pre-training; leave one of them out")
    for key in ("backbone", "backbone_options", "width"):
        one, other = getattr(before, key), getattr(train, key)
        if one != other:
            raise InputError(
                f"{where}: pre-trained with {key} {one}, trained with {other}; give {key} to the "
                "variant, which both have from there"
            )


def _require_different(found: list[VariantTraining], where: str) -> None:
    seen: dict[str, str] = {}
    data = found[0].data
    for one in found:
        if one.data != data:
            continue
        same = str([replace(one.train, departures={}), one.pretrain and _bare(one.pretrain)])
        if same in seen:
            raise InputError(
                f"{where}: variants: {seen[same]} and {one.variant} are the same; leave one out"
            )
        seen[same] = one.variant


def _bare(config: PretrainConfig) -> PretrainConfig:
    return replace(config, departures={})


def _placed(settings: Mapping[str, Any], root: Path | None) -> dict[str, Any]:
    """With absolute paths."""
    return {**settings, **dict(_absolute(settings, root or Path.cwd()))}


def _found(settings: Mapping[str, Any]) -> dict[str, Any]:
    """With the whole path of the file of settings: the campaign is read again from elsewhere."""
    file = settings.get("config")
    if isinstance(file, str) and file.endswith((".yaml", ".yml")):
        return {**settings, "config": str(Path(file).resolve())}
    return {**settings}


def _absolute(settings: Mapping[str, Any], root: Path) -> Iterator[tuple[str, str]]:
    for key in _PLACES:
        value = settings.get(key)
        if isinstance(value, str) and not value.startswith(HUB):
            yield key, str((root / value).resolve())
