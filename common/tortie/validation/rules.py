"""Rules of CEL (`x-kubernetes-validations`), evaluated by CEL's own runtime; Kubernetes' functions for addresses, which
it does not have, are added here.

An address and a CIDR are their canonical texts to CEL: types were checked when the API server took the CRD.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Mapping
from functools import cache, lru_cache
from typing import Any

from cel_expr_python import cel
from cel_expr_python.ext import ext_optional, ext_strings

from tortie.policy.convert import Problem
from tortie.policy.convert.problems import shown

Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Value = Any


def evaluate(schema: Mapping[str, Any], value: Value, path: str) -> Iterator[Problem]:
    """What the rules of a schema and of all below it refuse. Rules that compare with the object before an update
    (`oldSelf`) do not count: here there is none."""
    for rule in schema.get("x-kubernetes-validations", ()):
        if "oldSelf" not in rule["rule"] and (problem := _refusal(rule, value, path)):
            yield problem
    if isinstance(value, Mapping):
        known, rest = schema.get("properties", {}), schema.get("additionalProperties")
        for name, each in value.items():
            inner = known.get(name, rest)
            if isinstance(inner, Mapping) and each is not None:
                yield from evaluate(inner, each, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from evaluate(schema["items"], each, f"{path}[{index}]")


def _refusal(rule: Mapping[str, str], value: Value, path: str) -> Problem | None:
    verdict = _result(rule["rule"], value)
    if verdict is True:
        return None
    message = rule.get("message") or f"does not hold: {rule['rule']}"
    if isinstance(verdict, cel.Value):
        message = f"{message}: {verdict.plain_value()}"
    elif "messageExpression" in rule and isinstance(said := _result(rule["messageExpression"], value), str):
        message = said
    inner = rule.get("fieldPath", "")
    return Problem((path + inner).lstrip("."), shown(_below(value, inner)), message)


def _below(value: Value, path: str) -> Value:
    for name in path.split(".")[1:]:
        value = value.get(name, "") if isinstance(value, Mapping) else ""
    return "" if isinstance(value, Mapping) else value


def _result(expression: str, value: Value) -> Value:
    """A plain value; an error as CEL has it."""
    found = _program(expression).eval(data={"self": value})
    return found if found.type() == cel.Type.ERROR else found.plain_value()


@cache
def _program(expression: str) -> cel.Expression:
    return _environment().compile(expression)


@lru_cache(maxsize=65536)
def search(pattern: str, text: str) -> bool:
    """Whether RE2, which Go has too, finds the pattern in a text."""
    found = _program("self.text.matches(self.pattern)").eval(data={"self": {"text": text, "pattern": pattern}})
    return found.plain_value() is True


@cache
def _environment() -> cel.Env:
    text, truth, number = cel.Type.STRING, cel.Type.BOOL, cel.Type.INT
    functions = [
        _function("isIP", truth, is_ip),
        _function("ip", text, lambda each: str(_address(each)), of=lambda each: each.partition("/")[0]),
        _function("family", number, of=lambda each: ipaddress.ip_interface(each).version),
        _function("isCIDR", truth, is_net),
        _function("cidr", text, lambda each: str(_interface(each))),
        _function("masked", text, of=lambda each: str(ipaddress.ip_interface(each).network)),
        _function("prefixLength", number, of=lambda each: ipaddress.ip_interface(each).network.prefixlen),
        cel.FunctionDecl("containsCIDR", [cel.Overload("containsCIDR", truth, [text, text], True, _contains)]),
    ]
    extensions = [ext_strings.ExtStrings(), ext_optional.ExtOptional()]
    return cel.NewEnv(variables={"self": cel.Type.DYN}, functions=functions, extensions=extensions)


def _function(
    name: str,
    gives: cel.Type,
    function: Callable[[str], Value] | None = None,
    of: Callable[[str], Value] | None = None,
) -> cel.FunctionDecl:
    """A function of a text, or one of an address or CIDR (`of`), or both under one name."""
    overloads = []
    if function:
        overloads.append(cel.Overload(name, gives, [cel.Type.STRING], False, function))
    if of:
        overloads.append(cel.Overload(f"of_{name}", gives, [cel.Type.STRING], True, of))
    return cel.FunctionDecl(name, overloads)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """As Kubernetes' CEL reads one: no zone, and no IPv4 address written as IPv6."""
    address = ipaddress.ip_address(text)
    if address.version == 6 and ("%" in text or address.ipv4_mapped):
        raise ValueError(f"{text!r} has a zone, or is an IPv4 address")
    return address


def _interface(text: str) -> Interface:
    address, slash, length = text.partition("/")
    if not slash or not length.isdecimal() or str(int(length)) != length:
        raise ValueError(f"{text!r} is no CIDR")
    _address(address)
    return ipaddress.ip_interface(text)


def is_ip(text: str) -> bool:
    return _succeeds(_address, text)


def is_net(text: str) -> bool:
    """isCIDR."""
    return _succeeds(_interface, text)


def is_cidr(text: str) -> bool:
    """The format `cidr`, Go's net.ParseCIDR: it also takes leading zeros in the length, and IPv4 written as IPv6."""
    address, slash, length = text.partition("/")
    if not slash or not (length.isascii() and length.isdecimal()) or "%" in address:
        return False
    return _succeeds(ipaddress.ip_interface, text)


def _succeeds(read: Callable[[str], object], text: str) -> bool:
    try:
        read(text)
    except ValueError:
        return False
    return True


def _contains(outer: str, inner: str) -> bool:
    networks = [_interface(each).network for each in (outer, inner)]
    return networks[0].version == networks[1].version and networks[1].subnet_of(networks[0])  # type: ignore[arg-type]
