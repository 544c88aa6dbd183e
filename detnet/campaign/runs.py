"""The runs that a campaign is made of, one for each variant, data set and seed."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from detnet.campaign.config import PRETRAIN, CampaignConfig, VariantTraining
from detnet.errors import InputError
from detnet.search.begun import HABITS
from detnet.training.classification.config import PretrainConfig
from detnet.training.detection.config import TrainConfig

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
        settings: of the training, without the model of what it needs.
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


def training_folder(data: str, variant: str, seed: int) -> str:
    """Where a training lies below the campaign's folder."""
    return f"{data}/{variant}/seed-{seed}"


def wanted_runs(
    config: CampaignConfig, variants: Sequence[VariantTraining], planned: Sequence[CampaignRun]
) -> list[CampaignRun]:
    """Lists the runs that settings ask for, round by round; pre-trainings that are alike once.

    Args:
        planned: of an earlier start, whose pre-trainings are taken again.
    """
    found: dict[str, CampaignRun] = {}
    for seed in config.seed_numbers:
        needs: dict[str, str] = {}
        first = config.seed_numbers[0] if config.share_pretraining else seed
        for one in variants:
            if one.pretrain is not None and one.variant not in needs:
                before = _pretraining(one, one.pretrain, first, [*found.values(), *planned])
                found.setdefault(before.folder, before)
                needs[one.variant] = before.folder
        for one in variants:
            name = training_folder(one.data, one.variant, seed)
            found[name] = CampaignRun(
                kind="train",
                variant=one.variant,
                data=one.data,
                seed=seed,
                folder=name,
                settings=asdict(replace(one.train, seed=seed)),
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


def require_alike(before: CampaignRun, now: CampaignRun, where: str, folder: Path) -> None:
    """Refuses a run that was planned with other settings.

    Args:
        where: the campaign's file, for the error.
        folder: the campaign's.

    Raises:
        InputError: naming the first setting, and both of its values.
    """
    differing = [*_differing(before, now)]
    if before.needs != now.needs:
        differing.append(("its pre-training", before.needs or "none", now.needs or "none"))
    for name, old, new in differing:
        raise InputError(
            f"{where}: {now.title}: {name} is {new}, but {folder / now.folder} was planned with "
            f"{old}; restore it, or give the variant another name"
        )


def _differing(before: CampaignRun, now: CampaignRun) -> Iterator[tuple[str, Any, Any]]:
    """Names and values of the settings that make two runs other runs."""
    config = _KINDS[now.kind]()
    # Data that moved are the same by their fingerprint.
    aside = {*_ASIDE, *config.places()} - (set() if now.needs else {"weights"})
    for name, new in now.settings.items():
        old = before.settings.get(name, getattr(config, name))
        if name not in aside and old != new:
            yield name, old, new
