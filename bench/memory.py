"""What idle streams cost, once a process has seen traffic: memory that was used before is not zero,
and only what comes after it shows what a stream holds."""

import json
import pathlib
import re
import socket
import time

HEADERS = "Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n"


def rss(pid):
    """Resident memory, in MiB."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024


class Connection:
    """One connection with one session, by hand: thousands of them stand at once."""

    def __init__(self, port, path):
        self.port, self.path = port, path
        self.socket = socket.create_connection(("127.0.0.1", port), 30)
        self.session = ""

    def ask(self, method, params, number=1):
        message = {"jsonrpc": "2.0", "method": method, "params": params}
        if number:
            message["id"] = number
        body = json.dumps(message)
        self.socket.sendall(
            (
                f"POST {self.path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n{HEADERS}{self.session}"
                f"Content-Length: {len(body)}\r\n\r\n{body}"
            ).encode()
        )
        return self.answer()

    def answer(self):
        text = b""
        while b"\r\n\r\n" not in text:
            text += self.more()
        head, _, rest = text.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.I)
        while length and len(rest) < int(length[1]):
            rest += self.more()
        return head.decode(), rest

    def more(self):
        bytes_ = self.socket.recv(65536)
        if not bytes_:
            raise SystemExit("the gateway closed a connection")
        return bytes_

    def begin(self):
        hello = {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "b", "version": "0"},
        }
        head, _ = self.ask("initialize", hello)
        session = re.search(r"mcp-session-id: (\S+)", head, re.I)[1]
        self.session = f"Mcp-Session-Id: {session}\r\n"
        self.ask("notifications/initialized", {}, 0)

    def listen(self):
        """Opens the session's stream, and reads until it stands."""
        self.socket.sendall(
            (
                f"GET {self.path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
                f"Accept: text/event-stream\r\n{self.session}\r\n"
            ).encode()
        )
        text = b""
        while b":\n\n" not in text:
            text += self.more()
        assert text.startswith(b"HTTP/1.1 200"), text

    def close(self):
        self.socket.close()


def streams(gateway, path, many, churn, settle, after):
    """MiB at rest, KiB of each of `many` idle streams after `churn` connections came and went, and MiB
    `after` seconds after they were closed."""
    time.sleep(settle)
    idle = rss(gateway.pid)
    for begun in range(0, churn, 500):
        some = [Connection(gateway.port, path) for _ in range(min(500, churn - begun))]
        for one in some:
            one.begin()
            one.ask("tools/list", {})
        for one in some:
            one.close()
    time.sleep(settle)
    before = rss(gateway.pid)
    open_ = [Connection(gateway.port, path) for _ in range(many)]
    for one in open_:
        one.begin()
        one.listen()
    time.sleep(settle)
    standing = rss(gateway.pid)
    for one in open_:
        one.close()
    time.sleep(after)
    return {
        "path": path,
        "streams": many,
        "idle_mib": idle,
        "after_churn_mib": before,
        "kib_each_over_churn": (standing - before) * 1024 / many,
        "kib_each_over_idle": (standing - idle) * 1024 / many,
        "closed_mib": rss(gateway.pid),
        "closed_after_s": after,
    }
