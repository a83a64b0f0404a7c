"""The node agent: from the operator's internal kinds to this node's kernel.

`watch` (streams and their copy on disk) → `adoption` (what may rule) → `desired` (what the kernel should hold) →
`kernel/` (one reconciler per subsystem), with `cni/` for the runtime's calls and `report` for the way back.
"""
