"""Processes of the tests: the gateway with a temporary folder of providers, and real servers.

Whoever starts a process ends it, by its id. Nothing here is timed but for guards against hanging.
"""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from mcp import GUARD, fetch

ROOT = pathlib.Path(__file__).resolve().parents[2]
PLEIADES = pathlib.Path(os.environ.get("PLEIADES_BIN", ROOT / "target/debug/pleiades")).resolve()
MODERN = pathlib.Path(
    os.environ.get("PLEIADES_MODERN", ROOT / "target/debug/examples/modern_server")
).resolve()
CONFORMANCE = pathlib.Path(
    os.environ.get("PLEIADES_CONFORMANCE_SERVER", ROOT / "target/debug/examples/conformance_server")
).resolve()
SEAL = "a key of the tests that nobody uses"


def server_script(name):
    return f"{os.environ['PLEIADES_SERVERS']}/@modelcontextprotocol/{name}/dist/index.js"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(what, condition, guard=GUARD):
    """Waits for a state that nothing announces; the guard only stops a hang."""
    end = time.monotonic() + guard
    while True:
        got = condition()
        if got:
            return got
        assert time.monotonic() < end, f"still waiting for: {what}"
        time.sleep(0.05)


def is_alive(pid):
    """Whether the process runs; a zombie is dead, only not yet collected."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat[stat.rindex(")") + 2] != "Z"


def descendants(pid):
    """Children of a process, and theirs."""
    parents = {}
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text()
        except OSError:
            continue
        parents.setdefault(int(stat[stat.rindex(")") + 2 :].split()[1]), []).append(int(entry.name))
    found, waiting = [], [pid]
    while waiting:
        children = parents.get(waiting.pop(), [])
        found += children
        waiting += children
    return found


def freeze(pid):
    """Stops a process; comes back when none of its threads runs any more."""
    os.kill(pid, signal.SIGSTOP)

    def is_stopped(task):
        stat = (task / "stat").read_text()
        return stat[stat.rindex(")") + 2] == "T"

    until("the process to stand", lambda: all(map(is_stopped, pathlib.Path(f"/proc/{pid}/task").iterdir())))


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Process:
    """A process of ours with its output in a file."""

    def __init__(self, name, command, env=None, cwd=None):
        self.name = name
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"pleiades-{name}-"))
        self.log = self.folder / "output.log"
        with self.log.open("wb") as out:
            self.popen = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**os.environ, **(env or {})},
                cwd=cwd or self.folder,
            )
        self.pid = self.popen.pid

    def output(self):
        return self.log.read_text(errors="replace")

    def check_alive(self):
        code = self.popen.poll()
        assert code is None, f"{self.name} ended with {code}:\n{self.output()[-3000:]}"

    def terminate(self):
        """SIGTERM, and its exit code."""
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(GUARD)

    def stop(self):
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
            try:
                self.popen.wait(20)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Everything(Process):
    """The official server-everything over streamable HTTP, or over the event stream of 2024-11-05;
    a port may be given to take it again."""

    def __init__(self, port=None, transport="streamableHttp"):
        self.port = port or free_port()
        command = ["node", server_script("server-everything"), transport]
        super().__init__("everything", command, {"PORT": str(self.port)})
        path = "sse" if transport == "sse" else "mcp"
        self.url = f"http://127.0.0.1:{self.port}/{path}"
        until("server-everything to listen", lambda: self.check_alive() or listens(self.port))


class Modern(Process):
    """The server of `tests/peers/modern_server.rs`."""

    def __init__(self, *flags, port=None):
        self.port = port or free_port()
        super().__init__("modern", [MODERN, f"127.0.0.1:{self.port}", *flags])
        self.url = f"http://127.0.0.1:{self.port}/mcp"
        until("modern_server to listen", lambda: self.check_alive() or listens(self.port))


class Conformance(Process):
    """The server of `tests/peers/conformance_server/`; a port may be given to take it again."""

    def __init__(self, *flags, port=None):
        self.port = port or free_port()
        super().__init__("conformance", [CONFORMANCE, f"127.0.0.1:{self.port}", *flags])
        self.url = f"http://127.0.0.1:{self.port}/mcp"
        until("conformance_server to listen", lambda: self.check_alive() or listens(self.port))


class Redis(Process):
    """Redis with a password and nothing kept on disk; a port may be given to take it again."""

    PASSWORD = "canary-of-redis"

    def __init__(self, port=None, flags=()):
        self.port = port or free_port()
        self.url = f"redis://:{self.PASSWORD}@127.0.0.1:{self.port}"
        command = [os.environ["PLEIADES_REDIS"], "--bind", "127.0.0.1", "--port", self.port]
        command += ["--requirepass", self.PASSWORD, "--save", "", "--appendonly", "no", *flags]
        super().__init__("redis", command)
        until("Redis to listen", lambda: self.check_alive() or listens(self.port))

    def connect(self):
        """A connection that is logged in."""
        line = Resp(self.port)
        line.ask("AUTH", self.PASSWORD)
        return line


class Resp:
    """The protocol of Redis, as much of it as the tests need."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), GUARD)
        self.lines = self.socket.makefile("rb")

    def ask(self, *words):
        words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        parts = [b"*%d\r\n" % len(words)] + [b"$%d\r\n%s\r\n" % (len(word), word) for word in words]
        self.socket.sendall(b"".join(parts))
        return self.read()

    def read(self):
        line = self.lines.readline()
        kind, rest = line[:1], line[1:].rstrip()
        assert kind in b"+:$*" and line, f"Redis says {line!r}"
        if kind == b"*":
            return [self.read() for _ in range(int(rest))]
        if kind == b"$":
            return None if rest == b"-1" else self.lines.read(int(rest) + 2)[:-2]
        return int(rest) if kind == b":" else rest

    def close(self):
        self.lines.close()
        self.socket.close()


def provider(name, url=None, command=None, **rest):
    """A descriptor; JSON is YAML."""
    upstream = {"url": url} if url else {"command": [str(word) for word in command]}
    upstream.update(rest.pop("upstream", {}))
    return {"id": name, "upstream": upstream, "auth": {"none": {}}, **rest}


def everything_stdio(name="everything", **rest):
    return provider(name, command=["node", server_script("server-everything"), "stdio"], **rest)


class Gateway(Process):
    """The gateway with the given providers, ready to be called."""

    def __init__(self, *providers, settings=None, wait=True, home=None, env=None, program=PLEIADES):
        self.port, self.admin_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.admin = f"http://127.0.0.1:{self.admin_port}"
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="pleiades-home-"))
        self.providers = self.home / "providers.d"
        self.providers.mkdir()
        for descriptor in providers:
            self.write(descriptor)
        config = self.home / "pleiades.yaml"
        config.write_text(
            json.dumps(
                {
                    "listen": f"127.0.0.1:{self.port}",
                    "admin": f"127.0.0.1:{self.admin_port}",
                    "providers": "providers.d",
                    "seal": {"keys": [SEAL]},
                    "shutdown": {"drain": "1s", "grace": "5s"},
                    **(settings or {}),
                }
            )
        )
        own = {"XDG_DATA_HOME": str(self.home / "data"), "XDG_CONFIG_HOME": str(self.home / "config")}
        env = {**own, **(env or {})}
        self.environment = {**os.environ, **env}
        super().__init__("gateway", [program, "--config", config], env, self.home)
        if wait:
            until("the gateway to be ready", self.is_ready)

    def again(self):
        """Starts the process once more, with what it left on the disk."""
        self.popen = subprocess.Popen(
            self.popen.args,
            stdin=subprocess.DEVNULL,
            stdout=self.log.open("ab"),
            stderr=subprocess.STDOUT,
            env=self.environment,
            cwd=self.home,
        )
        self.pid = self.popen.pid
        until("the gateway to be ready again", self.is_ready)

    def write(self, descriptor):
        """Writes a descriptor as an editor does: beside, then renamed into place."""
        draft = self.home / ".draft"
        draft.write_text(json.dumps(descriptor))
        draft.rename(self.providers / f"{descriptor['id']}.yaml")

    def is_ready(self):
        self.check_alive()
        try:
            return fetch(f"{self.admin}/ready").status == 200
        except OSError:
            return False

    def status(self, name):
        listed = json.loads(fetch(f"{self.admin}/providers").text)["providers"]
        return next((row for row in listed if row["id"] == name), None)

    def inflight(self, name):
        """How many requests run against the provider."""
        return metric(fetch(f"{self.admin}/metrics").text, "pleiades_inflight", provider=name)

    def settled(self, name, *states):
        """Waits until the provider is in one of these states."""
        wanted = states or ("ready",)
        return until(
            f"{name} to be {' or '.join(wanted)}, it is {self.status(name)}",
            lambda: (row := self.status(name)) and row["state"] in wanted and row,
        )

    def stop(self):
        children = descendants(self.pid) if self.popen.poll() is None else []
        super().stop()
        shutil.rmtree(self.home, ignore_errors=True)
        until("the children to end", lambda: not any(is_alive(child) for child in children))


def metric(text, name, **labels):
    """The sum of the samples of a metric whose labels include these."""
    total = 0.0
    for line in text.splitlines():
        match = re.match(r"([a-zA-Z_:]+)(?:\{(.*)\})? (\S+)$", line)
        if match and match[1] == name:
            pairs = dict(re.findall(r'(\w+)="([^"]*)"', match[2] or ""))
            if labels.items() <= pairs.items():
                total += float(match[3])
    return total
