"""Checks against real peers: `run.py [SUITE...]`, or `run.py --list`; `run.py soak MINUTES` takes long.

Each suite is a module with `checks()`, which yields pairs of a claim and a function that raises when
the claim does not hold. Claims are checked one after the other; the last line counts them.
"""

import importlib
import os
import pathlib
import sys
import time
import traceback

SUITES = [
    "foreign",
    "filesystem",
    "cells",
    "old",
    "matrix",
    "asking",
    "relay",
    "tls",
    "defects",
    "reload",
    "process",
    "commands",
    "terminal",
    "shared",
    "handover",
    "vault",
    "tasks",
    "conformance",
    "conformance_client",
    "conformance_auth",
    "connecting",
    "page",
    "renewal",
    "faults",
    "no_secret",
]
# Run only when they are named.
LONG = ["soak"]


def check(suite, claim, function):
    began = time.monotonic()
    try:
        function()
    except Exception:
        print(f"FAIL  {suite}: {claim}", flush=True)
        traceback.print_exc(file=sys.stdout)
        return False
    print(f"ok    {suite}: {claim} ({time.monotonic() - began:.1f}s)", flush=True)
    return True


def main(names):
    if names == ["--list"]:
        print("\n".join(SUITES))
        return 0
    if names and names[-1].isdigit():
        os.environ["PLEIADES_SOAK_MINUTES"] = names.pop()
    unknown = [name for name in names if name not in SUITES + LONG]
    if unknown:
        print(f"no suite {', '.join(unknown)}; there are {', '.join(SUITES + LONG)}")
        tally(0, 1)
        return 1
    passed, failed = 0, []
    for suite in names or SUITES:
        print(f"--- {suite}", flush=True)
        try:
            for claim, function in importlib.import_module(suite).checks():
                if check(suite, claim, function):
                    passed += 1
                else:
                    failed.append(f"{suite}: {claim}")
        except Exception:
            traceback.print_exc(file=sys.stdout)
            failed.append(f"{suite}: its peers could not be started")
    for claim in failed:
        print(f"failed: {claim}")
    print(f"{passed} passed, {len(failed)} failed")
    tally(passed, len(failed))
    return 1 if failed else 0


def tally(passed, failed):
    """Hands the counts to `scripts/test`."""
    path = os.environ.get("PLEIADES_TALLY")
    if path:
        pathlib.Path(path).write_text(f"{passed} {failed}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
