"""The official conformance suite's authorization scenarios: the gateway is the client and owns everything
that has to do with tokens; a naive client without any stands behind it.

Judged as in `conformance_client`: none of a run's checks may fail, warn or be skipped, and those that are
the scenario's purpose must have succeeded. The negative scenarios are worth something only where the same
gateway without its `iss` check turns them red, so that is tried as well, where such a build is at hand.
"""

import os
import pathlib
import sys

from conformance_client import suite
from mcp import L, M, NAMES

DRIVER = pathlib.Path(__file__).with_name("conformance_auth_driver.py")
OLD = "2025-03-26"
# What every flow that connects must show, but for machines and servers without metadata.
FLOW = [
    "authorization-server-metadata",
    "authorization-request",
    "token-request",
    "pkce-code-challenge-sent",
    "pkce-s256-method-used",
    "pkce-code-verifier-sent",
    "pkce-verifier-matches-challenge",
    "valid-bearer-token",
]
RESOURCE = [
    "resource-parameter-in-authorization",
    "resource-parameter-in-token",
    "resource-parameter-consistency",
    "resource-parameter-valid-uri",
    "resource-parameter-matches-prm",
]
REGISTERED = [*FLOW, "client-registration"]
BOTH, NEW = [L, M], [M]
# Each scenario: the revisions it is judged in, and the checks it is there for.
SCENARIOS = {
    "metadata-default": (BOTH, [*REGISTERED, *RESOURCE, "prm-pathbased-requested"]),
    "metadata-var1": (BOTH, [*REGISTERED, *RESOURCE, "prm-pathbased-requested"]),
    "metadata-var2": (BOTH, [*REGISTERED, *RESOURCE]),
    "metadata-var3": (BOTH, [*REGISTERED, *RESOURCE]),
    "basic-cimd": (BOTH, [*FLOW, "cimd-client-id-used"]),
    "scope-from-www-authenticate": (BOTH, [*REGISTERED, "scope-from-www-authenticate"]),
    "scope-from-scopes-supported": (BOTH, [*REGISTERED, "scope-from-scopes-supported"]),
    "scope-omitted-when-undefined": (BOTH, [*REGISTERED, "scope-omitted-when-undefined"]),
    "scope-step-up": (BOTH, [*REGISTERED, "scope-step-up-initial", "scope-step-up-escalation"]),
    "scope-retry-limit": (BOTH, ["scope-retry-limit"]),
    "token-endpoint-auth-basic": (BOTH, [*REGISTERED, *RESOURCE, "token-endpoint-auth-method"]),
    "token-endpoint-auth-post": (BOTH, [*REGISTERED, *RESOURCE, "token-endpoint-auth-method"]),
    "token-endpoint-auth-none": (BOTH, [*REGISTERED, *RESOURCE, "token-endpoint-auth-method"]),
    "pre-registration": (BOTH, [*FLOW, "pre-registration-auth"]),
    "resource-mismatch": (NEW, ["resource-mismatch-rejected"]),
    "offline-access-scope": (NEW, [*FLOW, "sep-2207-client-metadata-grant-types"]),
    "offline-access-not-supported": (NEW, [*FLOW, "sep-2207-offline-access-not-requested"]),
    "authorization-server-migration": (
        NEW,
        [
            *FLOW,
            "sep-2352-no-cross-as-credential-reuse",
            "sep-2352-no-reuse-on-as-change",
            "sep-2352-reregister-on-as-change",
        ],
    ),
    "iss-supported": (NEW, [*FLOW, "sep-2468-client-compare-iss-supported"]),
    "iss-not-advertised": (NEW, [*FLOW, "sep-2468-client-proceed-no-iss"]),
    "iss-supported-missing": (NEW, ["sep-2468-client-reject-missing-iss"]),
    "iss-wrong-issuer": (NEW, ["sep-2468-client-compare-iss-supported"]),
    "iss-unexpected": (NEW, ["sep-2468-client-compare-iss-unadvertised"]),
    "iss-normalized": (NEW, ["sep-2468-client-no-normalization"]),
    "metadata-issuer-mismatch": (NEW, ["sep-2468-client-validate-metadata-issuer"]),
    "2025-03-26-oauth-metadata-backcompat": ([OLD], ["authorization-server-metadata", "token-request"]),
    "2025-03-26-oauth-endpoint-fallback": (
        [OLD],
        ["client-registration", "authorization-request", "token-request"],
    ),
    # Extensions stand beside the revisions: the suite takes its own choice.
    "client-credentials-basic": (
        [None],
        ["client-credentials-basic-auth", "valid-bearer-token"],
    ),
    "client-credentials-jwt": (
        [None],
        ["client-credentials-jwt-verified", "valid-bearer-token"],
    ),
}
# What only the check of `iss` keeps from happening.
ONLY_BY_ISS = {"iss-supported-missing", "iss-wrong-issuer", "iss-unexpected", "iss-normalized"}
META = [("metadata-default", L), ("metadata-default", M), ("scope-step-up", M), ("scope-retry-limit", L)]


def checks():
    for scenario, (revisions, _) in SCENARIOS.items():
        for revision in revisions:
            yield (
                f"auth/{scenario} passes in {NAMES.get(revision, revision or 'its own revision')}",
                lambda scenario=scenario, revision=revision: passes(scenario, revision),
            )
    for scenario, revision in META:
        yield (
            f"auth/{scenario} passes in {NAMES[revision]} through the meta view",
            lambda scenario=scenario, revision=revision: passes(scenario, revision, "--view", "mcp"),
        )
    yield "a driver that ends at once is red in every scenario", idle
    if os.environ.get("PLEIADES_UNCHECKED"):
        yield "without the check of `iss` exactly its four scenarios are red", control


def command(*options):
    return " ".join([sys.executable, str(DRIVER), *options])


def passes(scenario, revision, *options):
    run = suite(f"auth/{scenario}", revision, command(*options))
    print(f"      {scenario} {revision} {' '.join(options)}: {run}", flush=True)
    faults = run.faults(SCENARIOS[scenario][1])
    assert not faults, "\n  ".join([str(run), *faults, run.output[-6000:]])


def idle():
    for scenario, (revisions, purpose) in SCENARIOS.items():
        run = suite(f"auth/{scenario}", revisions[-1], "true")
        assert run.faults(purpose), f"`true` passes {scenario}: {run}"


def control():
    red = set()
    for scenario, (revisions, purpose) in SCENARIOS.items():
        if M in revisions:
            run = suite(f"auth/{scenario}", M, command(), PLEIADES_BIN=os.environ["PLEIADES_UNCHECKED"])
            if run.faults(purpose):
                red.add(scenario)
    assert red == ONLY_BY_ISS, f"red: {sorted(red)}"
