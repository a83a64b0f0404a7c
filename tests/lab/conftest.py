"""Tests of and on whole clusters: root, and the control plane's binaries (`make controlplane`)."""

from tortie.lab.testing import controlplane, lab

__all__ = ["controlplane", "lab"]
