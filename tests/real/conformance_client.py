"""The official conformance suite's client side: the gateway is the client, a naive one stands behind it.

Neither the suite's word nor its exit code is enough: a scenario that checked nothing counts as passed. So
every run is judged by its checks: none may fail or warn, those that are the scenario's purpose must have
succeeded, and only what is named here may be skipped. A driver that does nothing must be red everywhere.
"""

import collections
import json
import os
import pathlib
import subprocess
import sys
import tempfile

from mcp import J, L, M, NAMES
from world import PLEIADES

DRIVER = pathlib.Path(__file__).with_name("conformance_driver.py")
# The suite gives up on a driver later than the driver on itself.
PATIENCE = 120_000
GUARD = 180

PRESERVED = [
    "json-schema-2020-12-client-tool-found",
    "json-schema-2020-12-client-echo-completed",
    "json-schema-2020-12-client-$schema-preserved",
    "json-schema-2020-12-client-$defs-preserved",
    "json-schema-2020-12-client-additionalProperties-preserved",
    "sep-2106-client-composition-keywords-preserved",
    "sep-2106-client-conditional-keywords-preserved",
    "sep-2106-client-anchor-keyword-preserved",
]
# Each scenario: the revisions the suite lists it for, and the checks it is there for.
SCENARIOS = {
    "initialize": ([J, L], ["mcp-client-initialization"]),
    "tools_call": ([J, L, M], ["tool-add-numbers", "wire-schema-valid"]),
    "sse-retry": (
        [L],
        ["client-sse-graceful-reconnect", "client-sse-retry-timing", "client-sse-last-event-id"],
    ),
    "elicitation-sep1034-client-defaults": (
        [L],
        [
            f"client-elicitation-sep1034-{kind}-default"
            for kind in ("string", "integer", "number", "enum", "boolean")
        ],
    ),
    "json-schema-2020-12-preservation": ([L, M], PRESERVED),
    "json-schema-ref-no-deref": ([M], ["sep-2106-no-network-ref-deref"]),
    "request-metadata": (
        [M],
        [
            "sep-2575-http-client-sends-version-header",
            "sep-2575-client-populates-meta",
            "sep-2575-client-sends-client-info",
            "sep-2575-http-version-header-matches-meta",
            "sep-2575-client-retry-supported-version",
        ],
    ),
    "http-standard-headers": ([M], ["sep-2243-client-includes-standard-headers"]),
    "http-custom-headers": (
        [M],
        [
            "sep-2243-client-supports-custom-headers",
            "sep-2243-client-mirrors-designated-params",
            "sep-2243-client-encode-values",
            "sep-2243-client-base64-unsafe",
            "sep-2243-client-omit-null",
        ],
    ),
    "http-invalid-tool-headers": (
        [M],
        [
            "sep-2243-client-reject-invalid-tool",
            "sep-2243-x-mcp-header-not-empty",
            "sep-2243-x-mcp-header-primitive-only",
            "sep-2243-x-mcp-header-unique",
            "sep-2243-x-mcp-header-charset",
        ],
    ),
    "sep-2322-client-request-state": (
        [M],
        [
            "sep-2322-client-request-state-echoed",
            "sep-2322-client-jsonrpc-id-different",
            "sep-2322-client-no-state-omitted",
            "sep-2322-client-parallel-isolation",
            "sep-2322-default-result-type-complete",
        ],
    ),
}
# By name, because one id stands for all: a modern client has no session to begin, and capabilities that
# a client cannot have need not be declared.
SKIPPED = {
    "http-standard-headers": {
        "ClientMcpMethodHeader_initialize",
        "ClientMcpMethodHeader_notifications_initialized",
    },
    "request-metadata": {
        "ClientDeclaresRootsCapability",
        "ClientDeclaresSamplingCapability",
        "ClientDeclaresElicitationCapability",
    },
}
# Scenarios that the one tool of the meta view can go through as well.
META = [
    ("tools_call", J),
    ("tools_call", L),
    ("tools_call", M),
    ("sse-retry", L),
    ("elicitation-sep1034-client-defaults", L),
    ("http-invalid-tool-headers", M),
    ("sep-2322-client-request-state", M),
]
# Scenarios with a client of another generation: what it cannot do itself the gateway does for it.
MIXED = [
    ("tools_call", J, M),
    ("tools_call", M, J),
    ("sse-retry", L, M),
    ("elicitation-sep1034-client-defaults", L, J),
    ("elicitation-sep1034-client-defaults", L, M),
    ("json-schema-2020-12-preservation", L, M),
    ("json-schema-2020-12-preservation", M, L),
    ("http-standard-headers", M, L),
    ("http-custom-headers", M, J),
    ("http-custom-headers", M, L),
    ("http-invalid-tool-headers", M, L),
    ("sep-2322-client-request-state", M, L),
]
# Scenarios in which the gateway finds the revision out by itself; what it asks for that is judged too.
DETECTED = [
    ("initialize", J),
    ("initialize", L),
    ("tools_call", J),
    ("tools_call", L),
    ("tools_call", M),
    ("request-metadata", M),
    ("http-standard-headers", M),
]


def checks():
    for scenario, (revisions, _) in SCENARIOS.items():
        for revision in revisions:
            yield (
                f"{scenario} passes in {NAMES[revision]}",
                lambda scenario=scenario, revision=revision: passes(scenario, revision),
            )
    for scenario, revision in META:
        yield (
            f"{scenario} passes in {NAMES[revision]} through the meta view",
            lambda scenario=scenario, revision=revision: passes(scenario, revision, "--view", "mcp"),
        )
    for scenario, revision, client in MIXED:
        yield (
            f"{scenario} passes in {NAMES[revision]} with a client of {NAMES[client]}",
            lambda scenario=scenario, revision=revision, client=client: passes(
                scenario, revision, "--client", client
            ),
        )
    for scenario, revision in DETECTED:
        yield (
            f"{scenario} passes in {NAMES[revision]} when the revision is not pinned",
            lambda scenario=scenario, revision=revision: passes(scenario, revision, "--protocol", "auto"),
        )
    yield "a driver that ends at once is red in every scenario", idle


def passes(scenario, revision, *options):
    run = suite(scenario, revision, f"{sys.executable} {DRIVER} {' '.join(options)}".rstrip())
    print(f"      {scenario} {revision} {' '.join(options)}: {run}", flush=True)
    faults = run.faults(SCENARIOS[scenario][1], SKIPPED.get(scenario, ()))
    assert not faults, "\n  ".join([str(run), *faults, run.output[-4000:]])


def idle():
    """Every program that says well done and did nothing, or failed, is judged as failed."""
    for command in ("true", "false"):
        for scenario, (revisions, _) in SCENARIOS.items():
            run = suite(scenario, revisions[-1], command)
            assert run.faults(SCENARIOS[scenario][1]), f"`{command}` passes {scenario}: {run}"


def suite(scenario, revision, command, **environment):
    """Runs one scenario of the client suite."""
    with tempfile.TemporaryDirectory(prefix="pleiades-suite-") as folder:
        folder = pathlib.Path(folder)
        words = [os.environ["PLEIADES_NODE22"], os.environ["PLEIADES_CONFORMANCE"], "client"]
        words += ["--command", command, "--scenario", scenario]
        words += ["--spec-version", revision] if revision else []
        words += ["--timeout", str(PATIENCE), "-o", str(folder / "results")]
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=GUARD,
            cwd=folder,
            env={**os.environ, "PLEIADES_BIN": str(PLEIADES), **environment},
        )
        return Run(done.returncode, folder / "results", done.stdout.decode(errors="replace"))


class Run:
    """What one run of the suite found."""

    def __init__(self, code, results, output):
        self.code = code
        self.found = [
            check for path in sorted(results.rglob("checks.json")) for check in json.loads(path.read_text())
        ]
        errors = [path.read_text(errors="replace") for path in results.rglob("stderr.txt")]
        self.output = "\n".join([output, *errors])

    def __str__(self):
        counts = collections.Counter(check["status"] for check in self.found)
        return (
            f"{counts['SUCCESS']} checks passed, {counts['FAILURE']} failed, {counts['WARNING']} warned, "
            f"{counts['SKIPPED']} skipped, exit {self.code}"
        )

    def faults(self, purpose, skipped=()):
        """Why this is not a pass of a scenario that is there for these checks; nothing when it is."""
        faults = [] if self.code == 0 else [f"exit {self.code}"]
        for check in self.found:
            status, name = check["status"], check["name"]
            excused = status == "SKIPPED" and name in skipped
            if status not in ("SUCCESS", "INFO") and not excused:
                faults.append(f"{status} {check['id']} ({name}): {check.get('errorMessage')}")
        succeeded = {check["id"] for check in self.found if check["status"] == "SUCCESS"}
        faults += [f"{check} never succeeded" for check in purpose if check not in succeeded]
        return faults
