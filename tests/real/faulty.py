"""A proxy in front of a Vault that does what a broken Vault does, and people who call all the while."""

import http.client
import http.server
import json
import socket
import struct
import threading
import time
from collections import Counter
from urllib.parse import urlsplit

from mcp import GUARD

HOP = {"connection", "transfer-encoding", "content-length", "host", "keep-alive"}
# How long a slow Vault takes for one answer, in seconds.
SLOW = 5
# What `Retry-After` says, in seconds.
AFTER = 2


class FaultProxy:
    """Passes requests on to `target`, as long as `mode` is `pass`. The others: `slow`, `drop`, or a
    status to answer with."""

    def __init__(self, target):
        self.mode, self.changed, self.asked = "pass", threading.Event(), Counter()
        self.target = urlsplit(target)

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass

        self.server = Server(("127.0.0.1", 0), type("Handler", (Handler,), {"proxy": self}))
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def set(self, mode):
        self.mode = mode
        # Whoever is kept waiting goes on at once.
        self.changed.set()
        self.changed = threading.Event()

    def stop(self):
        self.set("pass")
        self.server.shutdown()
        self.server.server_close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def anything(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        mode = self.proxy.mode
        self.proxy.asked[mode] += 1
        if mode == "slow":
            self.proxy.changed.wait(SLOW)
        if mode == "drop":
            return self.reset()
        if mode in ("pass", "slow"):
            return self.forward(body)
        headers = {"Retry-After": str(AFTER)} if mode == 429 else {}
        return self.answer(mode, headers, json.dumps({"errors": [f"said by a test: {mode}"]}).encode())

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_LIST = anything

    def forward(self, body):
        target = self.proxy.target
        connection = http.client.HTTPConnection(target.netloc, timeout=GUARD)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP}
            connection.request(self.command, self.path, body or None, headers)
            got = connection.getresponse()
            headers = {name: value for name, value in got.getheaders() if name.lower() not in HOP}
            text = got.read()
        except OSError:
            # A Vault that is gone is gone for whoever asks here, too.
            return self.reset()
        finally:
            connection.close()
        return self.answer(got.status, headers, text)

    def answer(self, status, headers, body):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def reset(self):
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def log_message(self, *_):
        pass


class Load:
    """Callers that never stop. Each outcome is kept with the fault during which it began and ended."""

    def __init__(self):
        self.phase, self.notes, self.lock = "before", [], threading.Lock()
        self.over, self.threads = threading.Event(), []

    def add(self, name, call, pause=0.05):
        """`call` answers (status, detail) and may raise, which is an outcome as well."""

        def run():
            while not self.over.wait(pause):
                phase, began = self.phase, time.monotonic()
                try:
                    status, detail = call()
                except Exception as error:
                    status, detail = f"raised {type(error).__name__}", str(error)[:500]
                took = time.monotonic() - began
                with self.lock:
                    self.notes.append((name, phase, self.phase, status, detail, took))

        thread = threading.Thread(target=run, daemon=True)
        self.threads.append(thread)
        thread.start()

    def seen(self, name, phase):
        """Outcomes of calls that began and ended within a phase."""
        with self.lock:
            return [note[3:5] for note in self.notes if note[:3] == (name, phase, phase)]

    def all(self, name):
        with self.lock:
            return [note for note in self.notes if note[0] == name]

    def stop(self):
        self.over.set()
        for thread in self.threads:
            thread.join(GUARD)
