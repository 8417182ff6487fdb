"""Runs the load benchmark and prints its table; started by `scripts/bench`, which builds first."""

import argparse
import contextlib
import json
import os
import pathlib
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests/real"))
sys.dont_write_bytecode = True
import memory  # noqa: E402
from world import (  # noqa: E402
    PLEIADES,
    Gateway,
    Process,
    descendants,
    fetch,
    free_port,
    listens,
    provider,
    until,
)

BENCH = pathlib.Path(os.environ["PLEIADES_BENCH"])
NGINX = """
daemon off; worker_processes auto; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    keepalive_requests 100000000;
    upstream fast {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 100000000; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://fast; proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_buffering off;
        }}
    }}
}}
"""
# High enough to refuse nothing: what is measured is the cost of the rules being on.
LIMITS = {
    "rate": [
        {"per": "caller", "requests": 4_000_000_000, "every": "1s"},
        {"per": "provider", "requests": 4_000_000_000, "every": "1s"},
    ],
    "concurrency": 10_000,
    "breaker": {"failures": 5, "within": "30s", "open_for": "15s"},
}
CONCURRENCIES = (1, 16)
MODES = ("legacy", "modern")
# Uncounted at the beginning of each round.
WARM = 0.3


class Nginx(Process):
    def __init__(self, upstream):
        self.port = free_port()
        self.home = home = pathlib.Path(tempfile.mkdtemp(prefix="pleiades-nginx-"))
        home.chmod(0o755)  # its workers run as another user
        (home / "nginx.conf").write_text(NGINX.format(folder=home, upstream=upstream, port=self.port))
        super().__init__("nginx", ["nginx", "-p", home, "-c", home / "nginx.conf"])
        until("nginx to listen", lambda: self.check_alive() or listens(self.port))

    def stop(self):
        super().stop()
        shutil.rmtree(self.home, ignore_errors=True)


class Fast(Process):
    def __init__(self, tools=50):
        self.port = free_port()
        command = [BENCH / "fastup", f"127.0.0.1:{self.port}", tools, "json", "stateful", "1"]
        super().__init__("fastup", command)
        until("fastup to listen", lambda: self.check_alive() or listens(self.port))


def load(port, path, pids, concurrency, mode, seconds, tool="echo", arguments=None):
    """One run of the load generator, as numbers."""
    arguments = arguments or {"name": "x"}
    command = [BENCH / "mcpload", f"127.0.0.1:{port}", path, concurrency, seconds, tool, mode]
    command += ["--pid", ",".join(map(str, pids)), "--args", json.dumps(arguments, separators=(",", ":"))]
    command += ["--warm", WARM]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"the load on {path} failed:\n{done.stderr[-2000:]}")
    numbers = dict(re.findall(r"(\S+?)=([\d.]+)", done.stdout))
    if float(numbers.get("errors", 1)):
        raise SystemExit(f"errors on {path}: {done.stdout}{done.stderr[-2000:]}")
    return {
        "rps": float(numbers["rps"]),
        "p50_us": float(numbers["p50"]),
        "p99_us": float(numbers["p99"]),
        "cpu_us": float(numbers["cpu_us/req"]),
        "rss_mib": float(numbers["rss"]),
    }


def ways_of(gateway, label=""):
    """The three views of a gateway."""
    meta = {"tool": "echo", "arguments": {"name": "x"}}
    return [
        (f"relay{label}", gateway.port, "/relay/fast", [gateway.pid], "echo", None),
        (f"tool view{label}", gateway.port, "/tools/fast", [gateway.pid], "echo", None),
        (f"meta view{label}", gateway.port, "/mcp/fast", [gateway.pid], "use_fast", meta),
    ]


def measure(seconds, rounds, system=None):
    """Every way in short rounds, each round in another order: what else runs on the machine meets all of
    them alike, and ratios are those of one round."""
    rows = []
    with contextlib.ExitStack() as stack:
        fast = stack.enter_context(Fast())
        nginx = stack.enter_context(Nginx(fast.port))
        descriptor = provider("fast", f"http://127.0.0.1:{fast.port}/mcp", limits=LIMITS)
        gateway = stack.enter_context(Gateway(descriptor))
        gateway.settled("fast")
        ways = [
            ("direct", fast.port, "/mcp", [fast.pid], "echo", None),
            ("nginx", nginx.port, "/mcp", descendants(nginx.pid), "echo", None),
            *ways_of(gateway),
        ]
        if system:
            other = stack.enter_context(Gateway(descriptor, program=system))
            other.settled("fast")
            ways += ways_of(other, " (system)")
        for concurrency in CONCURRENCIES:
            for mode in MODES:
                for number in range(rounds):
                    turn = number % len(ways)
                    for name, port, path, pids, tool, arguments in ways[turn:] + ways[:turn]:
                        row = load(port, path, pids, concurrency, mode, seconds, tool, arguments)
                        rows.append({"way": name, "c": concurrency, "mode": mode, "round": number, **row})
                        print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return rows


def spread(values, digits):
    """Median, and from the least to the most."""
    middle = statistics.median(values)
    return f"{middle:.{digits}f} [{min(values):.{digits}f}-{max(values):.{digits}f}]"


def table(rows):
    """Medians over the rounds and their spread; ratios are those of one round."""
    names = list(dict.fromkeys(row["way"] for row in rows))
    print(
        f"{'way':<20} {'mode':<7} {'c':>3} {'rps':>7} {'p50 us':>24} {'p99 us':>8} {'CPU us':>20}"
        f" {'p50 added us':>22} {'CPU/nginx':>18} {'RSS MiB':>8}"
    )
    for concurrency in CONCURRENCIES:
        for mode in MODES:
            same = [row for row in rows if (row["c"], row["mode"]) == (concurrency, mode)]
            rounds = {name: [row for row in same if row["way"] == name] for name in names}
            for name in names:
                mine = rounds[name]

                def beside(other, key, how):
                    """This way and another in the same rounds."""
                    return [how(row[key], its[key]) for row, its in zip(mine, rounds[other], strict=True)]

                added = beside("direct", "p50_us", lambda own, direct: own - direct)
                ratios = beside("nginx", "cpu_us", lambda own, nginx: own / nginx)
                print(
                    f"{name:<20} {mode:<7} {concurrency:>3} {statistics.median(r['rps'] for r in mine):>7.0f}"
                    f" {spread([r['p50_us'] for r in mine], 0):>24}"
                    f" {statistics.median(r['p99_us'] for r in mine):>8.0f}"
                    f" {spread([r['cpu_us'] for r in mine], 1):>20}"
                    f" {spread(added, 0):>22} {spread(ratios, 2):>18} {mine[-1]['rss_mib']:>8.1f}"
                )
    print("median [least-most] of the rounds; CPU us: CPU time per request of the process in the row's name.")


def remembered(programs, many, after):
    """What idle streams cost, and what is given back, for each allocator and both kinds of views."""
    rows = []
    for label, program in programs:
        for path in ("/tools/fast", "/mcp"):
            with Fast() as fast:
                url = f"http://127.0.0.1:{fast.port}/mcp"
                with Gateway(provider("fast", url), program=program) as gateway:
                    gateway.settled("fast")
                    row = memory.streams(gateway, path, many, many, 2, after)
            rows.append({"allocator": label, **row})
            print(
                f"{many} idle streams at {path} after {many} connections came and went ({label}):"
                f" {row['kib_each_over_churn']:.0f} KiB each ({row['kib_each_over_idle']:.0f} over idle);"
                f" RSS {row['idle_mib']:.0f} MiB idle, {row['closed_mib']:.0f} MiB {after:g} s after closing"
            )
    return rows


def idle(providers=100):
    """Memory and start of a gateway with many providers and no load."""
    with Fast() as fast:
        url = f"http://127.0.0.1:{fast.port}/mcp"
        many = [provider(f"p{n}", url) for n in range(providers)]
        gateway = Gateway(*many, wait=False)
        began = time.monotonic()
        try:
            while True:
                try:
                    if fetch(f"{gateway.url}/health").status == 200:
                        break
                except OSError:
                    gateway.check_alive()
                    time.sleep(0.002)
            first = time.monotonic() - began
            until("the gateway to be ready", gateway.is_ready)
            for n in range(providers):
                gateway.settled(f"p{n}")
            time.sleep(2)  # what discovery left behind is given back
            status = pathlib.Path(f"/proc/{gateway.pid}/status").read_text()
            rss = int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024
        finally:
            gateway.stop()
    return {"providers": providers, "first_answer_ms": first * 1000, "idle_rss_mib": rss}


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--seconds", type=float, default=1.5, help="of each round")
    arguments.add_argument("--rounds", type=int, default=6)
    arguments.add_argument("--streams", type=int, default=2000)
    arguments.add_argument("--after", type=float, default=30, help="seconds from closing streams to RSS")
    arguments.add_argument("--system", type=pathlib.Path, help="the same with the system's allocator")
    arguments.add_argument("--json", type=pathlib.Path)
    arguments.add_argument("--profile", default="release")
    given = arguments.parse_args()
    cores = os.cpu_count()
    print(
        f"{given.profile} build, {given.rounds} rounds of {given.seconds:g} s, {cores} cores shared by load, gateway and"
        f" upstream, load average {os.getloadavg()[0]:.1f}, {platform.machine()} {platform.system()}"
    )
    if given.profile == "debug":
        print("a debug build: for trying this script, not to be quoted")
    rows = measure(given.seconds, given.rounds, given.system)
    table(rows)
    programs = [("built in", PLEIADES)] + ([("system", given.system)] if given.system else [])
    streams = remembered(programs, given.streams, given.after)
    resting = idle()
    print(
        f"{resting['providers']} providers: first answer {resting['first_answer_ms']:.0f} ms after the"
        f" start of the process, idle RSS {resting['idle_rss_mib']:.1f} MiB"
    )
    if given.json:
        given.json.write_text(json.dumps({"rows": rows, "streams": streams, "idle": resting}, indent=2) + "\n")


main()
