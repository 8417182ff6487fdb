"""A small MCP server over streamable HTTP that lists recorded tools and answers calls by a function."""

import http.server
import json
import threading

REVISION = "2025-06-18"


class Replay:
    """Lists `tools`; `answer(name, arguments)` makes the result of a call."""

    def __init__(self, tools, answer):
        self.tools, self.answer, self.calls = tools, answer, 0

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass

        self.server = Server(("127.0.0.1", 0), type("Handler", (Handler,), {"replay": self}))
        self.url = f"http://127.0.0.1:{self.server.server_port}/mcp"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self):
        message = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)))
        if "id" not in message:
            return self.reply(202, None)
        try:
            body = {"result": self.result(message["method"], message.get("params") or {})}
        except KeyError:
            body = {"error": {"code": -32601, "message": "no such method"}}
        self.reply(200, {"jsonrpc": "2.0", "id": message["id"], **body})

    def do_GET(self):
        self.reply(405, None)

    do_DELETE = do_GET

    def result(self, method, params):
        replay = self.replay
        if method == "tools/call":
            replay.calls += 1
            return replay.answer(params["name"], params.get("arguments") or {})
        return {
            "initialize": {
                "protocolVersion": REVISION,
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "replay", "version": "1"},
            },
            "tools/list": {"tools": replay.tools},
            "ping": {},
        }[method]

    def reply(self, status, body):
        data = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        if data:
            self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass
