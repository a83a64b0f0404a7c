"""One container: started, probed, restarted as its pod's policy says, and stopped."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import signal
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tortie.lab.kubelet import manifest
from tortie.lab.kubelet.command import CommandError, Launch, Place, launch
from tortie.lab.kubelet.events import Tell
from tortie.lab.kubelet.manifest import Pod
from tortie.lab.kubelet.probes import Prober, Target
from tortie.lab.kubelet.records import ContainerRecord, Ended
from tortie.lab.kubelet.sandbox import Run, Sandbox, SandboxError
from tortie.lab.kubelet.status import ContainerView, Running, State, Waiting

log = logging.getLogger(__name__)

FIRST_DELAY, LONGEST_DELAY = 1.0, 60.0
"""Seconds before a container that ended starts again, from its second restart on: doubled each time (a kubelet has 10 s
and 5 min), forgotten after LONGEST_DELAY of life."""
KILLED = 128 + signal.SIGKILL


@dataclass(frozen=True)
class Home:
    """The sandbox that a container lives in, as long as it lives."""

    sandbox: Sandbox
    netns: str
    place: Place


class Container:
    def __init__(
        self,
        pod: Pod,
        spec: manifest.Container,
        record: ContainerRecord,
        logs: Path,
        prober: Prober,
        tell: Tell,
        changed: Callable[[], None],
    ) -> None:
        self.pod = pod
        self.spec = spec
        self.state: State = Waiting("PodInitializing" if pod.spec.init_containers else "ContainerCreating")
        self.restarts, self.last = record.restarts, record.last
        if record.ended and record.last:
            self.state, self.last = record.last, None
        self.ready, self.started = record.ready, record.started
        self.begun = asyncio.Event()
        """It has started as far as its startup probe and hook tell: what follows a sidecar may begin."""
        self._logs = logs
        self._prober = prober
        self._tell = tell
        self._changed = changed
        self._delay = 0.0

    @property
    def record(self) -> ContainerRecord:
        ended = isinstance(self.state, Ended)
        last = self.state if isinstance(self.state, Ended) else self.last
        return ContainerRecord(restarts=self.restarts, ready=self.ready, started=self.started, ended=ended, last=last)

    @property
    def view(self) -> ContainerView:
        return ContainerView(self.spec, self.state, self.ready, self.started, self.restarts, self.last)

    def ended_for_good(self, policy: str) -> bool:
        return isinstance(self.state, Ended) and (
            policy == "Never" or (policy == "OnFailure" and self.state.exit_code == 0)
        )

    async def live(self, home: Home, policy: str) -> None:
        """Return when it has ended and is not to run again. Cancellation leaves it running."""
        while not self.ended_for_good(policy):
            if not isinstance(self.state, Running):
                await self._back_off()
            if isinstance(self.state, Running) or await self._start(home):
                await self._look_after(home)

    def resume(self, sandbox: Sandbox) -> None:
        """Take up what a kubelet before this one left, running or ended."""
        if run := sandbox.runs.get(self.spec.name):
            self.state = Running(run.id, run.started) if run.exit_code is None else _ended(run)
            if self.last and self.last.run == run.id:
                self.last = None

    def again(self) -> None:
        """It is to run anew in a new sandbox, whatever came of it in the one before."""
        if isinstance(self.state, Ended):
            self.last = self.state
        self.state = Waiting("PodInitializing")

    async def _back_off(self) -> None:
        """Nothing before the first start and the first restart."""
        if not isinstance(self.state, Ended):
            return
        if self.state.finished - self.state.started > LONGEST_DELAY:
            self._delay = 0.0
        if self._delay:
            message = f"back-off {self._delay:g}s restarting failed container={self.spec.name}"
            self.last = self.state
            self._set(Waiting("CrashLoopBackOff", message))
            self._tell("Warning", "BackOff", f"Back-off restarting failed container {self.spec.name}")
            await asyncio.sleep(self._delay)
        self._delay = min(max(2 * self._delay, FIRST_DELAY), LONGEST_DELAY)

    async def _start(self, home: Home) -> bool:
        """Whether it runs; if not, its state says why."""
        if isinstance(self.state, Ended):
            self.last = self.state
        if self.last:
            self.restarts += 1
        run, now = secrets.token_hex(32), time.time()
        try:
            what = launch(self.pod, self.spec, home.place)
            self._logs.mkdir(parents=True, exist_ok=True)
            file = self._logs / f"{self.restarts}.log"
            await home.sandbox.run(self.spec.name, run, what.argv, what.env, what.cwd, file)
        except (CommandError, SandboxError) as error:
            if home.sandbox.dead.is_set():
                await asyncio.get_running_loop().create_future()  # for ever: the pod sees it, too
            reason = error.reason if isinstance(error, CommandError) else "StartError"
            self._tell("Warning", "Failed", f"Error: {error}")
            self._end(Ended(run=run, exit_code=128, reason=reason, started=now, finished=now, message=str(error)))
            return False
        self.started = self.ready = False
        self._set(Running(run, now))
        return True

    async def _look_after(self, home: Home) -> None:
        """Until it has ended."""
        tending = asyncio.create_task(self._tend(home), name=f"tend {self.spec.name}")
        try:
            run = await home.sandbox.ended(self.spec.name)
        finally:
            tending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await tending
        self._end(_ended(run))

    def lost(self) -> None:
        """Its sandbox died, and it with it."""
        if isinstance(self.state, Running):
            now = time.time()
            ended = Ended(
                run=self.state.run, exit_code=KILLED, reason="Error", started=self.state.started, finished=now
            )
            self._end(ended)
        self._delay = 0.0

    def unknown(self) -> None:
        """It ran before the node was rebooted."""
        now = time.time()
        reason, message = "ContainerStatusUnknown", "The container could not be located when the pod was terminated"
        ended = Ended(run="", exit_code=KILLED, reason=reason, started=now, finished=now, message=message)
        self.state = ended

    def explain(self, message: str) -> None:
        """Say why it has not begun."""
        if isinstance(self.state, Waiting):
            self._set(Waiting(self.state.reason, message))

    def _end(self, ended: Ended) -> None:
        self.ready = self.started = False
        self.begun.clear()
        self._set(ended)

    def _set(self, state: State) -> None:
        self.state = state
        self._changed()

    # --- probes and hooks ---------------------------------------------------------------------------------------

    async def _tend(self, home: Home) -> None:
        """Hook and probes for as long as the container runs."""
        target = self._target(home)
        hook, startup = self.spec.lifecycle.post_start, self.spec.startup_probe
        if hook and not self.started and (reason := await self._prober.attempt(hook, target, self.pod.grace)):
            await self._restart(home, "FailedPostStartHook", f"PostStartHook failed: {reason}")
            return
        if startup and not self.started:
            async for passed in self._prober.outcomes(startup, target, self._failed("Startup")):
                if not passed:
                    await self._restart(home, "Killing", f"Container {self.spec.name} failed startup probe")
                    return
                break
        self.started = True
        self.ready = self.ready or self.spec.readiness_probe is None
        self.begun.set()
        self._changed()
        duties: list[Coroutine[Any, Any, None]] = []
        if self.spec.readiness_probe:
            duties.append(self._readiness(self.spec.readiness_probe, target))
        if self.spec.liveness_probe:
            duties.append(self._liveness(self.spec.liveness_probe, target, home))
        async with asyncio.TaskGroup() as tasks:
            for duty in duties:
                tasks.create_task(duty)

    async def _readiness(self, probe: manifest.Probe, target: Target) -> None:
        async for passed in self._prober.outcomes(probe, target, self._failed("Readiness"), eager=True):
            if passed != self.ready:
                self.ready = passed
                self._changed()

    async def _liveness(self, probe: manifest.Probe, target: Target, home: Home) -> None:
        async for passed in self._prober.outcomes(probe, target, self._failed("Liveness")):
            if not passed:
                message = f"Container {self.spec.name} failed liveness probe, will be restarted"
                await self._restart(home, "Killing", message)

    async def _restart(self, home: Home, reason: str, message: str) -> None:
        """End it; `live` starts it again if that is the policy."""
        self._tell("Normal" if reason == "Killing" else "Warning", reason, message)
        await self._end_process(home.sandbox, self.pod.spec.termination_grace_period_seconds)

    def _failed(self, kind: str) -> Callable[[str], None]:
        return lambda reason: self._tell("Warning", "Unhealthy", f"{kind} probe failed: {reason}")

    def _target(self, home: Home) -> Target:
        what = self._launched(home)
        return Target(
            address=home.place.ips[0],
            ports={port.name: port.container_port for port in self.spec.ports if port.name},
            netns=home.netns,
            env=what.env,
            echo=what.echo,
        )

    def _launched(self, home: Home) -> Launch:
        return launch(self.pod, self.spec, home.place)

    # --- the end ------------------------------------------------------------------------------------------------

    async def stop(self, home: Home, grace: float) -> None:
        """preStop, SIGTERM, and SIGKILL once `grace` seconds are over. Nobody may be in `live`."""
        run = home.sandbox.runs.get(self.spec.name)
        if run is None or home.sandbox.dead.is_set():
            return
        if run.exit_code is None:
            deadline = time.monotonic() + grace
            hook = self.spec.lifecycle.pre_stop
            if hook and (reason := await self._prober.attempt(hook, self._target(home), grace)):
                self._tell("Warning", "FailedPreStopHook", f"PreStopHook failed: {reason}")
            await self._end_process(home.sandbox, max(1.0, deadline - time.monotonic()))
        if isinstance(self.state, Running):
            run = home.sandbox.runs[self.spec.name]
            self.lost() if run.exit_code is None else self._end(_ended(run))

    async def _end_process(self, sandbox: Sandbox, grace: float) -> None:
        """Returns when it has ended, or its sandbox has."""
        name = self.spec.name
        await sandbox.signal(name, signal.SIGTERM)
        if not await _either(sandbox, name, grace):
            await sandbox.signal(name, signal.SIGKILL)
            await _either(sandbox, name, None)


def _ended(run: Run) -> Ended:
    code = run.exit_code or 0
    reason = "Error" if code else "Completed"
    return Ended(run=run.id, exit_code=code, reason=reason, started=run.started, finished=run.finished)


async def _either(sandbox: Sandbox, name: str, patience: float | None) -> bool:
    """Whether a container ended, or its sandbox died, within `patience` seconds."""
    waits = [asyncio.create_task(sandbox.ended(name)), asyncio.create_task(sandbox.dead.wait())]
    try:
        done, _ = await asyncio.wait(waits, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
    return bool(done)
