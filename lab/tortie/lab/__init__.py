"""A real Kubernetes cluster on one Linux machine: control plane, fabric, nodes and pods in namespaces, no containers.

`Lab` is the whole of it and `bringup` how it starts; `binaries`, `pki`, `plan`, `machine`, `controlplane`, `fabric`,
`node` and `install` are its parts, `kubelet` is the program that stands in for a kubelet on each node, `demo` is what
`make demo` shows, and `testing` has the fixtures.
"""

from tortie.lab.errors import LabError
from tortie.lab.lab import Lab

__all__ = ["Lab", "LabError"]
