"""No secret in any log at trace level, metric, list, error, page or file, whatever was done.

`PLEIADES_LOG_MEGABYTES` says how much is logged before it is searched (2; the figure of a release is of 100).
"""

import base64
import contextlib
import hashlib
import hmac
import json
import os
import pathlib
import subprocess
import tempfile
import threading
import time
from urllib.parse import parse_qsl, quote, urlsplit

from faulty import FaultProxy
from hashicorp import Vault
from mcp import J, L, M, Client, RpcError, fetch
from oauth import Oidc, Person, asked, caller, link_of, protected
from renewal import AUTH, CLIENT
from world import SEAL, Everything, Gateway, everything_stdio, provider, until

MEGABYTES = int(os.environ.get("PLEIADES_LOG_MEGABYTES", 2))
ADMIN = "admin-key-of-the-tests-4711"
SIGNING = "signing-key-of-the-tests-of-enough-bytes-0815"
API = "api-key-of-a-provider-2342"
LENT = "api-key-out-of-vault-6789"
CHILD = "secret-of-a-child-process-1357"
MISNAMED = "secret-under-a-wrong-name-2468"
VAULT_KEY = "key-of-the-file-vault-of-the-tests-9999"
CALL = {"tool": "echo", "arguments": {"message": "hi"}}
# One whose callback may be at any port of this machine.
NATIVE = {**CLIENT, "application_type": "native"}
# What is shorter stands in logs by chance.
SHORTEST = 8
# Secrets that a page or an answer hands out on purpose: they are looked for in logs and files alone.
HANDED = ("link", "csrf")


def checks():
    with contextlib.ExitStack() as stack:
        world = World(stack)
        yield f"{MEGABYTES} MB of logs at trace level come together under everything at once", world.run
        yield "the search finds each form of a secret that is there", world.finds
        yield "no secret stands in them, in any form", world.logs
        yield "no secret stands in metrics, lists, errors and pages", world.bodies
        yield "no secret stands in any file beside, the file vault included", world.files


class Seen:
    """What the gateway answered, but for what tools answered."""

    def __init__(self):
        self.texts, self.size, self.lock = [], 0, threading.Lock()

    def add(self, text):
        with self.lock:
            if text and self.size < 64_000_000:
                self.texts.append(text)
                self.size += len(text)


class World:
    def __init__(self, stack):
        self.stack, self.seen, self.secrets, self.rounds = stack, Seen(), {}, 0
        self.folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        upstream = stack.enter_context(Everything())
        self.server = stack.enter_context(Oidc(upstream.url, clients=[NATIVE]))
        self.vault = stack.enter_context(Vault(self.folder / "vault"))
        self.vault.put("team/lent", token=LENT)
        self.proxy = stack.enter_context(FaultProxy(self.vault.url))
        self.token = self.vault.token("references")
        for kind, *texts in (
            ("settings", ADMIN, SIGNING, API, LENT, CHILD, MISNAMED, VAULT_KEY, SEAL),
            ("settings", CLIENT["client_secret"]),
            ("vault", self.vault.root, self.vault.key, self.token),
        ):
            self.secret(kind, *texts)
        keyed = provider("keyed", upstream.url, auth={"api_key": {"value": "${KEY_OF_KEYED}"}})
        lent = provider("lent", upstream.url, auth={"api_key": {"value": "${vault:team/lent#token}"}})
        child = everything_stdio("child", upstream={"env": {"CHILD_TOKEN": "${CHILD_TOKEN}"}})
        notes, free = protected("notes", self.server, AUTH), protected("free", self.server)
        self.gateways = [
            self.gateway(notes, free, keyed, child, vault={"file": {"key": VAULT_KEY}}),
            self.gateway(notes, keyed, lent, vault=self.hashicorp()),
        ]

    def secret(self, kind, *texts):
        for text in texts:
            if text and len(text) >= SHORTEST:
                self.secrets.setdefault(text, kind)

    def hashicorp(self):
        said = self.vault.settings({"token": "${OUR_VAULT_TOKEN}"})
        said["hashicorp"]["address"] = self.proxy.url
        return said

    def key(self, user):
        text = f"key-of-{user}-fedcba9876543210"
        self.secret("api key", text, hashlib.sha256(text.encode()).hexdigest())
        return text

    def gateway(self, *providers, vault):
        named = lambda name, text: {"name": name, "sha256": hashlib.sha256(text.encode()).hexdigest()}
        people = [{**named(user, self.key(user)), "tenant": "acme", "user": user} for user in ("ann", "bob")]
        settings = {
            "vault": vault,
            "access": {"api_keys": people, "admin_keys": [named("ops", ADMIN)]},
            "signing": {"inbound_keys": ["${SIGNING_KEY}"]},
            "references": {"vault": ["team/*"]},
            "commands": True,
        }
        env = {
            "RUST_LOG": "trace",
            "KEY_OF_KEYED": API,
            "CHILD_TOKEN": CHILD,
            "SIGNING_KEY": SIGNING,
            "OUR_VAULT_TOKEN": self.token,
        }
        return self.stack.enter_context(Gateway(*providers, settings=settings, env=env))

    def run(self):
        auth = {"client_secrett": MISNAMED, "client_secret": [MISNAMED]}
        broken = protected("broken", self.server, auth)
        self.gateways[0].write(broken)
        while True:
            self.round(self.gateways[0], None)
            self.round(self.gateways[1], self.proxy)
            self.rounds += 1
            if self.size() >= MEGABYTES * 1_000_000:
                break
            self.loops()
        for gateway in self.gateways:
            gateway.check_alive()
        # What is still under way ends, and is logged as well.
        for gateway in self.gateways:
            gateway.terminate()
        values = self.server.values()
        assert len(values) > 20, values
        self.secret("oauth", *values)
        kinds = {kind: list(self.secrets.values()).count(kind) for kind in set(self.secrets.values())}
        print(f"      {self.size() / 1e6:.1f} MB, {self.rounds} rounds, secrets: {kinds}", flush=True)

    def size(self):
        return sum(gateway.log.stat().st_size for gateway in self.gateways)

    def loops(self):
        """Calls that need nothing new, until a good part more is logged: rounds cost time."""
        goal = min(MEGABYTES * 1_000_000, self.size() + 6_000_000)
        end = time.monotonic() + 60

        def work(gateway, path, revision, user):
            key = self.key(user)
            headers = {"pleiades-account": "kept"} if "notes" in path else {}
            while self.size() < goal and time.monotonic() < end:
                client = self.client(gateway, path, revision, key, headers)
                name = path.split("/")[2]
                call = (f"use_{name}", CALL) if "/mcp/" in path else ("echo", CALL["arguments"])
                for _ in range(20):
                    asked(client, *call)
                with contextlib.suppress(RpcError):
                    client.tools()

        threads = [
            threading.Thread(target=work, args=(gateway, path, revision, user), daemon=True)
            for gateway in self.gateways
            for path, revision, user in (
                ("/mcp/notes", J, "ann"),
                ("/tools/notes", M, "ann"),
                ("/relay/notes", L, "ann"),
                ("/tools/keyed", L, "bob"),
            )
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def client(self, gateway, path, revision, key=None, headers=None):
        """A client whose answers are looked at, but for those of tools."""
        given = {**({"x-api-key": key} if key else {}), **(headers or {})}
        client = Client(f"{gateway.url}{path}", revision, given)
        post, seen = client.post, self.seen

        def posted(message, sent):
            reply = post(message, sent)
            seen.add(reply.text or json.dumps(reply.messages))
            return reply

        client.post = posted
        return client.connect()

    def fetched(self, url, *rest, **more):
        reply = fetch(url, *rest, **more)
        self.seen.add(reply.text)
        return reply

    def round(self, gateway, proxy):
        """Once everything that a credential can go through."""
        ann, bob, number = self.key("ann"), self.key("bob"), self.rounds
        self.connects(gateway, ann, bob, f"p{number}")
        self.calls(gateway, ann, bob)
        self.renewals(gateway, ann, number)
        self.signed(gateway)
        self.strangers(gateway, ann)
        if proxy:
            self.faults(gateway, proxy, ann)
        headers = {"x-api-key": ann}
        self.fetched(f"{gateway.url}/v1/accounts", headers=headers)
        self.fetched(f"{gateway.url}/v1/accounts/notes/p{number}", "DELETE", headers)
        for path in ("metrics", "ready", "health", "providers"):
            self.fetched(f"{gateway.admin}/{path}", headers={"x-api-key": ADMIN})

    def connects(self, gateway, ann, bob, account):
        for name in ("notes", *(["free"] if gateway is self.gateways[0] else [])):
            person = Person(account, ann)
            client = caller(gateway, f"/mcp/{name}", J, ann)
            link = link_of(asked(client, f"use_{name}", {"prompt": "x", "accountId": account}))
            self.secret("link", link.rsplit("/", 1)[-1])
            page = person.open(link)
            for wrong in (bob, "a-wrong-key-" + account):
                self.secret("api key", wrong)
                eve = Person("eve", wrong)
                eve.submit(eve.open(link), api_key=wrong)
                self.browsed(eve, gateway)
            bare = person.submit(page, api_key="")
            assert bare.status >= 400, bare
            # Refused at the provider, then agreed to.
            shy = Person(account, ann)
            there = shy.follow(shy.submit(shy.open(link), api_key=ann))
            shy.follow(shy.submit(there, go="no"))
            self.browsed(shy, gateway)
            page = person.agree(link)
            assert page.status == 200, page
            callback = next(it.url for it in reversed(person.seen) if "/oauth/callback" in it.url)
            person.send("GET", callback)
            person.send("GET", callback.replace("state=", "state=x"))
            Person("mallory").send("GET", f"{callback}&error=access_denied&error_description=made-up")
            self.browsed(person, gateway)

    def browsed(self, person, gateway):
        """Takes the secrets of a browser's history, and the pages that the gateway showed."""
        for page in person.seen:
            for url in (page.url, page.headers.get("location", "")):
                said = dict(parse_qsl(urlsplit(url).query))
                self.secret("oauth", *(said.get(name, "") for name in ("code", "state", "nonce")))
            if page.url.startswith(gateway.url):
                self.seen.add(page.text)
                for form in page.forms:
                    hidden = [value for kind, value in form["fields"].values() if kind == "hidden"]
                    self.secret("csrf", *hidden)
            line = page.headers.get("set-cookie", "")
            self.secret("cookie", line.partition("=")[2].partition(";")[0])
        for jar in person.cookies.values():
            self.secret("cookie", *(value for value, _ in jar.values()))

    def calls(self, gateway, ann, bob):
        self.put(gateway, "kept", self.server.mint("kept", "app", 3600))
        reply = self.fetched(
            f"{gateway.url}/v1/accounts/notes/kept",
            "PUT",
            headers={"x-api-key": ann, "content-type": "application/json"},
            body=b'{"default":true}',
        )
        assert reply.status in (200, 204), reply.text
        bearer = {"authorization": f"Bearer {ann}"}
        for revision in (J, L, M):
            said = asked(self.client(gateway, "/mcp/notes", revision, ann), "use_notes", CALL)
            assert said["structuredContent"]["status"] == "ok", said
            client = self.client(gateway, "/tools/notes", revision, None, bearer)
            said = asked(client, "echo", CALL["arguments"])
            assert not said.get("isError"), said
            asked(self.client(gateway, "/mcp/keyed", revision, bob), "use_keyed", CALL)
            asked(self.client(gateway, "/mcp/notes", revision, bob), "use_notes", CALL)
            asked(self.client(gateway, "/tools", revision, ann), "notes__none", {})
        relay = self.client(gateway, "/relay/notes", L, ann, {"pleiades-account": "kept"})
        asked(relay, "echo", {"message": "hi"})
        if gateway is self.gateways[0]:
            # A tool that prints the environment: its answer is the caller's, its log is not.
            child = caller(gateway, "/tools/child", L, ann)
            names = [tool["name"] for tool in child.tools() if "env" in tool["name"].lower()]
            said = asked(child, names[0])
            assert CHILD in str(said), "the child has its secret"
        else:
            asked(self.client(gateway, "/mcp/lent", M, ann), "use_lent", CALL)

    def put(self, gateway, account, tokens, key=ADMIN):
        text = tokens if isinstance(tokens, str) else json.dumps(tokens)
        return self.fetched(
            f"{gateway.admin}/v1/accounts/acme/ann/notes/{account}",
            "PUT",
            headers={"content-type": "application/json", "x-api-key": key},
            body=text.encode(),
        )

    def renewals(self, gateway, ann, number):
        """Renewed with rotation, failing for a while, for good, and tokens that are none."""
        client = self.client(gateway, "/mcp/notes", M, ann)
        used = lambda account: asked(client, "use_notes", {**CALL, "accountId": account})
        reply = self.put(gateway, f"r{number}", self.server.mint("kept", "app", 1) | {"expires_in": 0})
        assert reply.status in (200, 201, 204), reply.text
        assert used(f"r{number}")["structuredContent"]["status"] == "ok"
        made = {
            "access_token": f"made-up-access-token-{number}",
            "refresh_token": f"made-up-refresh-token-{number}",
        }
        self.secret("oauth", *made.values())
        assert self.put(gateway, f"m{number}", made | {"expires_in": 0}).status < 300
        used(f"m{number}")
        # Refused by the provider although it has not expired: asked for anew, and refused.
        assert self.put(gateway, f"n{number}", made | {"expires_in": 3600}).status < 300
        used(f"n{number}")
        if number == 0:
            self.put(gateway, "f", self.server.mint("kept", "app", 1) | {"expires_in": 0})
            self.server.set(fail=500)
            used("f")
            self.server.set(fail=0)
        assert self.put(gateway, "bad", json.dumps(made)[:-3]).status >= 400
        assert self.put(gateway, "bad", made | {"access_token": made["access_token"] + " x"}).status >= 400
        assert self.put(gateway, "bad", made | {"expires_at": made["access_token"]}).status >= 400
        self.secret("settings", f"{ADMIN}-wrong-{number}")
        assert self.put(gateway, "bad", made, f"{ADMIN}-wrong-{number}").status == 401
        for account in (f"m{number}", f"n{number}", f"r{number}"):
            self.fetched(f"{gateway.url}/v1/accounts/notes/{account}", "DELETE", {"x-api-key": ann})

    def signed(self, gateway):
        body = json.dumps({"tenant": "acme", "user": "ann", "account": "kept"}).encode()
        for key, status in ((SIGNING, 200), ("a-wrong-signing-key", 401)):
            now = int(time.time())
            tag = hmac.new(key.encode(), b"%d." % now + body, "sha256").hexdigest()
            self.secret("signature", tag)
            headers = {"pleiades-signature": f"t={now},v1={tag}", "content-type": "application/json"}
            reply = self.fetched(f"{gateway.url}/oauth/refresh/notes", "POST", headers=headers, body=body)
            # In the same second the same request is one that was accepted before.
            assert reply.status in (status, 401), (reply.status, reply.text)

    def strangers(self, gateway, ann):
        wrong = f"{ann}-and-more"
        self.secret("api key", wrong)
        bearer, body = f"Bearer {wrong}", b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
        both = {"x-api-key": ann, "authorization": bearer}
        for headers in ({"x-api-key": wrong}, {"authorization": bearer}, both):
            for path in ("/mcp", "/tools/notes", "/relay/notes", "/v1/accounts", f"/v1/connections/{wrong}"):
                self.fetched(f"{gateway.url}{path}", "POST", headers, body)
        # In places where none belongs.
        self.fetched(f"{gateway.url}/mcp?api_key={ann}&token={wrong}", "POST", {"x-api-key": ann}, b"{")
        self.fetched(f"{gateway.url}/oauth/connect/{wrong}")

    def faults(self, gateway, proxy, ann):
        client = self.client(gateway, "/mcp/notes", M, ann)
        for mode in (403, 500, 429, "drop"):
            proxy.set(mode)
            try:
                asked(client, "use_notes", {**CALL, "accountId": "kept"})
                asked(client, "use_notes", {**CALL, "accountId": "nobody"})
                self.put(gateway, "late", self.server.mint("kept", "app", 3600))
                self.fetched(f"{gateway.url}/v1/accounts", headers={"x-api-key": ann})
            finally:
                proxy.set("pass")

        def recovered():
            said = asked(client, "use_notes", {**CALL, "accountId": "nobody"})
            return isinstance(said, dict) and said["structuredContent"]["status"] == "needs_auth"

        until("it to recover", recovered)

    def wanted(self, handed):
        return [text for text, kind in self.secrets.items() if handed or kind not in HANDED]

    def finds(self):
        path = self.folder / "planted.log"
        for form in forms(SIGNING):
            path.write_text(f'{{"fields":"before{form}after"}}\n')
            assert found([SIGNING], [path]), form

    def logs(self):
        told(self, self.wanted(True), [gateway.log for gateway in self.gateways])

    def bodies(self):
        path = self.folder / "bodies.log"
        path.write_text("\n".join(self.seen.texts))
        assert len(self.seen.texts) > 50, len(self.seen.texts)
        told(self, self.wanted(False), [path])

    def files(self):
        every = [path for gateway in self.gateways for path in gateway.home.rglob("*") if path.is_file()]
        # What a person wrote there is theirs.
        written = [path for path in every if path.suffix != ".yaml"]
        assert any("vault" in path.name for path in written), every
        told(self, self.wanted(True), written)


def forms(text):
    """A secret as it may stand somewhere: itself, encoded for a URL, in base64 at any place of a longer
    text, in hexadecimal, and as the numbers that a debugger prints."""
    raw = text.encode()
    yield from {text, quote(text, safe=""), quote(text), json.dumps(text)[1:-1], raw.hex(), raw.hex().upper()}
    yield ", ".join(str(byte) for byte in raw)
    for shift in range(3):
        whole = base64.b64encode(b"\0" * shift + raw).decode()
        # The characters at both ends depend on what stands beside.
        inner = whole[(0, 2, 3)[shift] :].rstrip("=")
        inner = inner[: len(inner) - (1 if (len(raw) + shift) % 3 else 0)]
        yield inner
        yield inner.replace("+", "-").replace("/", "_")


def found(secrets, paths):
    """Lines of files that hold one of these, by what stands there."""
    with tempfile.NamedTemporaryFile("w", suffix=".patterns") as patterns:
        patterns.write("\n".join({form for text in secrets for form in forms(text)}) + "\n")
        patterns.flush()
        command = ["grep", "-a", "-o", "-n", "-H", "-F", "-f", patterns.name, "--", *map(str, paths)]
        done = subprocess.run(command, capture_output=True, env={**os.environ, "LC_ALL": "C"}, check=False)
    assert done.returncode in (0, 1), done.stderr[:500]
    return done.stdout.decode(errors="replace").splitlines()


def told(world, secrets, paths):
    """Says for each kind of secret where it stands first."""
    hits = {}
    for line in found(secrets, paths):
        path, number, form = line.split(":", 2)
        kind = next((world.secrets[text] for text in secrets if form in forms(text)), "?")
        hits.setdefault((kind, path), []).append((int(number), form))
    said = []
    for (kind, path), places in hits.items():
        number, form = places[0]
        with open(path, errors="replace") as file:
            line = next(text for at, text in enumerate(file, 1) if at == number)
        at = max(line.find(form) - 200, 0)
        said.append(f"{len(places)} of kind {kind} in {path}:{number}: {form[:40]}: {line[at : at + 500]}")
    assert not said, "\n".join(said)
