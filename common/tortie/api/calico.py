"""Calico's kinds (`projectcalico.org/v3`), spelled on the wire exactly as Calico spells them.

Record defaults are what an absent field means. A field that the CRD requires and does not default is required here
too, because defaults are left out when a record is written.
"""

from __future__ import annotations

import msgspec

from tortie.api.meta import Condition, Metadata, Object, Record

GROUP = "projectcalico.org"
VERSION = "v3"
API_VERSION = f"{GROUP}/{VERSION}"

IPPOOL_FINALIZER = "projectcalico.org/ippool-finalizer"
"""On a pool for as long as blocks of it exist."""

DEFAULT_BLOCK_SIZE_V4 = 26
DEFAULT_BLOCK_SIZE_V6 = 122


class IPPoolSpec(Record):
    cidr: str
    block_size: int = 0
    """Prefix length of a block; 0: 26 for IPv4, 122 for IPv6 (`IPPool.block_size` has the effective one)."""
    vxlan_mode: str = "Never"
    """Never, Always or CrossSubnet."""
    ipip_mode: str = "Never"
    nat_outgoing: bool = False
    disabled: bool = False
    """No new addresses; those in use stay."""
    disable_bgp_export: bool = msgspec.field(default=False, name="disableBGPExport")
    node_selector: str = "all()"
    namespace_selector: str = ""
    allowed_uses: tuple[str, ...] = ()
    """Of Workload, Tunnel, LoadBalancer; empty: Workload and Tunnel."""
    assignment_mode: str = "Automatic"
    """Manual: used only where an annotation names the pool."""


class IPPoolStatus(Record):
    conditions: tuple[Condition, ...] = ()
    """`Allocatable`, with reason OK, CIDROverlap, Terminating or PoolDisabled."""


class IPPool(Object):
    api_version: str = API_VERSION
    kind: str = "IPPool"
    metadata: Metadata
    spec: IPPoolSpec
    status: IPPoolStatus = IPPoolStatus()

    @property
    def block_size(self) -> int:
        """Prefix length of the pool's blocks."""
        return self.spec.block_size or (DEFAULT_BLOCK_SIZE_V6 if ":" in self.spec.cidr else DEFAULT_BLOCK_SIZE_V4)

    def serves(self, use: str) -> bool:
        """Whether the pool gives addresses for `use`: Workload, Tunnel or LoadBalancer."""
        return use in (self.spec.allowed_uses or ("Workload", "Tunnel"))


class IPReservationSpec(Record):
    reserved_cidrs: tuple[str, ...] = msgspec.field(default=(), name="reservedCIDRs")


class IPReservation(Object):
    api_version: str = API_VERSION
    kind: str = "IPReservation"
    metadata: Metadata
    spec: IPReservationSpec = IPReservationSpec()


class IPAMConfigurationSpec(Record):
    strict_affinity: bool = False
    """No borrowing of addresses from blocks of other nodes."""
    auto_allocate_blocks: bool = True
    max_blocks_per_host: int = 0
    """0: Calico's built-in 20."""
    ip_cooldown_seconds: int = 0
    """Least idle time before a released address is given out again."""
    kube_virt_vm_address_persistence: str = msgspec.field(default="Enabled", name="kubeVirtVMAddressPersistence")


class IPAMConfiguration(Object):
    """The one that counts is named `default`; without it the record defaults hold."""

    api_version: str = API_VERSION
    kind: str = "IPAMConfiguration"
    metadata: Metadata
    spec: IPAMConfigurationSpec = IPAMConfigurationSpec()


class BlockAffinitySpec(Record):
    state: str
    """confirmed, pending or pendingDeletion: only a confirmed one means that the node owns the block."""
    node: str
    cidr: str
    type: str = "host"
    """host or virtual."""
    deleted: bool = False


class BlockAffinity(Object):
    api_version: str = API_VERSION
    kind: str = "BlockAffinity"
    metadata: Metadata
    spec: BlockAffinitySpec


class AllocationAttribute(Record):
    """Who holds an address; shared by the ordinals of a block that have the same owner."""

    handle_id: str = msgspec.field(default="", name="handle_id")
    secondary: dict[str, str] = {}
    """Calico's keys: pod, namespace, node, type, timestamp."""
    alternate_owner_attrs: dict[str, str] = {}
    released_at: str = ""
    """RFC 3339, while the address cools down."""


class IPAMBlockSpec(Record):
    """A block and its addresses by ordinal: 0 is the first address of `cidr`."""

    cidr: str
    affinity: str = ""
    """`host:<node>` or `virtual:<owner>`; empty: nobody's."""
    affinity_claim_time: str = ""
    allocations: tuple[int | None, ...]
    """By ordinal: None for a free address, else an index into `attributes`."""
    unallocated: tuple[int, ...]
    """Free ordinals, the longest idle first."""
    attributes: tuple[AllocationAttribute, ...]
    strict_affinity: bool
    """Of no effect, but Calico's CRD requires it."""
    deleted: bool = False
    sequence_number: int = 0
    sequence_number_for_allocation: dict[str, int] = {}


class IPAMBlock(Object):
    api_version: str = API_VERSION
    kind: str = "IPAMBlock"
    metadata: Metadata
    spec: IPAMBlockSpec


class IPAMHandleSpec(Record):
    block: dict[str, int]
    """Block CIDR → number of addresses that the handle holds there."""
    handle_id: str = msgspec.field(name="handleID")
    deleted: bool = False


class IPAMHandle(Object):
    api_version: str = API_VERSION
    kind: str = "IPAMHandle"
    metadata: Metadata
    spec: IPAMHandleSpec


class ClusterInformationSpec(Record):
    cluster_guid: str = msgspec.field(default="", name="clusterGUID")
    cluster_type: str = ""
    calico_version: str = ""
    variant: str = ""
    datastore_ready: bool | None = None


class ClusterInformation(Object):
    """The one that counts is named `default`."""

    api_version: str = API_VERSION
    kind: str = "ClusterInformation"
    metadata: Metadata
    spec: ClusterInformationSpec = ClusterInformationSpec()
