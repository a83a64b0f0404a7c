"""Tells since when addresses answer: reads one a line, writes `ADDRESS SECONDS` (CLOCK_MONOTONIC) for each.

It runs in a pod's network namespace, as a script of the standard library. That a connection is refused is an answer.
"""

from __future__ import annotations

import asyncio
import sys
import time

PORT = 1
PAUSE, PATIENCE = 0.002, 0.25
"""Seconds between two tries, and for one: a dropped SYN would be sent again only after a second."""


async def reach(address: str) -> None:
    while True:
        try:
            async with asyncio.timeout(PATIENCE):
                _, writer = await asyncio.open_connection(address, PORT)
            writer.close()
            break
        except ConnectionRefusedError:
            break
        except (OSError, TimeoutError):
            await asyncio.sleep(PAUSE)
    print(address, time.monotonic(), flush=True)


async def main() -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with asyncio.TaskGroup() as group:
        tasks = []
        while line := await reader.readline():
            tasks.append(group.create_task(reach(line.decode().strip())))
        for task in tasks:
            task.cancel()


if __name__ == "__main__":
    asyncio.run(main())
