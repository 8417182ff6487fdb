"""Minutes of mixed traffic: every cell and view at once, with questions, progress, subscriptions, clients
that leave in every way, a provider that is killed again and again, upstream sessions that expire.

Not one of the default suites: `run.py soak [MINUTES]`, ten by default. A call that is answered wrongly,
or not within its bound, is named; memory must be flat; in the end nothing may be left open.
"""

import collections
import os
import pathlib
import statistics
import threading
import time

from cell import CELLS, FLAGS, REVISIONS, Cell
from mcp import L, NAMES, RpcError, fetch
from soak_work import Worker, Wrong, risky
from world import CONFORMANCE, Conformance, Gateway, metric, provider, until

MINUTES = int(os.environ.get("PLEIADES_SOAK_MINUTES", "10"))
# Seconds within which every operation must be over, and between two of one worker.
BOUND, PAUSE = 30, 0.25
# Parked calls that nobody comes back for; they stay for ten minutes.
ABANDONED = 8
# Seconds between two deaths of the provider that dies.
LIFE = 12
GROWTH = 1.25


class Budget:
    """So many of something, and no more."""

    def __init__(self, most):
        self.left, self.lock = most, threading.Lock()

    def take(self):
        with self.lock:
            self.left -= 1
            return self.left >= 0


class Soak:
    def __init__(self, gateway, seconds):
        self.gateway, self.end = gateway, time.monotonic() + seconds
        self.done, self.faults, self.slowest = collections.Counter(), [], (0.0, "")
        self.refused, self.lock = 0, threading.Lock()
        self.samples = []

    def over(self):
        return time.monotonic() >= self.end

    def note(self, name, began, fault=None):
        took = time.monotonic() - began
        with self.lock:
            self.done[name] += 1
            self.slowest = max(self.slowest, (took, name))
            if took > BOUND:
                fault = fault or f"took {took:.0f} s"
            if fault:
                self.faults.append(f"{name}: {fault}")

    def work(self, worker):
        while not self.over():
            began = time.monotonic()
            try:
                name = worker.once()
                self.note(name, began)
            except (Wrong, RpcError, OSError, ValueError, KeyError, AssertionError, StopIteration) as fault:
                self.note(str(worker.cell), began, f"{type(fault).__name__}: {fault}"[:500])
                worker.client = None
            time.sleep(PAUSE)
        worker.client = None

    def risk(self, cell):
        """Calls of the provider that dies: a refusal is an answer there."""
        client = None
        while not self.over():
            began, fault = time.monotonic(), None
            try:
                client = client or cell.open()
                if risky(cell, client):
                    with self.lock:
                        self.refused += 1
            except RpcError as refusal:
                with self.lock:
                    self.refused += 1
                fault = refusal if refusal.code is None else None
            except (Wrong, OSError, ValueError) as wrong:
                fault, client = wrong, None
            self.note("risky", began, fault)
            time.sleep(PAUSE)

    def sample(self):
        while not self.over():
            self.samples.append(resident(self.gateway.pid))
            time.sleep(1)

    def killing(self, servers, key):
        while not self.over():
            time.sleep(LIFE)
            old = servers[key]
            old.popen.kill()
            old.popen.wait()
            time.sleep(1)
            servers[key] = Conformance(*FLAGS[L], port=old.port)
            old.stop()


def resident(pid):
    """Resident memory of a process (KiB)."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError("a process without memory")


def checks():
    servers = {r: Conformance(*FLAGS[r]) for r in REVISIONS}
    servers["dying"] = Conformance(*FLAGS[L])
    # Upstream sessions expire while the soak runs.
    brief = {"timeouts": {"idle": "5s"}}
    descriptors = [provider(NAMES[r].lower(), servers[r].url, upstream=dict(brief)) for r in REVISIONS]
    descriptors.append(provider("dying", servers["dying"].url, upstream=dict(brief)))
    piped = [CONFORMANCE, "--stdio", *FLAGS[L]]
    descriptors.append(provider("piped", command=piped, upstream=dict(brief)))
    try:
        with Gateway(*descriptors) as gateway:
            for descriptor in descriptors:
                gateway.settled(descriptor["id"])
            yield from soaking(gateway, servers)
    finally:
        for server in servers.values():
            server.stop()


def soaking(gateway, servers):
    soak = Soak(gateway, MINUTES * 60)
    budget, before = Budget(ABANDONED), gauges(gateway)
    threads = []

    def begin(function, *arguments):
        threads.append(threading.Thread(target=function, args=arguments, daemon=True))

    for client, upstream in CELLS:
        for view in ("tools", "mcp"):
            cell = Cell(gateway, NAMES[upstream].lower(), client, upstream, view)
            begin(soak.work, Worker(cell, budget))
    for client in REVISIONS:
        begin(soak.risk, Cell(gateway, "dying", client, L, "tools"))
    # A pipe does not say which call a question belongs to: one client at a time there.
    begin(soak.work, Worker(Cell(gateway, "piped", L, L, "tools"), Budget(0)))
    begin(soak.sample)
    begin(soak.killing, servers, "dying")

    def traffic():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(MINUTES * 60 + 120)
        stuck = [thread for thread in threads if thread.is_alive()]
        total = sum(soak.done.values())
        print(f"      {total} operations, {soak.refused} refused while their provider was dead", flush=True)
        print(f"      {dict(soak.done.most_common())}", flush=True)
        print(f"      the slowest took {soak.slowest[0]:.1f} s: {soak.slowest[1]}", flush=True)
        assert not stuck, f"{len(stuck)} clients never came back"
        faults = "\n  ".join(soak.faults[:40])
        assert not soak.faults, f"{len(soak.faults)} wrong of {total}\n  {faults}"

    yield f"{MINUTES} minutes of mixed traffic: every answer is right and within {BOUND} s", traffic
    yield "memory is flat", lambda: flat(soak.samples)
    yield "in the end nothing is left open", lambda: empty(gateway, before)
    yield "the gateway neither panicked nor logged an error", lambda: quiet(gateway)


def gauges(gateway):
    text = fetch(f"{gateway.admin}/metrics").text
    return {name: metric(text, f"pleiades_{name}") for name in ("sessions", "streams", "inflight")}


def flat(samples):
    """Medians of the first and the last third, a fifth of warm-up apart."""
    steady = samples[len(samples) // 5 :]
    third = max(len(steady) // 3, 1)
    first, last = statistics.median(steady[:third]), statistics.median(steady[-third:])
    shown = [f"{sample / 1024:.0f}" for sample in samples[:: max(len(samples) // 30, 1)]]
    print(f"      resident MiB: {' '.join(shown)}", flush=True)
    print(f"      median of the first third {first / 1024:.1f}, of the last {last / 1024:.1f}", flush=True)
    assert last < first * GROWTH, f"grew from {first} to {last} KiB"


def empty(gateway, before):
    def settled():
        now = gauges(gateway)
        calm = now["streams"] == 0 and now["inflight"] <= ABANDONED
        # A parked call keeps its session; each provider keeps one to hear of changes.
        return calm and now["sessions"] <= before["sessions"] + ABANDONED and now

    now = until(f"all to be closed; before {before}, now {gauges(gateway)}", settled)
    print(f"      before {before}, after {now}", flush=True)


def quiet(gateway):
    gateway.check_alive()
    loud = [line for line in gateway.output().splitlines() if '"ERROR"' in line or "panicked" in line]
    assert not loud, loud[:5]
