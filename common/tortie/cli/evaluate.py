"""`tortie policy evaluate`: may a flow pass, and which rules say so? One flow in plain words, or many from a file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from tortie.cli import clusters
from tortie.cli.manifests import UsageError, text
from tortie.policy import evaluate as reference
from tortie.policy.cluster import Cluster
from tortie.policy.evaluate import Verdict
from tortie.policy.explain import lines
from tortie.policy.flows import Flow, FlowError, ICMPMessage

ENGINES: dict[str, Callable[[Cluster, Flow], Verdict]] = {"reference": reference.evaluate}


def add(actions: Any) -> None:
    parser = actions.add_parser("evaluate", help="judge flows", description=__doc__)
    clusters.add_source(parser)
    parser.add_argument("--flows", metavar="FILE", help="flows, one in JSON a line; - for standard input")
    parser.add_argument("--from", dest="source", metavar="END", help="pod:NAMESPACE/NAME, host:NODE or ip:ADDRESS")
    parser.add_argument("--to", dest="target", metavar="END", help="the same")
    parser.add_argument("--protocol", default="TCP", help="name or number (TCP)")
    parser.add_argument("--port", type=int, metavar="N")
    parser.add_argument("--sport", type=int, metavar="N", help="port that the client sends from")
    parser.add_argument("--icmp", metavar="TYPE[/CODE]", help="an ICMP message other than an echo request")
    parser.add_argument("--dnat", default="", metavar="ADDRESS:PORT", help="where the destination is translated to")
    parser.add_argument("--direction", default="", choices=["ingress", "egress"], help="judge one side only")
    parser.add_argument("--engine", default="reference", choices=[*ENGINES], help="who judges (reference)")
    parser.add_argument("-o", "--output", choices=["text", "jsonl"], default="text", help="format (text)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """1 if some of the flows have no meaning in the cluster, whatever the verdicts of the others."""
    try:
        flows = list(_flows(options))
        cluster = clusters.built(clusters.objects(options))
    except (UsageError, FlowError) as error:
        print(f"tortie policy evaluate: {error}", file=sys.stderr)
        return 2
    failed = False
    for where, flow in flows:
        try:
            verdict = ENGINES[options.engine](cluster, flow)
        except FlowError as error:
            print(f"tortie policy evaluate: {where}{error}", file=sys.stderr)
            failed = True
            continue
        if options.output == "jsonl":
            print(msgspec.json.encode(verdict).decode())
        else:
            print("\n".join(lines(flow, verdict)))
    return 1 if failed else 0


def _flows(options: argparse.Namespace) -> Iterator[tuple[str, Flow]]:
    """Each with the place to name in an error."""
    if (options.flows is None) == (options.source is None or options.target is None):
        raise UsageError("needs either --flows, or --from and --to")
    if options.flows is None:
        yield "", _flow(options)
        return
    for number, line in enumerate(text(options.flows).splitlines(), 1):
        where = f"{options.flows}:{number}: "
        try:
            if line.strip():
                yield where, msgspec.json.decode(line, type=Flow)
        except msgspec.DecodeError as error:
            raise UsageError(f"{where}{error}") from None


def _flow(options: argparse.Namespace) -> Flow:
    protocol = int(options.protocol) if options.protocol.isdecimal() else options.protocol
    return Flow(
        source=options.source,
        target=options.target,
        protocol=protocol,
        port=options.port,
        sport=options.sport,
        icmp=_icmp(options.icmp) if options.icmp else None,
        dnat=options.dnat,
        direction=options.direction,
    )


def _icmp(value: str) -> ICMPMessage:
    kind, _, code = value.partition("/")
    if not (kind.isdecimal() and (code or "0").isdecimal()):
        raise FlowError("icmp", value, "must be TYPE or TYPE/CODE, both numbers")
    return ICMPMessage(type=int(kind), code=int(code or 0))
