"""A client that runs inside a pod's network namespace and says what it saw, as one JSON object on stdout.

It is run as a script by Debian's python3, so it uses the standard library alone:

    traffic.py reach  [SECONDS] TARGET…    one connection a target; answers and errors, after SECONDS at the latest
    traffic.py stream TARGET…              long-lived and ever new connections until stdin closes; how many were lost

A TARGET is `tcp:ADDRESS:PORT` or `udp:ADDRESS:PORT`, IPv6 in brackets. The other end answers each line or datagram with
its pod's name.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import sys
import time
from pathlib import Path
from typing import Any

COMMAND = ("/usr/bin/python3", "-I", "-S", str(Path(__file__).resolve()))
"""What runs this in a pod; its arguments follow."""
PATIENCE = 5.0
"""Seconds without an answer after which a path counts as broken; TCP retransmits within it."""


def parse(target: str) -> tuple[str, str, int]:
    """(`tcp` or `udp`, address, port)."""
    match = re.fullmatch(r"(tcp|udp):\[?([0-9a-fA-F.:]+?)\]?:(\d+)", target)
    if match is None:
        raise SystemExit(f"target {target!r}: expected tcp:ADDRESS:PORT or udp:[ADDRESS]:PORT")
    return match[1], match[2], int(match[3])


async def ask_udp(address: str, port: int) -> str:
    """The name that answers a datagram; it is sent anew each second, since datagrams may be lost."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, (address, port))
        for _ in range(int(PATIENCE)):
            await loop.sock_sendall(sock, b"who\n")
            try:
                return (await asyncio.wait_for(loop.sock_recv(sock, 512), 1)).decode().strip()
            except TimeoutError:
                continue
    raise TimeoutError


async def ask_tcp(address: str, port: int) -> str:
    reader, writer = await asyncio.open_connection(address, port)
    try:
        writer.write(b"who\n")
        return (await reader.readline()).decode().strip()
    finally:
        writer.close()


async def ask(target: str, patience: float = PATIENCE) -> dict[str, Any]:
    protocol, address, port = parse(target)
    started = time.monotonic()
    try:
        name = await asyncio.wait_for((ask_tcp if protocol == "tcp" else ask_udp)(address, port), patience)
    except (OSError, TimeoutError) as error:
        return {"target": target, "error": str(error) or type(error).__name__}
    return {"target": target, "answer": name, "ms": round((time.monotonic() - started) * 1000, 2)}


async def reach(targets: list[str], patience: float = PATIENCE) -> dict[str, Any]:
    return {"paths": await asyncio.gather(*(ask(target, patience) for target in targets))}


class Stream:
    """Connections to all targets at once: one that lives as long as the run, and a new one every 50 ms."""

    def __init__(self) -> None:
        self.done = asyncio.Event()
        self.lost: list[str] = []
        self.established = self.exchanges = self.opened = 0
        self.failed: list[str] = []
        self.longest = 0.0

    async def live(self, target: str) -> None:
        _, address, port = parse(target)
        try:
            reader, writer = await asyncio.wait_for(asyncio.open_connection(address, port), PATIENCE)
        except (OSError, TimeoutError) as error:
            self.failed.append(f"{target}: {error or 'timed out'}")
            return
        self.established += 1
        try:
            while not self.done.is_set():
                started = time.monotonic()
                writer.write(b"who\n")
                if not await asyncio.wait_for(reader.readline(), PATIENCE):
                    raise ConnectionError("closed by the other end")
                self.exchanges += 1
                self.longest = max(self.longest, time.monotonic() - started)
                await asyncio.sleep(0.02)
        except (OSError, TimeoutError) as error:
            self.lost.append(f"{target}: {error or 'no answer'}")
        finally:
            writer.close()

    async def anew(self, target: str) -> None:
        while not self.done.is_set():
            result = await ask(target)
            if "error" in result:
                self.failed.append(f"{target}: {result['error']}")
            self.opened += 1
            await asyncio.sleep(0.05)

    def over(self) -> None:
        asyncio.get_running_loop().remove_reader(sys.stdin)
        self.done.set()

    async def run(self, targets: list[str]) -> dict[str, Any]:
        asyncio.get_running_loop().add_reader(sys.stdin, self.over)
        print("ready", flush=True)
        tcp = [target for target in targets if target.startswith("tcp:")]
        await asyncio.gather(*map(self.live, tcp), *map(self.anew, targets))
        return {
            "established": self.established,
            "exchanges": self.exchanges,
            "opened": self.opened,
            "lost": self.lost,
            "failed": self.failed,
            "longest_ms": round(self.longest * 1000, 1),
        }


def main() -> None:
    match sys.argv[1:]:
        case ["reach", seconds, *targets] if ":" not in seconds:
            result = asyncio.run(reach(targets, float(seconds)))
        case ["reach", *targets]:
            result = asyncio.run(reach(targets))
        case ["stream", *targets]:
            result = asyncio.run(Stream().run(targets))
        case _:
            raise SystemExit(__doc__)
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
