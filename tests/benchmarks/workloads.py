"""What is measured of each peer: figures by name, which ``table`` has units for; none where a peer
cannot do it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from tests.benchmarks import machine

if TYPE_CHECKING:
    from tests.benchmarks.compare import Peer

type Figures = dict[str, float]

FEW, MANY, BEGUN, TIMED = 20_000, 500_000, 5000, 19_000
"""Ready jobs of two drains, and which of each are timed: those that run while all workers do."""

CHURNED = 200_000
"""Jobs of a drain that leaves as many dead rows behind."""


def enqueue(peer: Peer, processes: int, at_once: int, seconds: float = 4.0) -> Figures:
    peer.begin()
    started = [peer.start("enqueue_for", seconds, at_once) for _ in range(processes)]
    figures = [peer.answer(process) for process in started]
    return {
        "rate": sum(figure["rate"] for figure in figures),
        "client_us": statistics.mean(figure["cpu"] for figure in figures),
    }


def drain(peer: Peer, configuration: str) -> Figures:
    count = peer.kind.jobs[configuration]
    _fill(peer, "fill", count)
    return _drain(peer, configuration, count)


def _fill(peer: Peer, *command: str | int) -> None:
    peer.begin()
    peer.call(*command)
    peer.store.settle()


def _drain(peer: Peer, configuration: str, count: int) -> Figures:
    """From the first task's body until the store shows that all have ended."""
    store = peer.store
    with peer.working(configuration) as workers:
        peer.until_recorded(1)
        before = [machine.cpu_seconds(*workers), machine.cpu_seconds(store.pid)]
        peer.until_recorded(count)
        _until_ended(peer)
        ended = time.time_ns()
        after = [machine.cpu_seconds(*workers), machine.cpu_seconds(store.pid)]
    recorded = peer.recorded()
    if sorted(number for number, _ in recorded) != list(range(count)):
        raise SystemExit(f"{peer}: {len(recorded)} bodies for {count} jobs, or not each once")
    return {
        "rate": count / ((ended - min(at for _, at in recorded)) / 1e9),
        "worker_us": (after[0] - before[0]) / count * 1e6,
        "server_us": (after[1] - before[1]) / count * 1e6,
    }


def _until_ended(peer: Peer) -> None:
    while peer.store.left(peer.kind.left):
        time.sleep(0.002)


def beside_many(peer: Peer) -> Figures:
    """The rate of the first bodies with many jobs ready, of that with few."""
    if not peer.kind.bulk:
        return {}
    turns = 3 if peer.kind.fast else 1
    pairs = [[_rate_of_first(peer, ready) for ready in (FEW, MANY)] for _ in range(turns)]
    return {"kept": statistics.median(many / few for few, many in pairs)}


def _rate_of_first(peer: Peer, ready: int) -> float:
    _fill(peer, "fill", ready)
    with peer.working("best"):
        peer.until_recorded(TIMED)
    moments = sorted(at for _, at in peer.recorded())
    return (TIMED - BEGUN) / ((moments[TIMED - 1] - moments[BEGUN - 1]) / 1e9)


def under_old_snapshot(peer: Peer) -> Figures:
    """The rate of a drain while a snapshot from before it is held, of that without."""
    if not peer.kind.fast:
        return {}
    rates = []
    for held in (False, True):
        _fill(peer, "fill", CHURNED)
        with peer.store.snapshot() if held else nullcontext():
            rates.append(_drain(peer, "best", CHURNED)["rate"])
    free, kept = rates
    return {"kept": kept / free}


def limited(peer: Peer) -> Figures:
    """Jobs that do nothing, on one key."""
    if not peer.kind.limits:
        return {}
    figures, count = {}, peer.kind.jobs["limited"]
    for to in (1, 4):
        _fill(peer, "fill_limited", count, to)
        figures[f"to{to}"] = _drain(peer, "best", count)["rate"]
    return figures


def statements(peer: Peer) -> Figures:
    """What the server logs for each job."""
    peer.begin()
    said = peer.store.log_statements()
    if not said:
        return {}
    return {"to_enqueue": _said_to_enqueue(peer, said), "to_run": _said_to_run(peer, said)}


def _said_to_enqueue(peer: Peer, said: Callable[[], int]) -> float:
    counts = [said()]
    for calls in (20, 120):
        peer.call("now_and_then", calls, 0)
        counts.append(said())
    # What each process asks once falls out.
    return ((counts[2] - counts[1]) - (counts[1] - counts[0])) / 100


def _said_to_run(peer: Peer, said: Callable[[], int]) -> float:
    jobs = peer.kind.jobs["default"]
    _fill(peer, "fill", jobs)
    # In the new database, too.
    peer.store.log_statements()
    with peer.working("default"):
        peer.until_recorded(1)
        before = said()
        peer.until_recorded(jobs)
        _until_ended(peer)
        return (said() - before) / jobs


@contextmanager
def _at_rest(peer: Peer, seconds: float) -> Iterator[None]:
    """With a worker in its default configuration that has run a job and waits since."""
    peer.begin()
    with peer.working("default"):
        peer.call("fill", 1)
        peer.until_recorded(1)
        time.sleep(seconds)
        yield


def latency(peer: Peer, count: int = 200) -> Figures:
    """Milliseconds from before the call to the task's body, one job each 50 ms."""
    with _at_rest(peer, 1):
        called = peer.call("now_and_then", count, 0.05)
        peer.until_recorded(count + 1)
    began = dict(sorted(peer.recorded()[1:]))
    waits = sorted((began[number] - at) / 1e6 for number, at in enumerate(called))
    return {"p50": waits[len(waits) // 2], "p99": waits[len(waits) * 99 // 100]}


def idle(peer: Peer, seconds: float = 60.0) -> Figures:
    """What an idle worker in its default configuration asks its store, a second."""
    # Sessions report what they did with a delay of up to ten seconds.
    with _at_rest(peer, 15):
        before = peer.store.answered()
        time.sleep(seconds)
        after = peer.store.answered()
    return {peer.store.unit: (after - before - 1) / seconds}


WORKLOADS: dict[str, Callable[[Peer], Figures]] = {
    "enqueue one by one": lambda peer: enqueue(peer, 1, 1),
    "enqueue one by one, 4 processes": lambda peer: enqueue(peer, 4, 1),
    "enqueue 1,000 at once": lambda peer: enqueue(peer, 1, 1000) if peer.kind.bulk else {},
    "drain, default configuration": lambda peer: drain(peer, "default"),
    "drain, best configuration": lambda peer: drain(peer, "best"),
    "drain, 500,000 ready": beside_many,
    "drain of 200,000, an old snapshot held": under_old_snapshot,
    "one limit key": limited,
    "statements a job": statements,
    "enqueue to task body": latency,
    "idle": idle,
}
ONCE = ("drain, 500,000 ready", "statements a job", "idle")
"""What takes turns of its own, or is counted."""

QUICK = (
    "enqueue one by one",
    "enqueue 1,000 at once",
    "drain, default configuration",
    "drain, best configuration",
)
