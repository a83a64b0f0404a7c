"""The network between the machines: a bridge a subnet, a router, and the control plane's link to the host.

The bridges live on a machine of their own, so that no interface of the lab but one end of that link is the host's. The
router is every machine's default gateway and stands for the world outside, too: it answers on plan.OUTSIDE and knows no
route to any pod or service.
"""

from __future__ import annotations

from tortie.lab.machine import Machine, ip
from tortie.lab.plan import MTU, OUTSIDE, Addresses, Plan

FORWARDING = ("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")


async def build(plan: Plan, fabric: Machine, router: Machine) -> None:
    """Bridges and router of a fabric whose two machines have booted."""
    await router.run(["sysctl", "-qw", *FORWARDING])
    bridge = f"mtu {MTU} type bridge forward_delay 0 mcast_snooping 0"
    await fabric.ip(
        command
        for subnet in range(plan.subnets)
        for command in (f"link add {_bridge(subnet)} {bridge}", f"link set {_bridge(subnet)} up")
    )
    for subnet in range(plan.subnets):
        await plug(fabric, router, f"eth{subnet}", f"router{subnet}", subnet)
        await router.ip(_addresses(f"eth{subnet}", plan.router(subnet)))
    await router.ip(f"address add {outside} dev lo nodad" for outside in OUTSIDE)


async def connect(plan: Plan, fabric: Machine, machine: Machine, subnet: int, addresses: Addresses) -> None:
    """Give a machine its `eth0` with addresses and default routes."""
    await plug(fabric, machine, "eth0", machine.name, subnet)
    router = plan.router(subnet)
    routes = [f"route add default via {router.v4.ip}", f"route add default via {router.v6.ip}"]
    await machine.ip([*_addresses("eth0", addresses), *routes])


async def plug(fabric: Machine, machine: Machine, interface: str, port: str, subnet: int) -> None:
    """Lay a cable between an interface of `machine` and a port of a subnet's bridge."""
    peer = f"mtu {MTU} netns {machine.pid}"
    await fabric.ip(
        [
            f"link add {port} mtu {MTU} type veth peer name {interface} {peer}",
            f"link set {port} master {_bridge(subnet)} up",
        ]
    )


async def unplug(fabric: Machine, port: str) -> None:
    """Take the cable out of the bridge; the other end goes with it, whatever becomes of its machine."""
    await fabric.ip([f"link del {port}"])


async def connect_host(plan: Plan, control: Machine) -> None:
    """The one thing of a lab that is the host's: its end of a veth, with a link-local IPv4 address and nothing else."""
    name = plan.host_interface
    await ip(
        [
            f"link add {name} type veth peer name host netns {control.pid}",
            f"address add {plan.host_end} dev {name}",
            f"link set {name} addrgenmode none",
            f"link set {name} up",
        ]
    )
    await control.ip([f"address add {plan.control_end} dev host", "link set host up"])


def _addresses(interface: str, addresses: Addresses) -> list[str]:
    return [
        f"address add {addresses.v4} dev {interface}",
        f"address add {addresses.v6} dev {interface} nodad",
        f"link set {interface} up",
    ]


def _bridge(subnet: int) -> str:
    return f"subnet{subnet}"
