"""A client that runs in a pod's network namespace until its standard input ends, and then says when it was answered.

    client.py talk ADDRESS PORT    one TCP connection, a line every 20 ms; it is never opened anew
    client.py ping ADDRESS…        an ICMP echo request to each every 10 ms

It prints `ready` when it has begun, and at its end one JSON object: address → times of the answers, by CLOCK_MONOTONIC,
which all namespaces of a machine share. As a script of the standard library alone it starts fast.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import select
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator

ECHO_REQUEST = {4: 8, 6: 128}
ECHO_REPLY = {4: 0, 6: 129}
IDENTIFIER = 0x7071

Answers = dict[str, list[float]]


def rounds(seconds: float) -> Iterator[None]:
    """Until standard input ends."""
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], seconds)[0]:
        yield


def talk(address: str, port: str) -> Answers:
    answers: Answers = {address: []}
    with socket.create_connection((address, int(port)), 5) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        for _ in rounds(0.02):
            with contextlib.suppress(BlockingIOError):
                sock.send(b"who\n")
            with contextlib.suppress(BlockingIOError):
                if not sock.recv(4096):
                    raise ConnectionError("closed by the other end")
                answers[address].append(time.monotonic())
    return answers


def ping(*addresses: str) -> Answers:
    answers: Answers = {}
    sockets = {
        4: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
        6: socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6),
    }
    for sock in sockets.values():
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    versions = {address: ipaddress.ip_address(address).version for address in addresses}
    for _ in rounds(0.01):
        for address, version in versions.items():
            with contextlib.suppress(OSError):  # an ICMP error about one before, or a full queue
                sockets[version].sendto(echo_request(version), (address, 0))
        for version, sock in sockets.items():
            collect(version, sock, lambda address: answers.setdefault(address, []).append(time.monotonic()))
    return answers


def collect(version: int, sock: socket.socket, answered: Callable[[str], None]) -> None:
    while True:
        try:
            data, sender = sock.recvfrom(512)
        except BlockingIOError:
            return
        except OSError:
            continue
        message = data[(data[0] & 15) * 4 :] if version == 4 else data
        if message[0] == ECHO_REPLY[version] and message[4:6] == struct.pack("!H", IDENTIFIER):
            answered(sender[0])


def echo_request(version: int) -> bytes:
    """The kernel fills in ICMPv6's checksum."""
    message = struct.pack("!BBHHH", ECHO_REQUEST[version], 0, 0, IDENTIFIER, 1)
    total = sum(struct.unpack("!4H", message))
    return message[:2] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + message[4:] if version == 4 else message


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    print(json.dumps({"talk": talk, "ping": ping}[command](*arguments)), flush=True)
