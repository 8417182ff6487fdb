"""Behind a real nginx on the gateway's machine: with its defaults it says nothing of whom it passes on,
and every request comes from 127.0.0.1."""

import hashlib
import json
import os
import pathlib
import stat
import subprocess
import tempfile

from mcp import GUARD, J, L, M, Client, fetch
from oauth import Oidc, Person, asked, caller, data_of, protected
from world import PLEIADES, Everything, Gateway, Process, free_port, listens, provider, until

ANN, OPS = "key-of-ann-0123456789abcdef-0123456789", "key-of-ops-0123456789abcdef-0123456789"
PATHS = ("/mcp", "/mcp/notes", "/tools", "/tools/notes", "/relay/notes", "/v1/accounts", "/v1/connections/x")
# What people write beside `proxy_pass`, and what networks in front of it add.
SAID = (
    "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;",
    "proxy_set_header X-Forwarded-Proto $scheme;",
    "proxy_set_header X-Forwarded-Host $host;",
    "proxy_set_header X-Real-IP $remote_addr;",
    "proxy_set_header Forwarded for=$remote_addr;",
    'proxy_set_header Via "1.1 nginx";',
    "proxy_set_header CF-Connecting-IP $remote_addr;",
    "proxy_set_header True-Client-IP $remote_addr;",
    "proxy_set_header X-Client-IP $remote_addr;",
    "proxy_set_header X-Original-URI $request_uri;",
    "proxy_set_header Tailscale-User-Login ann@example.com;",
)
CONFIG = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{upstream}; {lines} }} }}
}}
"""


class Nginx(Process):
    """nginx with its defaults, but for the lines that are given."""

    def __init__(self, upstream, lines="", port=None):
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="pleiades-nginx-"))
        config = self.home / "nginx.conf"
        config.write_text(CONFIG.format(folder=self.home, port=self.port, upstream=upstream, lines=lines))
        super().__init__("nginx", [os.environ["PLEIADES_NGINX"], "-p", self.home, "-c", config])
        until("nginx to listen", lambda: self.check_alive() or listens(self.port))


def digest(key):
    return hashlib.sha256(key.encode()).hexdigest()


def access(**more):
    ann = {"name": "ann", "tenant": "acme", "user": "ann", "sha256": digest(ANN)}
    return {"api_keys": [ann], "admin_keys": [{"name": "ops", "sha256": digest(OPS)}], **more}


def local_key(gateway):
    return gateway.home / "data/pleiades/local.key"


def status(url, path, headers=None, method="POST"):
    body = b'{"jsonrpc":"2.0","id":1,"method":"ping"}' if method == "POST" else None
    own = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
    return fetch(url + path, method, headers={**own, **(headers or {})}, body=body)


def method_of(path):
    return "GET" if path.startswith("/v1/") else "POST"


def checks():
    with Everything() as upstream, Oidc(upstream.url) as server:
        yield "without `access` nothing that names a proxy is the local caller's, on any path", lambda: named(server)
        yield "without `access` the start says what a proxy on this machine means", lambda: said(server)
        yield "`hosts`, a `public_url` or proxies without callers in `access`: no start, and why", refused
        yield "beside keys a request that nginx passes on needs one on every path, and is told so", lambda: keyed(server)
        yield "beside keys the local caller has a key in a 0600 file, made once and anew when deleted", lambda: own(server)
        yield "behind nginx with its defaults an account is connected, by a key typed on the page", lambda: connects(server)
        yield "behind nginx health, metadata, callbacks and preflights need no caller", lambda: open_paths(server)
        yield "a page that a proxy passes on takes nobody for this machine's user", lambda: page(server)
        yield "right keys work while somebody guesses through the same nginx, after a restart too", lambda: guessed(server)
        yield "commands act as the local caller without a key of theirs", lambda: commands(upstream)


def named(server):
    with Gateway(protected("notes", server)) as gateway:
        for lines in SAID:
            with Nginx(gateway.port, lines) as nginx:
                for path in PATHS:
                    answer = status(nginx.url, path, method=method_of(path))
                    assert answer.status == 403, (lines, path, answer.status, answer.text)
                    assert "came through a proxy" in answer.text and "`access`" in answer.text, answer.text
                assert status(nginx.url, "/health", method="GET").status == 200
            with Nginx(gateway.admin_port, lines) as nginx:
                assert fetch(f"{nginx.url}/providers").status == 403, lines
                assert fetch(f"{nginx.url}/health").status == 200
        assert Client(f"{gateway.url}/mcp/notes", L).connect().tools()


def said(server):
    with Gateway(protected("notes", server), env={"RUST_LOG": "info"}) as gateway:
        assert "callers are not authenticated" in gateway.output()
        assert "proxy" in gateway.output()
    with Gateway(protected("notes", server), settings={"access": access()}) as gateway:
        assert "callers are not authenticated" not in gateway.output()


def refused():
    elsewhere = (
        {"public_url": "https://mcp.example.com"},
        {"hosts": ["mcp.example.com"]},
        {"trusted_proxies": ["10.0.0.0/8"]},
        {"public_url": "https://mcp.example.com", "access": {"admin_keys": access()["admin_keys"]}},
        {"hosts": ["mcp.example.com"], "access": {"local": {"tenant": "acme", "user": "me"}}},
    )
    for settings in elsewhere:
        with Gateway(settings=settings, wait=False) as gateway:
            assert gateway.popen.wait(GUARD) == 78, gateway.output()
            assert "`access` names nobody who may call" in gateway.output(), gateway.output()
            assert not listens(gateway.port)


def keyed(server):
    for more in ({}, {"local": {"tenant": "acme", "user": "me"}}):
        settings = {"access": access(**more), "public_url": "https://mcp.example.com"}
        with Gateway(protected("notes", server), settings=settings) as gateway, Nginx(gateway.port) as nginx:
            for path in PATHS:
                answer = status(nginx.url, path, method=method_of(path))
                assert answer.status == 401, (path, answer.status, answer.text)
                assert answer.headers["www-authenticate"].startswith("Bearer"), answer.headers
            for revision in (J, L, M):
                for header in ({"x-api-key": ANN}, {"authorization": f"Bearer {ANN}"}):
                    assert Client(f"{nginx.url}/tools/notes", revision, header).connect().tools()


def own(server):
    settings = {"access": access(local={"tenant": "acme", "user": "me"})}
    gateway = Gateway(protected("notes", server), settings=settings)
    try:
        key = local_key(gateway).read_text().strip()
        assert stat.S_IMODE(local_key(gateway).stat().st_mode) == 0o600 and len(key) >= 32
        assert status(gateway.url, "/mcp").status == 401
        mine = {"x-api-key": key}
        assert Client(f"{gateway.url}/tools/notes", L, mine).connect().tools()
        gateway.terminate()
        gateway.again()
        assert local_key(gateway).read_text().strip() == key
        assert Client(f"{gateway.url}/tools/notes", L, mine).connect().tools()
        gateway.terminate()
        local_key(gateway).unlink()
        gateway.again()
        assert status(gateway.url, "/mcp", mine).status == 401
        mine = {"x-api-key": local_key(gateway).read_text().strip()}
        assert mine["x-api-key"] != key
        assert Client(f"{gateway.url}/tools/notes", L, mine).connect().tools()
        assert key not in gateway.output() and mine["x-api-key"] not in gateway.output()
    finally:
        gateway.stop()


def connects(server):
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    settings = {"access": access(local={"tenant": "acme", "user": "me"}), "public_url": url}
    with Gateway(protected("notes", server), settings=settings) as gateway, Nginx(gateway.port, port=port) as nginx:
        for key in (ANN, local_key(gateway).read_text().strip()):
            client = Client(f"{nginx.url}/mcp/notes", L, {"x-api-key": key}).connect()
            call = {"tool": "echo", "arguments": {"message": "hi"}}
            link = data_of(asked(client, "use_notes", call))["connect_url"]
            assert link.startswith(url), link
            stranger = Person("eve", "x" * 43)
            form = stranger.open(link)
            assert stranger.submit(form, api_key=stranger.key).status in range(400, 500)
            done = Person("zoe", key).agree(link)
            assert done.status == 200, done
            answer = asked(client, "use_notes", call)
            assert answer["structuredContent"]["status"] == "ok", answer


def open_paths(server):
    url = "https://mcp.example.com"
    settings = {"access": access(), "public_url": url}
    with Gateway(protected("notes", server), settings=settings) as gateway:
        for lines in ("", *SAID):
            with Nginx(gateway.port, lines) as nginx:
                assert fetch(f"{nginx.url}/health").status == 200
                document = fetch(f"{nginx.url}/oauth/client-metadata.json")
                assert document.status == 200 and json.loads(document.text)["redirect_uris"], document.text
                callback = fetch(f"{nginx.url}/oauth/callback?state=x&code=y")
                assert 400 <= callback.status < 500 and "text/html" in callback.headers["content-type"]
                asks = {"origin": url, "access-control-request-method": "POST"}
                assert fetch(f"{nginx.url}/mcp", "OPTIONS", headers=asks).status == 204


def page(server):
    with Gateway(protected("notes", server)) as gateway:
        link = data_of(asked(caller(gateway, "/mcp/notes", L), "use_notes", {"tool": "echo"}))["connect_url"]
        for lines in SAID:
            with Nginx(gateway.port, lines) as nginx:
                person = Person("eve")
                form = person.open(link.replace(gateway.url, nginx.url))
                origin = {"origin": gateway.url}
                fields = {name: value for name, (_, value) in form.forms[0]["fields"].items()}
                sent = person.send("POST", link.replace(gateway.url, nginx.url), fields, origin)
                assert 400 <= sent.status < 500 and "machine" in sent.text, (lines, str(sent))
        assert Person("zoe").agree(link).status == 200


def guessed(server):
    settings = {"access": access(local={"tenant": "acme", "user": "me"})}
    gateway = Gateway(protected("notes", server), settings=settings)
    try:
        with Nginx(gateway.port) as nginx, Nginx(gateway.admin_port) as admin:
            for again in (False, True):
                if again:
                    gateway.terminate()
                    gateway.again()

                def is_hushed(url, path, method):
                    answer = status(url, path, {"x-api-key": "guess"}, method)
                    assert answer.status in (401, 429), answer.text
                    return answer.status == 429

                assert any(is_hushed(nginx.url, "/mcp", "POST") for _ in range(1000))
                # Nobody has called since the start: nothing is remembered of anybody.
                for key in (ANN, local_key(gateway).read_text().strip()):
                    assert Client(f"{nginx.url}/tools/notes", L, {"x-api-key": key}).connect().tools()
                assert status(admin.url, "/providers", {"x-api-key": "guess"}, "GET").status == 401
                assert any(is_hushed(admin.url, "/providers", "GET") for _ in range(1000))
                assert status(admin.url, "/providers", {"x-api-key": OPS}, "GET").status == 200
    finally:
        gateway.stop()


def commands(upstream):
    settings = {"access": access(local={"tenant": "acme", "user": "me"})}
    with Gateway(provider("plain", upstream.url), settings=settings) as gateway:
        config = str(gateway.home / "pleiades.yaml")
        words = ["call", "plain", "echo", '{"message":"hi"}']
        done = subprocess.run(
            [str(PLEIADES), "--config", config, *words],
            capture_output=True,
            text=True,
            timeout=GUARD,
            env=gateway.environment,
        )
        assert done.returncode == 0 and "hi" in done.stdout, done
