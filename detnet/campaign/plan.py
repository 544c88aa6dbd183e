"""A campaign's folder: which runs it is made of, written down before the first begins.

FOLDER/campaign.yaml                 the campaign as it was last given
FOLDER/plan.json                     all runs ever planned, and which data they began with
FOLDER/pretrain/VARIANT/seed-N       run folders
FOLDER/DATA/VARIANT/seed-N
FOLDER/DATA/VARIANT/seed-N/last      what the last model scores
"""

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from detnet.campaign.config import (
    PRETRAIN,
    CampaignConfig,
    VariantTraining,
    read_campaign,
    read_questions,
    read_variants,
)
from detnet.campaign.questions import Question
from detnet.data.classification.shards import index_images
from detnet.data.reading import fingerprint_files, load_annotations
from detnet.engine.runs import RunFolder
from detnet.errors import InputError
from detnet.search.records import read_record, write_record
from detnet.search.standalone.sharing import in_turn
from detnet.search.standalone.training import HABITS
from detnet.training.classification.config import PretrainConfig
from detnet.training.classification.evaluate import split_folder
from detnet.training.detection.config import TrainConfig, find_train, find_val
from detnet.training.resolve import resolve
from detnet.training.run_config import RunConfig
from detnet.training.settings import write_config

RESULT = "result.json"
_KINDS: dict[str, Any] = {"pretrain": PretrainConfig, "train": TrainConfig}
_ASIDE = {*HABITS, "device", "workers", "plugins", "preset", "departures"}  # change no result


@dataclass(frozen=True, kw_only=True)
class CampaignRun:
    """One training of the campaign, an ordinary run folder.

    Args:
        kind: "pretrain" as a classifier, "train" as a detector.
        variant: whose; of a pre-training that several share, the first of them.
        data: name of the data set; "" of a pre-training.
        seed: of everything random in it.
        folder: below the campaign's.
        settings: as config.yaml has them when the run begins.
        needs: folder of the pre-training that it begins from; None for none.
    """

    kind: Literal["pretrain", "train"]
    variant: str
    data: str
    seed: int
    folder: str
    settings: dict[str, Any]
    needs: str | None = None

    @property
    def title(self) -> str:
        """For people."""
        what = "pre-training" if self.kind == "pretrain" else f"on {self.data}"
        return f"{self.variant} {what}, seed {self.seed}"

    def config(self) -> PretrainConfig | TrainConfig:
        """Its settings.

        Raises:
            InputError: they are of another version.
        """
        try:
            return _KINDS[self.kind](**self.settings)
        except TypeError as error:
            raise InputError(f"plan.json: {self.folder}: of another version: {error}") from error


@dataclass(frozen=True, kw_only=True)
class DataRecord:
    """Data as they were when the first run began.

    Args:
        fingerprint: of annotations, or of classes and names of images.
        images: to train on.
    """

    fingerprint: str
    images: int


@dataclass(frozen=True, kw_only=True)
class CampaignPlan:
    """All runs ever planned, in the order in which they were, and what they need to be alike.

    Args:
        file: the campaign file as it was named.
        rooted: whether it was told where the places of data start.
        identity: by which workers on a storage know it, drawn at random.
        data: by name; of pre-training "pretrain".
    """

    file: str
    identity: str
    runs: tuple[CampaignRun, ...] = ()
    data: dict[str, DataRecord] = field(default_factory=dict)
    rooted: bool = False


@dataclass(frozen=True)
class Campaign:
    """A campaign's folder, its settings, and the runs that these ask for.

    Args:
        plan: of all runs.
        asked: positions in the plan of those that the settings ask for, in the order in which they
            are done: round by round, pre-trainings first.
    """

    folder: Path
    config: CampaignConfig
    variants: tuple[VariantTraining, ...]
    questions: tuple[Question, ...]
    plan: CampaignPlan
    asked: tuple[int, ...]

    @property
    def runs(self) -> list[CampaignRun]:
        """The runs asked for, in their order."""
        return [self.plan.runs[number] for number in self.asked]

    @property
    def rounds(self) -> int:
        """As many as there are seeds."""
        return len(self.config.seed_numbers)

    def round_of(self, run: CampaignRun) -> int:
        """Of which round a run is: the place of its seed."""
        return self.config.seed_numbers.index(run.seed)

    def place(self, run: CampaignRun) -> Path:
        """Its run folder."""
        return self.folder / run.folder

    def is_done(self, run: CampaignRun) -> bool:
        """Whether nothing is left to do."""
        return (self.place(run) / RESULT).is_file()

    def seeds_paired(self, first: str, other: str) -> bool:
        """Whether seeds of two variants are taken in pairs: by design, or by their pre-training."""
        needs = {
            name: [run.needs for run in self.runs if run.variant == name and run.needs]
            for name in (first, other)
        }
        shared = bool(needs[first]) and needs[first] == needs[other]
        return self.config.paired or shared and not self.config.share_pretraining

    @cached_property
    def storage(self) -> str:
        """Where its workers meet."""
        return self.config.storage or str(self.folder / "study.db")


def begin_campaign(
    file: Path, folder: Path, *, root: Path | None = None, plugins: Sequence[str] = ()
) -> Campaign:
    """Plans a campaign in a folder, or adds to the one there; looks at all that runs will need.

    Args:
        root: where the places of data start, if not here.
        plugins: modules besides those that the file names.

    Raises:
        InputError: naming the file and the record: see `read_campaign` and `read_variants`; runs
            that exist with other settings; data that changed since the first run.
    """
    config = read_campaign(file, root=root)
    config = replace(config, plugins=[*dict.fromkeys([*config.plugins, *plugins])])
    where = str(file)
    variants = read_variants(config, where=where)
    read_questions(config, variants, where=where)
    _require_networks(variants, where)
    if (folder / "config.yaml").exists():
        raise InputError(f"{folder}: holds a run; give a folder of its own to the campaign")
    with in_turn(folder):
        place = folder / "plan.json"
        fresh = CampaignPlan(file=where, identity=uuid.uuid4().hex)
        before = read_record(CampaignPlan, place) if place.exists() else fresh
        plan = replace(before, file=where, rooted=root is not None)
        for run in _wanted(config, variants, folder, before):
            known = {one.folder: one for one in plan.runs}
            if run.folder in known:
                _require_alike(known[run.folder], run, where, folder)
            else:
                plan = replace(plan, runs=(*plan.runs, run))
        plan = replace(plan, data={**plan.data, **_data_of(config, variants, plan, folder)})
        write_record(place, plan)
        write_config(config, folder / "campaign.yaml")
    return open_campaign(folder)


def open_campaign(folder: Path) -> Campaign:
    """Finds the campaign in a folder.

    Raises:
        InputError: there is none, or its files are damaged.
    """
    file = folder / "campaign.yaml"
    if not file.is_file():
        raise InputError(f"{folder}: holds no campaign (no campaign.yaml in it)")
    config = read_campaign(file)
    variants = read_variants(config, where=str(file))
    plan = read_record(CampaignPlan, folder / "plan.json")
    numbers = {run.folder: number for number, run in enumerate(plan.runs)}
    wanted = [run.folder for run in _wanted(config, variants, folder, plan)]
    missing = [name for name in wanted if name not in numbers]
    if missing:
        raise InputError(f"{folder / 'plan.json'}: {missing[0]} is not planned; begin once more")
    return Campaign(
        folder,
        config,
        tuple(variants),
        tuple(read_questions(config, variants, where=str(file))),
        plan,
        tuple(numbers[name] for name in wanted),
    )


def require_same_data(campaign: Campaign, run: CampaignRun) -> None:
    """Refuses data that changed since the first run.

    Raises:
        InputError: naming them.
    """
    name = run.data or PRETRAIN
    _require_same(run.config(), name, campaign.plan.data.get(name), campaign.folder)


def _require_networks(variants: Sequence[VariantTraining], where: str) -> None:
    """Builds every network without its weights, so that what cannot be built is told first."""
    for one in variants:
        pretrained = replace(one.train, weights=one.train.weights or PRETRAIN)
        train = pretrained if one.before is not None else one.train
        for settings in (one.before, train):
            if settings is None:
                continue
            try:
                resolve(settings, load_weights=False)
            except InputError as error:
                raise InputError(f"{where}: variants: {one.variant}: {error}") from error


def _wanted(
    config: CampaignConfig,
    variants: Sequence[VariantTraining],
    folder: Path,
    plan: CampaignPlan,
) -> list[CampaignRun]:
    """The runs that settings ask for, round by round; pre-trainings that are alike once."""
    found: dict[str, CampaignRun] = {}
    for seed in config.seed_numbers:
        needs: dict[str, str] = {}
        first = config.seed_numbers[0] if config.share_pretraining else seed
        for one in variants:
            if one.before is not None and one.variant not in needs:
                before = _pretraining(one, one.before, first, [*found.values(), *plan.runs])
                found.setdefault(before.folder, before)
                needs[one.variant] = before.folder
        for one in variants:
            train = replace(one.train, seed=seed)
            if one.variant in needs:
                model = RunFolder(folder.resolve() / needs[one.variant]).model  # the last
                train = replace(train, weights=str(model))
            name = f"{one.data}/{one.variant}/seed-{seed}"
            found[name] = CampaignRun(
                kind="train",
                variant=one.variant,
                data=one.data,
                seed=seed,
                folder=name,
                settings=asdict(train),
                needs=needs.get(one.variant),
            )
    return [*found.values()]


def _pretraining(
    one: VariantTraining, before: PretrainConfig, seed: int, others: Sequence[CampaignRun]
) -> CampaignRun:
    """A pre-training of its own, or that of another variant that has the same."""
    settings = asdict(replace(before, seed=seed))
    own = CampaignRun(
        kind="pretrain",
        variant=one.variant,
        data="",
        seed=seed,
        folder=f"{PRETRAIN}/{one.variant}/seed-{seed}",
        settings=settings,
    )
    for other in others:
        alike = other.kind == "pretrain" and not [*_differing(other, own)]
        if alike or other.folder == own.folder:
            return replace(other, settings=own.settings)
    return own


def _require_alike(before: CampaignRun, now: CampaignRun, where: str, folder: Path) -> None:
    for name, old, new in _differing(before, now):
        raise InputError(
            f"{where}: {now.title}: {name} is {new}, but {folder / now.folder} was planned with "
            f"{old}; restore it, or give the variant another name"
        )


def _differing(before: CampaignRun, now: CampaignRun) -> Iterator[tuple[str, Any, Any]]:
    """Names and values of the settings that make two runs other runs."""
    config = _KINDS[now.kind]()
    # Data that moved are the same by their fingerprint, pre-trained weights by their own settings.
    aside = {*_ASIDE, *config.places()} - (set() if now.needs else {"weights"})
    for name, new in now.settings.items():
        old = before.settings.get(name, getattr(config, name))
        if name not in aside and old != new:
            yield name, old, new


def _data_of(
    config: CampaignConfig, variants: Sequence[VariantTraining], plan: CampaignPlan, folder: Path
) -> dict[str, DataRecord]:
    """Looks at the data, and refuses others than before."""
    found: dict[str, DataRecord] = {}
    for one in variants:
        parts: list[tuple[str, RunConfig]] = [(one.data, one.train)]
        if one.before is not None:
            parts.append((PRETRAIN, one.before))
        for name, settings in parts:
            if name not in found:
                found[name] = _require_same(settings, name, plan.data.get(name), folder)
    return found


def _require_same(
    settings: RunConfig, name: str, known: DataRecord | None, folder: Path
) -> DataRecord:
    print_ = _fingerprint(settings)
    if known is None:
        return DataRecord(fingerprint=print_, images=_count(settings))
    if known.fingerprint != print_:
        raise InputError(
            f"{settings.data}: changed since the first run of {folder} (plan.json: data: {name}); "
            "put back what was there, or begin a campaign in another folder"
        )
    return known


def _fingerprint(settings: RunConfig) -> str:
    if isinstance(settings, TrainConfig):
        val = find_val(settings)
        if val is None:
            raise InputError(f"{settings.data}: no split {settings.val_split!r} to compare on")
        return f"{fingerprint_files(find_train(settings))} {fingerprint_files(val)}"
    return _images(settings).fingerprint()


def _count(settings: RunConfig) -> int:
    if isinstance(settings, TrainConfig):
        return len(load_annotations(find_train(settings), keep_empty=not settings.skip_empty)[0])
    return len(_images(settings))


def _images(settings: RunConfig) -> Any:
    if not settings.data:
        raise InputError("pretrain: data: give a folder with train/CLASS/image.jpg")
    return index_images(split_folder(Path(settings.data), settings.train_split))
