"""Five foreign clients list and call through all three views, over HTTP and over stdio."""

import json
import os
import subprocess
import tempfile

from mcp import GUARD, fetch
from world import (
    PLEIADES,
    ROOT,
    Everything,
    Gateway,
    Process,
    everything_stdio,
    free_port,
    listens,
    provider,
    until,
)

CLIENTS = {
    "ts1": ["node", "ts1.cjs"],
    "ts2": ["node", "ts2.cjs"],
    "py1": [os.environ.get("PLEIADES_PY1", "python3"), "py1.py"],
    "py2": [os.environ.get("PLEIADES_PY2", "python3"), "py2.py"],
    "fastmcp": [os.environ.get("PLEIADES_FASTMCP", "python3"), "fast.py"],
}
# Of 2026-07-28 where the client can: the others stop at 2025-11-25.
MODERN_CLIENTS = {"ts2", "py2", "fastmcp"}
HELLO = {"message": "hi"}
META = {"tool": "echo", "arguments": HELLO}


def run(client, *words, cwd=None):
    """What a client saw, as it printed it."""
    program, script = CLIENTS[client]
    command = [program, str(ROOT / "tests/clients" / script), *[str(word) for word in words]]
    env = {**os.environ, "NODE_PATH": os.environ["PLEIADES_CLIENTS"], "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=2 * GUARD, env=env, cwd=cwd)
    assert done.returncode == 0, f"{client} failed:\n{done.stderr[-3000:]}"
    return json.loads(done.stdout.splitlines()[-1])


def text_of(seen):
    result = seen["result"]
    assert not result.get("isError"), result
    return result["content"][0]["text"]


def meta_view(client, url, name):
    tool = f"use_{name}"
    seen = run(client, url, "--call", tool, "--args", json.dumps(META))
    assert seen["tools"] == [tool], seen["tools"]
    assert "hi" in text_of(seen), seen["result"]
    assert seen["result"]["structuredContent"]["status"] == "ok", seen["result"]
    return seen


def tool_view(client, url, prefix=""):
    tool = f"{prefix}echo"
    seen = run(client, url, "--call", tool, "--args", json.dumps(HELLO))
    assert tool in seen["tools"] and len(seen["tools"]) > 5, seen["tools"]
    assert "hi" in text_of(seen), seen["result"]
    return seen


def offers_everything_else(seen):
    for kind in ("resources", "templates", "prompts"):
        assert seen.get(kind), f"no {kind}: {seen.get(kind)}"
    assert seen["read"] >= 1


def speaks(client, seen):
    expected = "2026-07-28" if client in MODERN_CLIENTS else "2025-11-25"
    assert seen["protocol"] == expected, seen["protocol"]


def views(gateway, transport, client):
    base = gateway.url

    def meta():
        seen = meta_view(client, f"{base}/mcp/everything", "everything")
        offers_everything_else(seen)
        speaks(client, seen)

    def tools():
        seen = tool_view(client, f"{base}/tools/everything")
        offers_everything_else(seen)
        speaks(client, seen)

    def relay():
        offers_everything_else(tool_view(client, f"{base}/relay/everything"))

    def union():
        seen = run(client, f"{base}/mcp", "--call", "use_everything", "--args", json.dumps(META))
        assert "use_everything" in seen["tools"], seen["tools"]
        assert "hi" in text_of(seen)
        tool_view(client, f"{base}/tools", "everything__")

    where = f"with everything over {transport}"
    yield f"{client} lists and calls at /mcp/everything {where}", meta
    yield f"{client} lists and calls at /tools/everything {where}", tools
    yield f"{client} lists and calls at /relay/everything {where}", relay
    yield f"{client} lists and calls in both unions {where}", union


def over_stdio(client, folder):
    def starts_us():
        command = ["--stdio", PLEIADES, "--providers", folder, "stdio"]
        seen = run(client, "--call", "use_everything", "--args", json.dumps(META), *command, cwd=folder)
        assert seen["tools"] == ["use_everything"], seen["tools"]
        assert "hi" in text_of(seen)

    yield f"{client} starts `pleiades stdio` as a desktop client does and calls", starts_us


def as_cloned():
    """The README's first command, with ports of its own and a home of its own."""
    port, admin = free_port(), free_port()
    with tempfile.TemporaryDirectory() as home:
        command = [PLEIADES, "--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}"]
        env = {"XDG_DATA_HOME": home, "XDG_CONFIG_HOME": home}
        with Process("cloned", command, env, cwd=ROOT) as gateway:
            until("the gateway to listen", lambda: gateway.check_alive() or listens(port))
            until("the demo to answer", lambda: is_ready(admin))
            meta_view("ts1", f"http://127.0.0.1:{port}/mcp/demo", "demo")


def is_ready(admin):
    rows = json.loads(fetch(f"http://127.0.0.1:{admin}/providers").text)["providers"]
    return next(row for row in rows if row["id"] == "demo")["state"] == "ready"


def checks():
    yield "the README's first command serves the shipped folder", as_cloned
    with Gateway(everything_stdio()) as gateway:
        gateway.settled("everything")
        for client in CLIENTS:
            yield from views(gateway, "stdio", client)
        for client in CLIENTS:
            yield from over_stdio(client, gateway.providers)
    with Everything() as upstream, Gateway(provider("everything", upstream.url)) as gateway:
        gateway.settled("everything")
        for client in CLIENTS:
            yield from views(gateway, "HTTP", client)
