"""Checks against real peers: `run.py [SUITE...]`, or `run.py --list`; `run.py soak MINUTES` takes long.

Each suite is a module with `checks()`, which yields pairs of a claim and a function that raises when
the claim does not hold. The claims of a suite are checked one after the other; several suites run side by side
(`PLEIADES_JOBS`, three by default), since most of their time is waiting, each in a process of its own whose
output is printed as a whole when it ends. The last line counts the claims.
"""

import concurrent.futures
import importlib
import os
import pathlib
import subprocess
import sys
import tempfile
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
    "proxied",
    "defects",
    "results",
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
    "keycloak",
    "page",
    "renewal",
    "faults",
    "no_secret",
    "documents",
]
# What takes minutes begins first, so that nothing long runs alone at the end.
LONGEST = ["vault", "conformance_auth", "conformance", "matrix", "renewal", "faults", "foreign", "conformance_client"]
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
    names = names or SUITES
    jobs = min(len(names), int(os.environ.get("PLEIADES_JOBS", "3")))
    passed, failed = side_by_side(names, jobs) if jobs > 1 else one_by_one(names)
    for claim in failed:
        print(f"failed: {claim}")
    print(f"{passed} passed, {len(failed)} failed")
    tally(passed, len(failed))
    return 1 if failed else 0


def one_by_one(names):
    passed, failed = 0, []
    for suite in names:
        print(f"--- {suite}", flush=True)
        began = time.monotonic()
        try:
            for claim, function in importlib.import_module(suite).checks():
                if check(suite, claim, function):
                    passed += 1
                else:
                    failed.append(f"{suite}: {claim}")
        except Exception:
            traceback.print_exc(file=sys.stdout)
            failed.append(f"{suite}: its peers could not be started")
        took(suite, time.monotonic() - began)
    return passed, failed


def side_by_side(names, jobs):
    """Every suite in a process of its own, those that take longest first."""
    order = sorted(names, key=lambda name: LONGEST.index(name) if name in LONGEST else len(LONGEST))
    passed, failed = 0, []
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(jobs) as pool:

        def run(suite):
            began, counts = time.monotonic(), pathlib.Path(folder, suite)
            env = {**os.environ, "PLEIADES_TALLY": str(counts), "PLEIADES_TIMES": "", "PLEIADES_JOBS": "1"}
            command = [sys.executable, __file__, suite]
            done = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            return suite, done, counts, time.monotonic() - began

        for job in concurrent.futures.as_completed([pool.submit(run, suite) for suite in order]):
            suite, done, counts, seconds = job.result()
            lines = done.stdout.decode(errors="replace").rstrip().splitlines()
            claims = [line[len("failed: ") :] for line in lines if line.startswith("failed: ")]
            print("\n".join(line for line in lines[:-1] if not line.startswith("failed: ")))
            print(f"--- {suite} took {seconds:.0f}s", flush=True)
            took(suite, seconds)
            if counts.exists():
                passed += int(counts.read_text().split()[0])
            elif not claims:
                claims = [f"{suite}: its process ended with {done.returncode}"]
            failed += claims
    return passed, failed


def took(suite, seconds):
    """Hands the seconds of a suite to `scripts/test`, which prints them with those of its steps."""
    path = os.environ.get("PLEIADES_TIMES")
    if path:
        with open(path, "a") as times:
            times.write(f"{seconds:.0f} real: {suite}\n")


def tally(passed, failed):
    """Hands the counts to `scripts/test`."""
    path = os.environ.get("PLEIADES_TALLY")
    if path:
        pathlib.Path(path).write_text(f"{passed} {failed}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
