"""Private authorities and client certificates: on the relay, which Pingora connects, as in the views."""

import http.server
import json
import ssl
import threading
from pathlib import Path

from mcp import fetch
from world import Gateway, provider

FILES = Path(__file__).resolve().parents[2] / "crates/pleiades-upstream/src/tests/tls"
LIST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
ANSWERS = {
    "initialize": {
        "protocolVersion": "2025-11-25",
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "tls", "version": "0"},
    },
    "tools/list": {"tools": [{"name": "secured", "inputSchema": {"type": "object"}}]},
}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        message = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if "id" not in message:
            return self.answer(202, b"")
        result = ANSWERS.get(message["method"])
        outcome = {"result": result} if result else {"error": {"code": -32601, "message": "no"}}
        body = json.dumps({"jsonrpc": "2.0", "id": message["id"], **outcome}).encode()
        self.answer(200 if result else 400, body)

    def do_GET(self):
        self.answer(405, b"")

    do_DELETE = do_GET

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def checks():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(FILES / "server.pem", FILES / "server.key")
    context.load_verify_locations(FILES / "first-ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"https://localhost:{server.server_address[1]}/mcp"
    own = {"client_cert_file": str(FILES / "client.pem"), "client_key_file": str(FILES / "client.key")}

    def upstream(name, ca, **rest):
        return provider(name, url, upstream={"tls": {"ca_file": str(FILES / ca), **rest}})

    known, foreign = upstream("known", "first-ca.pem", **own), upstream("foreign", "second-ca.pem", **own)
    try:
        with Gateway(known, foreign, upstream("nameless", "first-ca.pem")) as gateway:
            gateway.settled("known")
            for view in ("relay", "tools"):
                yield (
                    f"a private authority and a client certificate are used at /{view}",
                    lambda view=view: lists(gateway, f"/{view}/known"),
                )
                yield (
                    f"a connection that another authority verified is not reused at /{view}",
                    lambda view=view: fails(gateway, f"/{view}/foreign"),
                )
                yield (
                    f"without its client certificate a provider is not reached at /{view}",
                    lambda view=view: fails(gateway, f"/{view}/nameless"),
                )
    finally:
        server.shutdown()


def lists(gateway, path):
    reply = ask(gateway, path)
    assert reply["result"]["tools"][0]["name"] == "secured", reply


def fails(gateway, path):
    lists(gateway, path.rsplit("/", 1)[0] + "/known")
    reply = ask(gateway, path)
    assert reply["error"]["code"] == 502, reply


def ask(gateway, path):
    headers = {"content-type": "application/json"}
    return json.loads(fetch(gateway.url + path, "POST", headers, json.dumps(LIST)).text)
