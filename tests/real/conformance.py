"""The official conformance suite: against our own server, through the relay and through the tool view.

The suite's exit code is not enough: a scenario that checks nothing counts as passed. So every claim also
demands the number of scenarios and of checks that a server without a gateway reaches. An empty baseline is
passed, because only then do warnings fail; no failure is ever expected.
"""

import collections
import json
import os
import pathlib
import re
import subprocess
import tempfile

from mcp import J, L, M, NAMES
from world import Conformance, Gateway, provider

# Scenarios and checks of the suite for each revision. Where client and server both speak L there is
# one check more: the server ends its stream before the answer, so that the client must resume.
CEILING = {J: (27, 56), L: (33, 83), M: (40, 153)}
DIRECT = {**CEILING, L: (33, 84)}
# The extension's scenarios must be named one by one. The one of status notifications checks nothing yet.
TASKS = {
    "tasks-lifecycle": 9,
    "tasks-capability-negotiation": 5,
    "tasks-wire-fields": 4,
    "tasks-request-state-removal": 3,
    "tasks-mrtr-input": 4,
    "tasks-request-headers": 5,
    "tasks-dispatch-and-envelope": 9,
    "tasks-status-notifications": 0,
    "tasks-required-task-error": 3,
    "tasks-mrtr-composition": 2,
}
GUARD = 600
# How the suite names the results of a scenario.
FOLDER = re.compile(r"server-(.+)-\d{4}-\d\d-\d\dT")
# Servers of one revision that speak the era of a client.
FLAGS = {J: ("--only-legacy", J), L: ("--only-legacy", L), M: ("--only-modern",)}
EQUAL_ERAS = [(J, J), (J, L), (L, J), (L, L), (M, M)]


def checks():
    with Conformance() as server, Gateway(provider("conf", server.url)) as gateway:
        gateway.settled("conf")
        ways = {
            "directly": server.url,
            "through the relay": f"{gateway.url}/relay/conf",
            "through the tool view": f"{gateway.url}/tools/conf",
        }
        for way, url in ways.items():
            for revision in (J, L, M):
                yield (
                    f"the suite of {NAMES[revision]} passes {way}",
                    lambda way=way, url=url, revision=revision: whole(way, url, revision, DIRECT[revision]),
                )
            yield (
                f"the {len(TASKS)} scenarios of tasks pass {way}",
                lambda way=way, url=url: tasks(way, url),
            )


    yield from single()


def single():
    """Servers of one revision: nothing can be negotiated in their place."""
    servers = {revision: Conformance(*FLAGS[revision]) for revision in (J, L, M)}
    try:
        descriptors = [provider(NAMES[revision].lower(), servers[revision].url) for revision in servers]
        with Gateway(*descriptors) as gateway:
            for revision in servers:
                gateway.settled(NAMES[revision].lower())
            for client, upstream in EQUAL_ERAS:
                way = f"through the tool view to a server of {NAMES[upstream]} alone"
                url = f"{gateway.url}/tools/{NAMES[upstream].lower()}"
                ceiling = DIRECT if upstream == L else CEILING
                yield (
                    f"the suite of {NAMES[client]} passes {way}",
                    lambda way=way, url=url, client=client, ceiling=ceiling: whole(
                        way, url, client, ceiling[client]
                    ),
                )
    finally:
        for server in servers.values():
            server.stop()


def whole(way, url, revision, ceiling):
    run = suite(url, "--suite", "all", "--spec-version", revision)
    print(f"      {revision} {way}: {run}", flush=True)
    run.demand(*ceiling)


def tasks(way, url):
    runs = {name: suite(url, "--scenario", name) for name in TASKS}
    for name, run in runs.items():
        print(f"      {name} {way}: {run}", flush=True)
    for name, run in runs.items():
        run.demand(1, TASKS[name])


def suite(url, *selection):
    """Runs the server suite against a URL."""
    with tempfile.TemporaryDirectory(prefix="pleiades-suite-") as folder:
        folder = pathlib.Path(folder)
        baseline = folder / "baseline.yaml"
        baseline.write_text("server: []\nclient: []\n")
        command = [os.environ["PLEIADES_NODE22"], os.environ["PLEIADES_CONFORMANCE"], "server", "--url", url]
        command += [*selection, "--expected-failures", baseline, "-o", folder / "results"]
        done = subprocess.run(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=GUARD,
            cwd=folder,
        )
        return Run(done.returncode, done.stdout.decode(errors="replace"), folder / "results")


class Run:
    """What one run of the suite found."""

    def __init__(self, code, output, results):
        self.code = code
        self.output = output
        self.statuses = collections.Counter()
        self.faults = []
        self.scenarios, self.unclean = 0, set()
        for path in sorted(results.glob("*/checks.json")):
            self.scenarios += 1
            for check in json.loads(path.read_text()):
                self.statuses[check["status"]] += 1
                if check["status"] in ("FAILURE", "WARNING"):
                    scenario = FOLDER.match(path.parent.name)[1]
                    self.unclean.add(scenario)
                    self.faults.append(f"{scenario}: {check['id']}: {check.get('errorMessage')}")

    def __str__(self):
        return (
            f"{self.scenarios - len(self.unclean)}/{self.scenarios} scenarios clean, "
            f"{self.statuses['SUCCESS']} checks passed, {self.statuses['FAILURE']} failed, "
            f"{self.statuses['WARNING']} warned, {self.statuses['SKIPPED']} skipped, exit {self.code}"
        )

    def demand(self, scenarios, checks):
        faults = "\n  ".join(self.faults)
        assert not self.faults, f"{self}\n  {faults}"
        assert self.code == 0, f"{self}\n{self.output[-3000:]}"
        assert self.scenarios >= scenarios, f"{self}, but there are {scenarios} scenarios"
        assert self.statuses["SUCCESS"] >= checks, f"{self}, but there are {checks} checks"
