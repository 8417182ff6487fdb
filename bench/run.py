"""Runs the load benchmark and prints its table; started by `scripts/bench`, which builds first."""

import argparse
import json
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests/real"))
sys.dont_write_bytecode = True
from world import Gateway, Process, descendants, fetch, free_port, listens, provider, until  # noqa: E402

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


def measure(seconds):
    """Every way in turn, so that each sees the same machine."""
    rows = []
    with Fast() as fast, Nginx(fast.port) as nginx:
        descriptor = provider("fast", f"http://127.0.0.1:{fast.port}/mcp", limits=LIMITS)
        with Gateway(descriptor) as gateway:
            gateway.settled("fast")
            meta = {"tool": "echo", "arguments": {"name": "x"}}
            workers = descendants(nginx.pid)
            ways = [
                ("direct", fast.port, "/mcp", [fast.pid], "echo", None),
                ("nginx", nginx.port, "/mcp", workers, "echo", None),
                ("relay", gateway.port, "/relay/fast", [gateway.pid], "echo", None),
                ("tool view", gateway.port, "/tools/fast", [gateway.pid], "echo", None),
                ("meta view", gateway.port, "/mcp/fast", [gateway.pid], "use_fast", meta),
            ]
            for concurrency in CONCURRENCIES:
                for mode in MODES:
                    for name, port, path, pids, tool, arguments in ways:
                        row = load(port, path, pids, concurrency, mode, seconds, tool, arguments)
                        rows.append({"way": name, "c": concurrency, "mode": mode, **row})
                        print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return rows


def table(rows):
    """The rows with their ratios against direct and nginx of the same concurrency and mode."""
    print(
        f"{'way':<10} {'mode':<7} {'c':>3} {'rps':>8} {'p50 us':>8} {'p99 us':>9} {'CPU us':>7}"
        f" {'RSS MiB':>8} {'p50/direct':>11} {'p50/nginx':>10} {'p50 added us':>13} {'CPU/nginx':>10}"
    )
    for row in rows:
        same = {r["way"]: r for r in rows if (r["c"], r["mode"]) == (row["c"], row["mode"])}
        direct, nginx = same["direct"], same["nginx"]
        print(
            f"{row['way']:<10} {row['mode']:<7} {row['c']:>3} {row['rps']:>8.0f} {row['p50_us']:>8.1f}"
            f" {row['p99_us']:>9.1f} {row['cpu_us']:>7.1f} {row['rss_mib']:>8.1f}"
            f" {row['p50_us'] / direct['p50_us']:>11.2f} {row['p50_us'] / nginx['p50_us']:>10.2f}"
            f" {row['p50_us'] - direct['p50_us']:>13.1f} {row['cpu_us'] / nginx['cpu_us']:>10.2f}"
        )
    print("CPU us: CPU time per request of the process in the row's name (of fastup for direct).")


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
    arguments.add_argument("--seconds", type=float, default=5)
    arguments.add_argument("--json", type=pathlib.Path)
    arguments.add_argument("--profile", default="release")
    given = arguments.parse_args()
    cores = os.cpu_count()
    print(
        f"{given.profile} build, {given.seconds:g} s a row, {cores} cores shared by load, gateway and"
        f" upstream, load average {os.getloadavg()[0]:.1f}, {platform.machine()} {platform.system()}"
    )
    if given.profile == "debug":
        print("a debug build: for trying this script, not to be quoted")
    rows = measure(given.seconds)
    table(rows)
    resting = idle()
    print(
        f"{resting['providers']} providers: first answer {resting['first_answer_ms']:.0f} ms after the"
        f" start of the process, idle RSS {resting['idle_rss_mib']:.1f} MiB"
    )
    if given.json:
        given.json.write_text(json.dumps({"rows": rows, "idle": resting}, indent=2) + "\n")


main()
