"""Weights of other projects: what a file holds, told by its names, and what it fills."""

from detnet.backbones.weights.torchvision import from_torchvision

__all__ = ["from_torchvision"]
