"""Vault slow, refusing, failing, throttling, dropped, sealed and stopped, while everybody calls."""

import contextlib
import hashlib
import json
import pathlib
import tempfile

from faulty import FaultProxy, Load
from hashicorp import Vault
from mcp import L, M, Client, RpcError, fetch
from oauth import Oidc, asked, caller, data_of, protected
from renewal import AUTH, CALL, CLIENT
from world import Everything, Gateway, metric, provider, until

# Seconds that renewed tokens live: every fault outlives them.
SHORT = 6
ENOUGH = 10
PROXIED = ["slow", 403, 500, 429, "drop"]
UP = {403: 1.0, 500: 0.0, "drop": 0.0, "sealed": 0.0, "stopped": 0.0}
UNAFFECTED = ("plain meta", "plain tools", "plain relay", "keyed", "lent", "cached", "cached tools", "probe")


def key_of(user):
    return f"key-of-{user}-0123456789abcdef"


def keys_of(*users):
    digest = lambda user: hashlib.sha256(key_of(user).encode()).hexdigest()
    return [{"name": user, "tenant": "acme", "user": user, "sha256": digest(user)} for user in users]


def status_of(outcome):
    """`status` of an answer, whatever form it has."""
    if isinstance(outcome, RpcError):
        return f"error {outcome.code}"
    structured = outcome.get("structuredContent") or {}
    return structured.get("status") or ("failed" if outcome.get("isError") else "ok")


def checks():
    with contextlib.ExitStack() as stack:
        world = World(stack)
        for fault in PROXIED:
            yield f"vault {NAMED[fault]}: {CLAIM}", lambda fault=fault: world.proxied(fault)
        yield f"vault sealed: {CLAIM}", world.sealed
        yield f"vault stopped and started: {CLAIM}", world.stopped
        yield "no call that needs no vault failed at any time, and nobody used what is not theirs", world.whole
        yield "started while vault is away: serves what needs none, ready once the seal key is read", world.late


CLAIM = "who needs none goes on, who needs it is told `unavailable`, and all recovers alone"
NAMED = {
    "slow": "slow by 5 s",
    403: "answering 403",
    500: "answering 500",
    429: "answering 429",
    "drop": "dropping connections",
}


class World:
    def __init__(self, stack):
        self.stack = stack
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self.vault = Vault(folder / "vault")
        stack.callback(lambda: self.vault.stop())
        self.kept = folder / "vault"
        self.vault.put("team/lent", token="lent-key-of-the-tests")
        self.proxy = stack.enter_context(FaultProxy(self.vault.url))
        upstream = stack.enter_context(Everything())
        clients = [CLIENT]
        self.server = stack.enter_context(Oidc(upstream.url, clients=clients, ttl=SHORT))
        given = {"header": "x-api-key", "prefix": "", "value": "a key of the tests"}
        self.descriptors = [
            provider("plain", upstream.url),
            provider("keyed", upstream.url, auth={"api_key": given}),
            provider("lent", upstream.url, auth={"api_key": {"value": "${vault:team/lent#token}"}}),
            protected("notes", self.server, AUTH),
        ]
        self.newcomers = [f"new{number}" for number in range(len(PROXIED) + 3)]
        self.used = []
        self.gateway = stack.enter_context(self.start())
        for name in ("plain", "keyed", "lent"):
            self.gateway.settled(name)
        self.put("ann", "long", self.server.mint("long", "app", 3600))
        self.put("sam", "short", self.server.mint("short", "app", 1) | {"expires_in": 1})
        self.load = Load()
        stack.callback(self.load.stop)
        self.people()
        self.settled("before")

    def start(self, **rest):
        vault = self.vault.settings({"token": self.vault.token("references")})
        vault["hashicorp"]["address"] = self.proxy.url
        people = keys_of("ann", "sam", "eve", *self.newcomers)
        settings = {
            "vault": vault,
            "seal": {},
            "access": {"api_keys": people},
            "references": {"vault": ["team/*"]},
        }
        return Gateway(*self.descriptors, settings=settings, **rest)

    def put(self, user, account, tokens):
        url = f"{self.gateway.admin}/v1/accounts/acme/{user}/notes/{account}"
        reply = fetch(url, "PUT", {"content-type": "application/json"}, json.dumps(tokens).encode())
        assert reply.status in (200, 201, 204), (reply.status, reply.text)

    def people(self):
        """Everybody who calls all the time."""
        gateway, load = self.gateway, self.load
        call = {"tool": "echo", "arguments": {"message": "hi"}}

        def meta(name, user, revision=M):
            client = caller(gateway, f"/mcp/{name}", revision, key_of(user))

            def once():
                outcome = asked(client, f"use_{name}", call)
                return status_of(outcome), outcome if isinstance(outcome, dict) else outcome.data

            return once

        def direct(path, user, revision):
            client = caller(gateway, path, revision, key_of(user))
            return lambda: (status_of(outcome := asked(client, "echo", {"message": "hi"})), outcome)

        def probe():
            urls = (f"{gateway.admin}/ready", f"{gateway.admin}/health", f"{gateway.url}/health")
            statuses = [fetch(url).status for url in urls]
            return ("ok" if statuses == [200, 200, 200] else "failed"), statuses

        load.add("plain meta", meta("plain", "ann", L))
        load.add("plain tools", direct("/tools/plain", "eve", M))
        load.add("plain relay", direct("/relay/plain", "ann", L))
        load.add("keyed", meta("keyed", "eve"))
        load.add("lent", meta("lent", "ann"))
        load.add("cached", meta("notes", "ann", L))
        load.add("cached tools", direct("/tools/notes", "ann", M))
        load.add("expiring", meta("notes", "sam"))
        load.add("never", meta("notes", "eve"))
        load.add("probe", probe, 0.2)

    def settled(self, phase):
        """Waits until everything works, and says so in `phase`."""
        self.load.phase = f"recovering {phase}"
        now = f"working {phase}"
        until("the expiring to be renewed", lambda: self.last("expiring") == "ok")
        until("the link to be told", lambda: self.last("never") == "needs_auth")
        until("vault_up to be 1", lambda: self.up() == 1.0)
        self.load.phase = now
        for name, status in (("expiring", "ok"), ("never", "needs_auth"), ("cached", "ok")):
            until(name, lambda it=(name, status): it[1] in [seen[0] for seen in self.load.seen(it[0], now)])

    def last(self, name):
        seen = self.load.seen(name, self.load.phase)
        return seen[-1][0] if seen else None

    def up(self):
        return metric(fetch(f"{self.gateway.admin}/metrics").text, "pleiades_vault_up")

    def proxied(self, fault):
        self.proxy.set(fault)
        try:
            self.suffer(fault)
        finally:
            self.load.phase = f"ending {fault}"
            self.proxy.set("pass")
        self.recovered(fault)

    def sealed(self):
        self.vault.seal()
        try:
            self.suffer("sealed")
        finally:
            self.load.phase = "ending sealed"
            self.vault.unseal()
        self.recovered("sealed")

    def stopped(self):
        port = self.vault.port
        self.vault.stop()
        try:
            self.suffer("stopped")
        finally:
            self.load.phase = "ending stopped"
            self.vault = Vault(self.kept, port=port)
        self.recovered("stopped")

    def suffer(self, fault):
        """Everybody calls while the fault lasts, somebody new as well."""
        self.load.phase = str(fault)
        stranger = self.newcomers[len(self.used)]
        self.used.append(stranger)
        if fault != "slow":
            self.told(stranger)
            until("the tokens to expire", lambda: self.last("expiring") == "unavailable")
            until("the never connected to be told", lambda: len(self.during("never")) >= ENOUGH)
        else:
            until("vault to be asked", lambda: self.proxy.asked["slow"] >= 3)
        for name in UNAFFECTED:
            until(f"{name} to be called", lambda name=name: len(self.during(name)) >= ENOUGH)
        if fault == 403:
            assert "does not allow it" in self.gateway.output(), "whoever runs it is told what vault refuses"
        if fault in UP:
            until(f"vault_up to be {UP[fault]}", lambda: self.up() == UP[fault])
        self.judged(str(fault))

    def during(self, name):
        return self.load.seen(name, self.load.phase)

    def judged(self, phase):
        """What those who need the vault were told within a fault."""
        for name, may in (("expiring", {"ok", "unavailable"}), ("never", {"unavailable"})):
            if phase == "slow":
                may = may | {"needs_auth"} if name == "never" else may
            for status, detail in self.load.seen(name, phase):
                assert status in may, (name, phase, status, detail)
                if status == "unavailable":
                    data = data_of(detail)
                    assert data["retry_after"] > 0 and "connect_url" not in data, (name, phase, detail)

    def told(self, stranger):
        """Somebody whom the gateway has never seen, in every view."""
        key = key_of(stranger)
        outcome = asked(caller(self.gateway, "/mcp/notes", M, key), "use_notes", CALL)
        assert status_of(outcome) == "unavailable", outcome
        outcome = asked(caller(self.gateway, "/tools/notes", M, key), "echo", {"message": "hi"})
        assert "connect_url" not in str(vars(outcome) if isinstance(outcome, RpcError) else outcome), outcome
        assert "retry_after" in str(vars(outcome) if isinstance(outcome, RpcError) else outcome), outcome
        try:
            outcome = Client(f"{self.gateway.url}/relay/notes", L, {"x-api-key": key}).connect()
            raise AssertionError(f"the relay let through somebody without a credential: {vars(outcome)}")
        except RpcError as error:
            assert error.status == 503 and error.data["retry_after"] > 0, (error, error.data)
            assert "connect_url" not in error.data, error.data
        reply = fetch(f"{self.gateway.url}/v1/accounts", headers={"x-api-key": key})
        assert reply.status == 503, (reply.status, reply.text)
        tampered = fetch(f"{self.gateway.url}/v1/accounts", headers={"x-api-key": f"{key}x"})
        assert tampered.status == 401, "a wrong key is wrong whatever vault does"

    def recovered(self, fault):
        self.settled(fault)
        outcome = asked(caller(self.gateway, "/mcp/notes", M, key_of(self.used[-1])), "use_notes", CALL)
        assert status_of(outcome) == "needs_auth", outcome
        self.unharmed()

    def unharmed(self):
        for name in UNAFFECTED:
            wrong = [note for note in self.load.all(name) if note[3] != "ok"]
            assert not wrong, (len(wrong), wrong[:3])

    def whole(self):
        self.unharmed()
        counts = {name: len(self.load.all(name)) for name in UNAFFECTED}
        longest = max(note[5] for name in UNAFFECTED for note in self.load.all(name))
        owners = self.server.facts()["calls"]
        assert set(owners) <= {"long", "short"}, owners
        for name, own in (("cached", "long"), ("expiring", "short")):
            for *_, status, detail, _ in self.load.all(name):
                assert status != "ok" or detail["structuredContent"]["accountId"] == own, detail
        told = [note for note in self.load.all("expiring") if note[3] not in ("ok", "unavailable")]
        assert not told, told[:3]
        told = [note for note in self.load.all("never") if note[3] not in ("needs_auth", "unavailable")]
        assert not told, told[:3]
        print(f"      {sum(counts.values())} calls unaffected, the longest took {longest:.2f} s", flush=True)
        self.gateway.check_alive()

    def late(self):
        self.load.stop()
        self.gateway.stop()
        port = self.vault.port
        # Made while it was there; nothing can be made afterwards.
        ends = contextlib.ExitStack()
        token = self.vault.token("references")
        self.vault.token = lambda *_: token
        self.vault.stop()
        with ends:
            gateway = self.gateway = ends.enter_context(self.start(wait=False))
            until("the gateway to accept", lambda: gateway.check_alive() or self.health(gateway) == 200)
            gateway.settled("plain")
            gateway.settled("keyed")
            assert fetch(f"{gateway.admin}/ready").status == 503
            for path in ("plain", "keyed"):
                said = asked(caller(gateway, f"/mcp/{path}", M, key_of("ann")), f"use_{path}", CALL)
                assert status_of(said) == "ok", said
            said = asked(caller(gateway, "/mcp/notes", M, key_of("ann")), "use_notes", CALL)
            assert status_of(said) == "unavailable" and data_of(said)["retry_after"] > 0, said
            assert fetch(f"{gateway.admin}/ready").status == 503
            assert self.up() == 0.0
            self.vault = Vault(self.kept, port=port)
            until("the gateway to be ready", gateway.is_ready)
            for path, user, status in (
                ("plain", "ann", "ok"),
                ("keyed", "ann", "ok"),
                ("lent", "ann", "ok"),
                ("notes", "ann", "ok"),
                ("notes", "sam", "ok"),
                ("notes", "eve", "needs_auth"),
            ):
                until(f"{path} for {user}", lambda it=(path, user, status): self.is_told(*it))
            until("a session to begin", lambda: caller(gateway, "/mcp/plain", L, key_of("ann")))

    def health(self, gateway):
        try:
            return fetch(f"{gateway.admin}/health").status
        except OSError:
            return None

    def is_told(self, path, user, status):
        with contextlib.suppress(RpcError):
            client = caller(self.gateway, f"/mcp/{path}", M, key_of(user))
            return status_of(asked(client, f"use_{path}", CALL)) == status
