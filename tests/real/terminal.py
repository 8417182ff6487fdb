"""What servers say about themselves: it is shown, and neither obeyed by a terminal nor read as a reference."""

import http.server
import json
import os
import pty
import subprocess
import threading

from mcp import GUARD, L, Client, fetch
from world import PLEIADES, Gateway

CANARY = "canary-of-the-environment"
HOSTILE = "\x1b[31mred\x1b]0;owned\x07\r\u009b2J\u202ebidi ${CANARY_OF_TESTS} $${CANARY_OF_TESTS} ${file:/etc/hostname}"


class Hostile(http.server.ThreadingHTTPServer):
    """An MCP server whose every word is hostile."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/mcp"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        method, answer = message.get("method"), {"jsonrpc": "2.0", "id": message.get("id")}
        if "id" not in message:
            self.send_response(202)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if method == "initialize":
            info = {"name": "hostile", "title": f"Notes {HOSTILE}", "version": "1"}
            answer["result"] = {
                "protocolVersion": "2025-06-18",
                "capabilities": {"tools": {}},
                "serverInfo": info,
                "instructions": HOSTILE,
            }
        elif method == "tools/list":
            tool = {"name": "read", "description": HOSTILE, "inputSchema": {"type": "object"}}
            answer["result"] = {"tools": [tool]}
        elif method == "tools/call":
            answer["result"] = {"content": [{"type": "text", "text": HOSTILE}], "isError": True}
        else:
            answer["error"] = {"code": -32601, "message": HOSTILE}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.send_error(405)

    do_DELETE = do_GET

    def log_message(self, *_):
        pass


def on_a_terminal(command, cwd, env, answer=b""):
    """What a command writes to a terminal on which somebody types an answer."""
    master, slave = pty.openpty()
    os.write(master, answer)
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, cwd=cwd, env=env)
    os.close(slave)
    shown = b""
    while True:
        try:
            chunk = os.read(master, 65536)
        except OSError:
            break
        if not chunk:
            break
        shown += chunk
    os.close(master)
    process.wait(GUARD)
    return shown.decode(errors="replace").replace("\r\n", "\n")


def checks():
    with Hostile() as upstream, Gateway(env={"CANARY_OF_TESTS": CANARY}) as gateway:
        env = {**os.environ, "CANARY_OF_TESTS": CANARY, "NO_COLOR": "1", "XDG_DATA_HOME": str(gateway.home)}
        command = [str(PLEIADES), "--providers", str(gateway.providers)]

        def add():
            shown = on_a_terminal([*command, "add", upstream.url, "--id", "hostile"], gateway.home, env)
            clean(shown.replace("\r\x1b[2K", ""))
            gateway.settled("hostile")
            client = Client(f"{gateway.url}/mcp", L).connect()
            told = json.dumps(client.request("tools/list", {}))
            told += fetch(f"{gateway.admin}/providers").text
            told += (gateway.providers / "hostile.yaml").read_text()
            assert CANARY not in told, told
            assert "Notes" in told, told
            assert os.uname().nodename not in told, told

        def clean(shown):
            is_control = lambda c: ord(c) < 32 or 127 <= ord(c) < 160 or c == "\u202e"
            odd = [c for c in shown if c not in "\n\t" and is_control(c)]
            assert "red" in shown and not odd, (odd, shown)

        def said(*words):
            def run():
                clean(on_a_terminal([*command, *words], gateway.home, env).replace("\r\x1b[2K", ""))

            return run

        yield "`add` takes no reference from a server's name, and no control character", add
        for words in (["tools", "hostile"], ["call", "hostile", "read"], ["--json", "tools", "hostile"]):
            yield f"`{' '.join(words)}` shows a terminal no control character of a server", said(*words)

        def piped():
            done = subprocess.run(
                [*command, "call", "hostile", "read"], capture_output=True, timeout=GUARD, cwd=gateway.home, env=env
            )
            assert HOSTILE.encode() in done.stdout, done

        yield "a pipe gets the words of a server as they are", piped

        def asked():
            file = gateway.home / "client.json"
            words = [*command, "install", "cursor", "--file", str(file)]
            shown = on_a_terminal(words, gateway.home, env, b"n\n")
            assert f"{gateway.url}/mcp" in shown and "nothing was written" in shown, shown
            assert not file.exists()
            shown = on_a_terminal(words, gateway.home, env, b"y\n")
            assert json.loads(file.read_text())["mcpServers"]["pleiades"]["url"] == f"{gateway.url}/mcp", shown
            on_a_terminal([*words, "--remove"], gateway.home, env, b"y\n")
            assert not file.exists()

        yield "`install` shows a person the change and asks", asked
