"""What every backbone says of itself, so that no pyramid, anchor or head hard-codes it."""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor, nn

from detnet.errors import InputError


@dataclass(frozen=True)
class FeatureInfo:
    """One level that a backbone or a pyramid puts out.

    A level is its name and its place in the order, never its stride: DetNet has three at stride 16.

    Args:
        name: anything; by habit `c2` … for stages, `p2` … for pyramid levels.
        channels: width of the level.
        stride: input pixels per cell.
        receptive_field: side in input pixels of what one cell can see in theory; 0 where not known.
        level: its number among the levels, by which pyramids choose: neighbours differ by 1, and 2
            is the finest that a ResNet has. Where it is not said, the logarithm of the stride to
            the base of 2; a backbone of equal strides has to say it.
    """

    name: str
    channels: int
    stride: int
    receptive_field: int = 0
    level: int = 0

    def __post_init__(self) -> None:
        if not self.level:
            object.__setattr__(self, "level", self.stride.bit_length() - 1)


class Backbone(nn.Module):
    """A network that maps images to named levels, fine to coarse.

    Subclasses set `feature_info`, map (N, 3, H, W) to {name: (N, C, H / stride, W / stride)} in the
    order of `feature_info`, and list in `parts` what `freeze` may hold still. `width` is the factor
    on all channel counts, by which a detector's pyramid and heads are scaled, too. What `BACKBONES`
    holds under a name builds one from the keywords `width`, `stride_in` and `norm`, see
    `StagedOptions`; those without meaning for it are taken and left.
    """

    feature_info: tuple[FeatureInfo, ...]
    width: float = 1.0

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        raise NotImplementedError

    @property
    def levels(self) -> tuple[str, ...]:
        """The names of its levels, fine to coarse."""
        return tuple(info.name for info in self.feature_info)

    def parts(self) -> dict[str, nn.Module]:
        """Names the sub-networks from input to output; all children, if no subclass says else."""
        return dict(self.named_children())

    def tail(self) -> tuple[nn.Module, int]:
        """Makes what a classifier puts between the last level and its pooling, and says its width.

        Nothing, unless the published classifier has layers that the detectors do without.
        """
        return nn.Identity(), self.feature_info[-1].channels

    def requires(self, name: str, *, relative: bool) -> bool:
        """Whether pretrained weights must bring the one of this name.

        Args:
            name: of a weight of this backbone.
            relative: the weights are of a network of other stages, as a ResNet's for a DetNet.
        """
        return True

    def freeze(self, names: Iterable[str]) -> None:
        """Holds these parts still: no gradient, and batch norm by its running statistics.

        Args:
            names: one of `parts()` or several, for example `("stem",)` for DetNet's paper (its
                "stage 1") and `("stem", "c2")` for Detectron's habit.

        Raises:
            InputError: a name that is no part of this backbone.

        Paper: Li et al. 2018, arXiv:1804.06215, Section 4.1.
        """
        parts = self.parts()
        names = (names,) if isinstance(names, str) else tuple(names)
        for name in names:
            if name not in parts:
                raise InputError(
                    f"cannot freeze {name!r}; this backbone's parts: {', '.join(parts)}"
                )
            parts[name].requires_grad_(False)
            parts[name].eval()
        self._frozen = (*self.frozen, *names)

    def cut(self, level: str) -> None:
        """Drops the parts after a level, which nothing uses and which would never learn.

        Here they are frozen; a backbone that can run without them removes them.
        """
        names = list(self.parts())
        for name in names[names.index(level) + 1 :] if level in names else ():
            self.parts()[name].requires_grad_(False)

    @property
    def frozen(self) -> tuple[str, ...]:
        """The parts that `freeze` holds still."""
        return getattr(self, "_frozen", ())

    def train(self, mode: bool = True) -> "Backbone":
        super().train(mode)
        for name in self.frozen:  # frozen batch norm must not follow the batches
            self.parts()[name].eval()
        return self


class StagedBackbone(Backbone):
    """A stem and then stages, each of which puts out a level; subclasses build the two."""

    stem: nn.Module
    stages: nn.ModuleDict

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        x, features = self.stem(images), {}
        for name, stage in self.stages.items():
            features[name] = x = stage(x)
        return features

    def parts(self) -> dict[str, nn.Module]:
        return {"stem": self.stem, **self.stages}

    def cut(self, level: str) -> None:
        """Takes off the stages after a level.

        Raises:
            InputError: one of them was to be frozen.
        """
        names = list(self.levels)
        for name in names[: names.index(level) : -1]:
            del self.stages[name]
            if name in self.frozen:
                last = list(self.parts())[-1]
                raise InputError(f"cannot freeze {name}: this detector's backbone ends at {last}")
        self.feature_info = tuple(info for info in self.feature_info if info.name in self.stages)


class Classifier(nn.Module):
    """A backbone with its tail, global average pooling and one linear layer on its last level.

    Args:
        backbone: any backbone; its last level is classified.
        num_classes: labels, no background.
    """

    def __init__(self, backbone: Backbone, num_classes: int = 1000) -> None:
        super().__init__()
        self.backbone = backbone
        self.tail, channels = backbone.tail()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Maps (N, 3, H, W) normalised images to (N, num_classes) logits."""
        return self.classify(self.backbone(images))

    def classify(self, features: dict[str, Tensor]) -> Tensor:
        """Maps the backbone's features to (N, num_classes) logits."""
        last = features[self.backbone.feature_info[-1].name]
        return self.fc(self.pool(self.tail(last)).flatten(1))
