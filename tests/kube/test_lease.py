"""Leader election: two never lead at once, whatever the network does; and the next one does not keep people waiting."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tortie.kube import lease
from tortie.kube.client import Client
from tortie.kube.lease import Elector, Lease, LeaseLost
from tortie.kube.resources import LEASE

from ..controlplane import Cluster
from .conftest import eventually
from .proxy import Proxy

DURATION, RENEW = 2.0, 0.4

HOLDER = """
import asyncio, sys
from pathlib import Path
from tortie.kube import lease
from tortie.kube.client import Client
from tortie.kube.lease import Elector

async def main(kubeconfig, namespace):
    async with await Client.connect(Path(kubeconfig), user_agent="holder") as client:
        elector = Elector(client, namespace, "operator", "holder", duration=2.0, renew=0.4)
        print(await elector.acquire(), flush=True)
        await elector.hold()

asyncio.run(main(*sys.argv[1:]))
"""


def elector(client: Client, namespace: str, identity: str) -> Elector:
    return Elector(client, namespace, "operator", identity, duration=DURATION, renew=RENEW)


async def read(client: Client, namespace: str) -> Lease:
    return await client.get(LEASE, "operator", namespace=namespace, type=Lease)


@asynccontextmanager
async def holding(holder: Elector) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(holder.hold())
    yield task
    task.cancel()
    await asyncio.wait([task])


async def test_the_first_contender_creates_the_lease_and_keeps_it(client: Client, namespace: str) -> None:
    holder = elector(client, namespace, "a")
    assert await holder.acquire() == 1
    first = await read(client, namespace)
    assert (first.spec.holder_identity, first.spec.lease_duration_seconds, first.spec.lease_transitions) == ("a", 2, 1)
    waiting = asyncio.create_task(elector(client, namespace, "b").acquire())
    async with holding(holder) as task:
        await asyncio.sleep(DURATION * 1.5)
        assert not task.done()
        assert not waiting.done()
        now = await read(client, namespace)
        assert (now.spec.holder_identity, now.spec.lease_transitions) == ("a", 1)
        assert now.spec.acquire_time == first.spec.acquire_time
        assert (now.spec.renew_time or "") > (first.spec.renew_time or "")
    waiting.cancel()


async def test_a_release_hands_over_within_a_second(client: Client, namespace: str) -> None:
    holder = elector(client, namespace, "a")
    await holder.acquire()
    waiting = asyncio.create_task(elector(client, namespace, "b").acquire())
    await asyncio.sleep(0.3)
    assert not waiting.done()
    await holder.release()
    began = time.monotonic()
    assert await waiting == 2
    assert time.monotonic() - began < 1.0
    assert (await read(client, namespace)).spec.holder_identity == "b"


async def test_release_leaves_anothers_lease_alone(client: Client, namespace: str) -> None:
    holder, other = elector(client, namespace, "a"), elector(client, namespace, "b")
    await holder.release()
    await holder.acquire()
    assert await other.acquire() == 2, "nobody held it"
    await holder.release()
    assert (await read(client, namespace)).spec.holder_identity == "b"


async def test_after_kill_9_the_next_one_leads_within_the_duration_and_two_seconds(
    cluster: Cluster, client: Client, namespace: str
) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDER, str(cluster.kubeconfig), namespace, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"1\n"
    waiting = asyncio.create_task(elector(client, namespace, "b").acquire())
    await asyncio.sleep(1.0)
    process.kill()
    killed = time.monotonic()
    await process.wait()
    assert await waiting == 2
    assert DURATION - RENEW - 0.2 < time.monotonic() - killed < DURATION + 2.0


@pytest.mark.parametrize("delay", [0.0, 0.5], ids=["fast network", "slow network"])
async def test_a_holder_cut_off_gives_up_before_another_takes_over(
    client: Client,
    distant: Client,
    proxy: Proxy,
    namespace: str,
    delay: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Answers that arrive late make the holder no later; a contender that looks all the time is no earlier."""
    monkeypatch.setattr(lease, "POLL", 0.02)
    holder, other = elector(distant, namespace, "a"), elector(client, namespace, "b")
    await holder.acquire()
    ended: list[float] = []

    async def contend() -> int:
        epoch = await other.acquire()
        ended.append(time.monotonic())
        return epoch

    async with holding(holder) as task:
        proxy.delay = delay
        waiting = asyncio.create_task(contend())
        await asyncio.sleep(1.5)
        proxy.stall()
        with pytest.raises(LeaseLost, match=r"no renewal within 1\.6 s"):
            await task
        gave_up = time.monotonic()
        assert await waiting == 2
    assert ended[0] - gave_up > RENEW / 2, "time to stop in"
    proxy.flow()
    with pytest.raises(LeaseLost):
        await holder.hold()


async def test_a_short_outage_costs_nothing(client: Client, distant: Client, proxy: Proxy, namespace: str) -> None:
    holder = elector(distant, namespace, "a")
    await holder.acquire()
    async with holding(holder) as task:
        proxy.refusing = True
        proxy.cut()
        await asyncio.sleep(1.0)
        proxy.refusing = False
        await asyncio.sleep(DURATION)
        assert not task.done()
    assert (await read(client, namespace)).spec.lease_transitions == 1


async def test_a_lease_of_our_own_name_is_waited_for_and_begins_a_new_term(client: Client, namespace: str) -> None:
    """A process that was killed comes back under its name; for all it knows the old one still runs."""
    assert await elector(client, namespace, "a").acquire() == 1
    began = time.monotonic()
    assert await elector(client, namespace, "a").acquire() == 2
    assert time.monotonic() - began >= DURATION
    assert (await read(client, namespace)).spec.holder_identity == "a"


async def test_a_holder_whose_lease_another_took_stops_at_once(client: Client, namespace: str) -> None:
    holder = elector(client, namespace, "a")
    await holder.acquire()
    async with holding(holder) as task:
        spec = {"holderIdentity": "b", "leaseTransitions": 2}
        await client.patch(LEASE, "operator", {"spec": spec}, namespace=namespace, type=Lease)
        async with asyncio.timeout(RENEW * 2):
            with pytest.raises(LeaseLost, match="taken by 'b'"):
                await task


async def test_a_holder_of_the_same_name_and_another_term_is_another(client: Client, namespace: str) -> None:
    holder = elector(client, namespace, "a")
    await holder.acquire()
    async with holding(holder) as task:
        await client.patch(LEASE, "operator", {"spec": {"leaseTransitions": 2}}, namespace=namespace, type=Lease)
        async with asyncio.timeout(RENEW * 2):
            with pytest.raises(LeaseLost, match="taken by 'a'"):
                await task


async def test_a_holder_whose_lease_was_deleted_stops(client: Client, namespace: str) -> None:
    holder = elector(client, namespace, "a")
    await holder.acquire()
    async with holding(holder) as task:
        await client.delete(LEASE, "operator", namespace=namespace)
        with pytest.raises(LeaseLost, match="deleted"):
            await task


async def test_an_annotation_on_the_lease_does_not_end_a_term(client: Client, namespace: str) -> None:
    holder = elector(client, namespace, "a")
    await holder.acquire()
    async with holding(holder) as task:
        body = {"metadata": {"annotations": {"note": "hands off"}}}
        noted = await client.patch(LEASE, "operator", body, namespace=namespace, type=Lease)

        await asyncio.sleep(DURATION)
        assert not task.done()
    now = await read(client, namespace)
    assert now.metadata.annotations == {"note": "hands off"}
    assert now.metadata.version > noted.metadata.version


async def test_of_many_contenders_for_a_free_lease_one_wins(client: Client, namespace: str) -> None:
    waiting = [asyncio.create_task(elector(client, namespace, name).acquire()) for name in "abcdefgh"]
    await eventually(lambda: any(task.done() for task in waiting))
    await asyncio.sleep(1.0)
    assert [task.result() for task in waiting if task.done()] == [1]
    for task in waiting:
        task.cancel()


async def test_terms_follow_each_other_without_a_gap_in_their_numbers(client: Client, namespace: str) -> None:
    epochs = []
    for name in "abab":
        each = elector(client, namespace, name)
        epochs.append(await each.acquire())
        await each.release()
    assert epochs == [1, 2, 3, 4]


def test_a_renewal_that_leaves_no_second_try_is_refused(client: Client) -> None:
    with pytest.raises(ValueError, match=r"renew 2\.0 s is to be less than half of duration 3\.0 s"):
        Elector(client, "default", "operator", "a", duration=3.0)
