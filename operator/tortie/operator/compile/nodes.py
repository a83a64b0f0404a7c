"""What one node must do itself."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from tortie.api.calico import IPPool
from tortie.api.felix import FelixConfiguration, resolve
from tortie.api.internal import NodeStateSpec, Pool
from tortie.api.kubernetes import Node


def state(
    node: Node, pools: Iterable[IPPool], felix: Iterable[FelixConfiguration], releasing: Collection[str]
) -> tuple[NodeStateSpec, list[str]]:
    """The desired NodeState, without its stamp, and what of the FelixConfigurations was passed over."""
    settings, warnings = resolve(felix, node.metadata.name, node.metadata.labels)
    spec = NodeStateSpec(
        uid=node.metadata.uid,
        settings=settings,
        pools=tuple(agents_pool(pool) for pool in sorted(pools, key=lambda pool: pool.metadata.name)),
        releasing=tuple(sorted(releasing)),
    )
    return spec, warnings


def agents_pool(pool: IPPool) -> Pool:
    return Pool(
        cidr=pool.spec.cidr,
        vxlan_mode=pool.spec.vxlan_mode,
        ipip_mode=pool.spec.ipip_mode,
        nat_outgoing=pool.spec.nat_outgoing,
        disable_bgp_export=pool.spec.disable_bgp_export,
    )
