"""Cases of the rules of FelixConfiguration."""

from __future__ import annotations

from .cases import Case

CASES = [
    Case(
        "FelixConfiguration",
        "nodeSelector is not for the FelixConfigurations default and node.<name>",
        good={"nodeSelector": "has(rack)"},
        good_name="racks",
        bad={"nodeSelector": "has(rack)"},
        says=("spec.nodeSelector", "nodeSelector has(rack) is not for the FelixConfiguration default"),
    ),
    Case(
        "FelixConfiguration",
        "nodeSelector is not for the FelixConfigurations default and node.<name>",
        good={},
        bad={"nodeSelector": "all()"},
        bad_name="node.a",
        says=("spec.nodeSelector", "nodeSelector all() is not for the FelixConfiguration node.a"),
    ),
    Case(
        "FelixConfiguration",
        "routeTableRange and routeTableRanges exclude each other",
        good={"routeTableRanges": [{"min": 1, "max": 2}]},
        bad={"routeTableRange": {"min": 1, "max": 2}, "routeTableRanges": [{"min": 1, "max": 2}]},
        says=("spec.routeTableRange", "routeTableRange 1..2 and routeTableRanges (1 ranges) exclude each other"),
    ),
    Case(
        "FelixConfiguration",
        "routeTableRange must be within 1..250, min not above max",
        good={"routeTableRange": {"min": 1, "max": 250}},
        bad={"routeTableRange": {"min": 1, "max": 251}},
        says=("spec.routeTableRange", "routeTableRange 1..251 must be within 1..250"),
    ),
    Case(
        "FelixConfiguration",
        "routeTableRanges: min must be at least 1",
        good={"routeTableRanges": [{"min": 1, "max": 70000}]},
        bad={"routeTableRanges": [{"min": 0, "max": 5}]},
        says=("spec.routeTableRanges[0]", "routeTableRanges: min 0 must be at least 1"),
    ),
    Case(
        "FelixConfiguration",
        "routeTableRanges: min must not be above max",
        good={"routeTableRanges": [{"min": 5, "max": 5}]},
        bad={"routeTableRanges": [{"min": 1, "max": 2}, {"min": 6, "max": 5}]},
        says=("spec.routeTableRanges[1]", "routeTableRanges: min 6 must not be above max 5"),
    ),
    *(
        Case(
            "FelixConfiguration",
            f"{name} must be a regular expression",
            good={name: "^(eth|en).*"},
            bad={name: "^(eth|en"},
            says=(f"spec.{name}", "missing closing )", "`^(eth|en`", f"{name} must be a regular expression"),
        )
        for name in (
            "bpfDataIfacePattern",
            "bpfDisableGROForIfaces",
            "bpfL3IfacePattern",
            "logDebugFilenameRegex",
            "mtuIfacePattern",
            "nftablesFlowTableDataIfacePattern",
        )
    ),
    *(
        Case(
            "FelixConfiguration",
            f"{name} must be {kind} or CIDRs",
            good={name: ["192.0.2.1", "192.0.2.0/24"]},
            bad={name: ["192.0.2.0/24", bad]},
            says=(f"spec.{name}[1]", f"{name}: {bad} is neither"),
        )
        for name, kind, bad in [
            ("bpfDSROptoutCIDRs", "addresses", "192.0.2.0/33"),
            ("bpfExcludeCIDRsFromNAT", "addresses", "dns"),
            ("externalNodesList", "IPv4 addresses", "2001:db8::/32"),
            ("externalNodesList", "IPv4 addresses", "2001:db8::1"),
            ("externalNodesList", "IPv4 addresses", "192.0.2.256"),
        ]
    ),
    *(
        Case(
            "FelixConfiguration",
            "net must be an address or a CIDR",
            good={name: [{"port": 22, "net": ""}, {"port": 22, "net": "2001:db8::/32"}]},
            bad={name: [{"port": 22, "net": "lan"}]},
            says=(f"spec.{name}[0].net", "net lan is neither an address nor a CIDR"),
            where=f"spec.{name}[].net",
        )
        for name in ("failsafeInboundHostPorts", "failsafeOutboundHostPorts")
    ),
    *(
        Case(
            "FelixConfiguration",
            f"{name} must be an IPv{version} address",
            good={name: good},
            bad={name: bad},
            says=(f"spec.{name}", f"{name} {bad} must be an IPv{version} address"),
        )
        for name, version, good, bad in [
            ("natOutgoingAddress", 4, "192.0.2.1", "2001:db8::1"),
            ("natOutgoingAddress", 4, "", "192.0.2.256"),
            ("deviceRouteSourceAddress", 4, "192.0.2.1", "::ffff:192.0.2.1"),
            ("deviceRouteSourceAddressIPv6", 6, "2001:db8::1", "192.0.2.1"),
        ]
    ),
]
