"""Brings the pretended accelerator along: `--plugin tests.pretended.plugin`."""

from tests.pretended.device import register

register()
