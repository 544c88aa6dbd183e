"""A campaign's folder: which runs it is made of, written down before the first begins.

FOLDER/campaign.yaml                 the campaign as it was last given
FOLDER/plan.json                     all runs ever planned, and which data they began with
FOLDER/pretrain/VARIANT/seed-N       run folders
FOLDER/DATA/VARIANT/seed-N
FOLDER/DATA/VARIANT/seed-N/last      what the last model scores
"""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from pathlib import Path

from detnet.campaign.config import (
    PRETRAIN,
    CampaignConfig,
    VariantTraining,
    read_campaign,
    read_questions,
    read_variants,
    score_kinds,
)
from detnet.campaign.data import DataRecord, look_at_data, require_same
from detnet.campaign.questions import Question
from detnet.campaign.runs import CampaignRun, require_alike, training_folder, wanted_runs
from detnet.engine.runs import RunFolder
from detnet.errors import InputError
from detnet.plugins import explaining_plugins, load_plugins
from detnet.search.records import read_record, write_record
from detnet.search.standalone.sharing import in_turn
from detnet.search.study.storage import parse_storage
from detnet.training.classification.config import PretrainConfig
from detnet.training.detection.config import TrainConfig
from detnet.training.resolve import resolve
from detnet.training.settings import with_plugins, write_config

RESULT = "result.json"


@dataclass(frozen=True, kw_only=True)
class CampaignPlan:
    """All runs ever planned, in the order in which they were, and what they need to be alike.

    Args:
        file: the campaign file as it was named.
        rooted: whether it was told where the places of data start.
        identity: by which workers on a storage know it, drawn at random.
        data: by name; of pre-training "pretrain".
        paired: whether seeds are taken in pairs, as was said before any was scored; None in a plan
            of an earlier version.
        kinds: of scores that the detectors have, by data; none in a plan of an earlier version.
    """

    file: str
    identity: str
    paired: bool | None = None
    runs: tuple[CampaignRun, ...] = ()
    data: dict[str, DataRecord] = field(default_factory=dict)
    rooted: bool = False
    kinds: dict[str, list[str]] = field(default_factory=dict)


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

    def settings(self, run: CampaignRun) -> PretrainConfig | TrainConfig:
        """Its settings; it begins from its pre-training wherever this folder lies by now.

        Raises:
            InputError: they are of another version.
        """
        config = run.config()
        if run.needs is None:
            return config
        model = RunFolder(self.folder.resolve() / run.needs).model  # the last
        return replace(config, weights=str(model))

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
    config = with_plugins(read_campaign(file, root=root), beside=file.parent)
    config = replace(config, plugins=[*dict.fromkeys([*config.plugins, *load_plugins(plugins)])])
    where = str(file)
    if config.storage:
        try:
            parse_storage(config.storage)
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
    variants = read_variants(config, where=where)
    kinds = score_kinds((one.data, one.train) for one in variants)
    read_questions(config, kinds, where=where)
    _require_networks(variants, where)
    if (folder / "config.yaml").exists():
        raise InputError(f"{folder}: holds a run; give a folder of its own to the campaign")
    with _leaving_nothing(folder), in_turn(folder):
        place = folder / "plan.json"
        fresh = CampaignPlan(file=where, identity=uuid.uuid4().hex)
        before = read_record(CampaignPlan, place) if place.exists() else fresh
        runs = {run.folder: run for run in before.runs}
        for run in wanted_runs(config, variants, before.runs):
            if run.folder in runs:
                require_alike(runs[run.folder], run, where, folder)
            runs[run.folder] = run  # in its place, with what may have changed
        _require_same_pairs(before, config, where, folder)
        data = {**before.data, **look_at_data(variants, before.data, where, folder)}
        plan = replace(
            before,
            file=where,
            rooted=root is not None,
            runs=tuple(runs.values()),
            data=data,
            paired=config.paired,
            kinds=kinds,
        )
        write_record(place, plan)
        write_config(config, folder / "campaign.yaml")
    return open_campaign(folder)


@contextmanager
def _leaving_nothing(folder: Path) -> Iterator[None]:
    """Takes a folder that was made for a campaign away again where that is refused."""
    new = [place for place in (folder / ".lock", folder) if not place.exists()]
    try:
        yield
    except InputError:
        with suppress(OSError):  # another may have begun its own there meanwhile
            for place in new:
                place.rmdir() if place.is_dir() else place.unlink()
        raise


def open_campaign(folder: Path, *, plugins: bool = False) -> Campaign:
    """Finds the campaign in a folder as it was planned.

    Args:
        plugins: import those that its settings name, to work on it and not only look.

    Raises:
        InputError: there is none, or its files are damaged.
    """
    file, place = folder / "campaign.yaml", folder / "plan.json"
    if not file.is_file():
        raise InputError(f"{folder}: holds no campaign (no campaign.yaml in it)")
    config = read_campaign(file)
    if plugins:
        load_plugins(config.plugins)
    plan = read_record(CampaignPlan, place)
    numbers = {run.folder: number for number, run in enumerate(plan.runs)}
    asked: dict[int, None] = {}
    trainings = []
    for seed in config.seed_numbers:
        names = [training_folder(*one, seed) for one in product(config.data, config.variants)]
        missing = [name for name in names if name not in numbers]
        if missing:
            raise InputError(f"{place}: {missing[0]} is not planned; begin once more")
        runs = [plan.runs[numbers[name]] for name in names]
        first = [run.needs for run in runs if run.needs]
        asked |= dict.fromkeys(numbers[name] for name in [*first, *names])
        trainings += runs
    with explaining_plugins(config.plugins, file):
        kinds = plan.kinds or score_kinds((run.data, run.config()) for run in trainings)
    questions = read_questions(config, kinds, where=str(file))
    return Campaign(folder, config, tuple(questions), plan, tuple(asked))


def require_same_data(campaign: Campaign, run: CampaignRun) -> None:
    """Refuses data that changed since the first run.

    Raises:
        InputError: naming them.
    """
    name = run.data or PRETRAIN
    require_same(run.config(), name, campaign.plan.data.get(name), campaign.folder)


def _require_same_pairs(
    before: CampaignPlan, config: CampaignConfig, where: str, folder: Path
) -> None:
    """Refuses to pair seeds, or to stop doing so, once scores could have been seen."""
    if not any((folder / run.folder / RESULT).is_file() for run in before.runs):
        return
    planned = before.paired
    if planned is None:
        planned = read_campaign(folder / "campaign.yaml").paired
    if planned != config.paired:
        now, then = str(config.paired).lower(), str(planned).lower()
        raise InputError(
            f"{where}: paired is {now}, but {folder} was planned with {then} and has scores by "
            "now, which must not decide it; restore it, or begin a campaign in another folder"
        )


def _require_networks(variants: Sequence[VariantTraining], where: str) -> None:
    """Builds every network, with the weights that the file names: what cannot be is told first."""
    for one in variants:
        pretrained = replace(one.train, weights=one.train.weights or PRETRAIN)
        train = pretrained if one.pretrain is not None else one.train
        for settings in (one.pretrain, train):
            if settings is None:
                continue
            own = bool(settings.weights) and settings.weights != PRETRAIN
            try:
                resolve(settings, load_weights=own)
            except InputError as error:
                raise InputError(f"{where}: variants: {one.variant}: {error}") from error
