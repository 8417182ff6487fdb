"""From a call without a credential to a call that runs: real authorization server, real pages, two users."""

import hashlib
import json

from mcp import J, L, M, Client, RpcError, fetch
from oauth import Oidc, Person, asked, caller, connected, data_of, link_of, protected, secrets_of
from world import Everything, Gateway, provider, until

ANN, BOB, EVE = "key-of-ann-0123456789abcdef", "key-of-bob-0123456789abcdef", "key-of-eve-0123456789abcdef"


def keys(*people):
    """`access.api_keys` for (tenant, user, key)."""
    return [
        {"name": f"{tenant}-{user}", "tenant": tenant, "user": user, "sha256": digest(key)}
        for tenant, user, key in people
    ]


def digest(key):
    return hashlib.sha256(key.encode()).hexdigest()


USERS = [("acme", "ann", ANN), ("acme", "bob", BOB), ("rival", "ann", EVE)]


def checks():
    with Everything() as upstream, Oidc(upstream.url) as server:
        world = World(server)
        for name in sorted(attribute for attribute in dir(World) if attribute.startswith("check_")):
            function = getattr(world, name)
            yield function.__doc__.strip(), function


class World:
    def __init__(self, server):
        self.server = server

    def gateway(self, *providers, **settings):
        return Gateway(*(providers or [protected("notes", self.server)]), settings=settings)

    def check_01_connects_on_loopback(self):
        """on loopback without access a call names a link, somebody agrees, and the same call runs"""
        with self.gateway() as gateway:
            for revision in (J, L, M):
                client = caller(gateway, "/mcp/notes", revision)
                said = asked(client, "use_notes", {"tool": "echo", "arguments": {"message": "hi"}})
                if revision == J:
                    assert said["structuredContent"]["status"] == "needs_auth", said
                    data = data_of(said)
                    assert data["provider_id"] == "notes" and data["connection_id"], data
                    assert data["reason"] == "never_connected", data
                    page = Person("zoe").agree(data["connect_url"])
                    assert page.status == 200, page
                    said = asked(client, "use_notes", {"tool": "echo", "arguments": {"message": "hi"}})
                assert said["structuredContent"]["status"] == "ok", said
                assert said["structuredContent"]["accountId"] == "zoe", said
                assert "hi" in said["structuredContent"]["text"], said

    def check_02_asks_by_url(self):
        """a client of L that can be sent to a URL is told by -32042, one of M by input_required"""
        with self.gateway() as gateway:
            able = {"elicitation": {"url": {}, "form": {}}}
            old = caller(gateway, "/mcp/notes", L, capabilities=able)
            error = asked(old, "use_notes", {"tool": "echo", "arguments": {"message": "hi"}})
            assert isinstance(error, RpcError) and error.code == -32042, error
            asks = error.data["elicitations"]
            assert asks[0]["mode"] == "url" and asks[0]["elicitationId"] and asks[0]["url"], asks
            assert error.data["connect_url"] == asks[0]["url"], error.data
            new = caller(gateway, "/mcp/notes", M, capabilities=able)
            params = {"name": "use_notes", "arguments": {"tool": "echo", "arguments": {"message": "hi"}}}
            result = new.request("tools/call", params)
            assert result["resultType"] == "input_required", result
            (key, ask), *_ = result["inputRequests"].items()
            assert ask["method"] == "elicitation/create" and ask["params"]["mode"] == "url", ask
            assert Person("zoe").agree(ask["params"]["url"]).status == 200
            params["inputResponses"] = {key: {"action": "accept"}}
            params["requestState"] = result["requestState"]
            again = new.request("tools/call", params)
            assert again["structuredContent"]["status"] == "ok", again

    def check_03_shows_nothing_before(self):
        """nothing of the provider shows before it is connected: no tool, no enum, no name in any error"""
        with self.gateway() as gateway:
            texts = []
            for path in ("/mcp", "/mcp/notes", "/tools", "/tools/notes"):
                for revision in (J, L, M):
                    client = caller(gateway, path, revision)
                    texts.append(json.dumps(client.tools()))
                    name = "use_notes" if path.startswith("/mcp") else "notes__echo"
                    outcome = asked(client, name if path != "/tools/notes" else "echo", {"tool": "echoo"})
                    texts.append(str(outcome))
            texts.append(fetch(f"{gateway.admin}/providers").text)
            for text in texts:
                assert "get-sum" not in text and "Echoes" not in text, text
            tools = [tool["name"] for tool in caller(gateway, "/tools/notes").tools()]
            assert tools == ["connect"], tools

    def check_04_two_tenants(self):
        """two tenants and two users never see each other's accounts, connections or links"""
        with self.gateway(access={"api_keys": keys(*USERS)}) as gateway:
            assert fetch(f"{gateway.url}/mcp", "POST", body=b"{}").status == 401
            data = connected(gateway, "notes", Person("zoe", ANN), key=ANN)
            rows = self.accounts(gateway, ANN)
            assert [row["accountId"] for row in rows] == ["zoe"] and rows[0]["state"] == "ok", rows
            for stranger in (BOB, EVE):
                assert self.accounts(gateway, stranger) == []
                headers = {"x-api-key": stranger}
                url = f"{gateway.url}/v1/connections/{data['connection_id']}"
                assert fetch(url, headers=headers).status == 404
                url = f"{gateway.url}/v1/accounts/notes/zoe"
                assert fetch(url, "DELETE", headers=headers).status == 404
                missing = fetch(f"{gateway.url}/v1/accounts/notes/nobody", "DELETE", headers=headers)
                foreign = fetch(url, "DELETE", headers=headers)
                assert (missing.status, missing.text.replace("nobody", "zoe")) == (
                    foreign.status,
                    foreign.text,
                )
                said = asked(caller(gateway, "/mcp/notes", J, stranger), "use_notes", {"tool": "echo"})
                assert said["structuredContent"]["status"] == "needs_auth", said
            state = fetch(
                f"{gateway.url}/v1/connections/{data['connection_id']}", headers={"x-api-key": ANN}
            )
            assert json.loads(state.text)["state"] == "connected", state.text

    def accounts(self, gateway, key):
        reply = fetch(f"{gateway.url}/v1/accounts", headers={"x-api-key": key})
        assert reply.status == 200, reply.text
        return json.loads(reply.text)["accounts"]

    def check_05_forwarded_link(self):
        """a link that was forwarded to somebody else connects nothing"""
        with self.gateway(access={"api_keys": keys(*USERS)}) as gateway:
            client = caller(gateway, "/mcp/notes", J, ANN)
            link = link_of(asked(client, "use_notes", {"prompt": "x"}))
            for wrong in (BOB, EVE, "made-up"):
                eve = Person("eve", wrong)
                page = eve.open(link)
                answer = eve.submit(page, api_key=wrong)
                assert 400 <= answer.status < 500, answer
                assert answer.headers["content-type"].startswith("text/html"), answer.headers
                assert "ann" not in answer.text.lower().replace("channel", ""), answer
            assert self.accounts(gateway, ANN) == []

    def check_06_prefetched(self):
        """looking at a link costs nothing: GET and HEAD, again and again, begin and store nothing"""
        with self.gateway(access={"api_keys": keys(*USERS)}) as gateway:
            client = caller(gateway, "/mcp/notes", J, ANN)
            link = link_of(asked(client, "use_notes", {"prompt": "x"}))
            before = self.server.facts()
            for _ in range(5):
                assert Person("robot").send("HEAD", link).status == 200
                page = Person("robot").send("GET", link)
                assert page.status == 200
                assert "no-store" in page.headers["cache-control"], page.headers
                assert page.headers["referrer-policy"] == "no-referrer", page.headers
                assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
                assert "<script" not in page.text
            assert self.server.facts() == before
            assert Person("zoe", ANN).agree(link).status == 200

    def check_07_callback_needs_its_cookie(self):
        """a callback without the cookie of its flow, a second one, and a made-up one store nothing"""
        with self.gateway(access={"api_keys": keys(*USERS)}) as gateway:
            client = caller(gateway, "/mcp/notes", J, ANN)
            link = link_of(asked(client, "use_notes", {"prompt": "x"}))
            ann = Person("zoe", ANN)
            sent = ann.submit(ann.open(link), api_key=ANN)
            assert sent.status == 303, sent
            # Somebody else is made to open the authorization URL and comes back with the code.
            victim = Person("victim")
            page = victim.through(victim.open(sent.headers["location"]))
            assert 400 <= page.status < 500 and "text/html" in page.headers["content-type"], page
            assert self.accounts(gateway, ANN) == []
            page = ann.through(ann.open(sent.headers["location"]))
            callback = next(seen.url for seen in reversed(ann.seen) if "/oauth/callback" in seen.url)
            again = ann.send("GET", callback)
            assert 400 <= again.status < 500, again
            fake = Person("eve").send("GET", f"{gateway.url}/oauth/callback?code=x&state=made-up")
            assert 400 <= fake.status < 500, fake

    def check_08_two_accounts(self):
        """two accounts: the first stays the default, either is chosen by name, one or none can be made it"""
        with self.gateway() as gateway:
            connected(gateway, "notes", Person("work"))
            connected(gateway, "notes", Person("home"), account="home")
            client = caller(gateway, "/mcp/notes", M)
            call = {"tool": "echo", "arguments": {"message": "hi"}}
            said = asked(client, "use_notes", call)
            assert said["structuredContent"]["accountId"] == "work", said
            url = f"{gateway.url}/v1/accounts/notes/work"
            reply = fetch(url, "PUT", {"content-type": "application/json"}, b'{"default":false}')
            assert reply.status == 200, (reply.status, reply.text)
            said = asked(client, "use_notes", call)
            assert said["structuredContent"]["status"] == "account_ambiguous", said
            assert all(f"`{name}`" in said["content"][0]["text"] for name in ("home", "work")), said
            listed = said["structuredContent"]["accounts"]
            assert sorted(row["accountId"] for row in listed) == ["home", "work"], listed
            for name in ("home", "work"):
                said = asked(client, "use_notes", {**call, "accountId": name})
                assert said["structuredContent"]["accountId"] == name, said
            direct = caller(gateway, "/tools/notes", M, headers={"pleiades-account": "home"})
            result = direct.call("echo", {"message": "hi"})
            assert result["_meta"]["pleiades/accountId"] == "home", result
            result = caller(gateway, "/tools/notes", M).call(
                "echo", {"message": "hi"}, {"pleiades/accountId": "work"}
            )
            assert result["_meta"]["pleiades/accountId"] == "work", result
            url = f"{gateway.url}/v1/accounts/notes/home"
            reply = fetch(url, "PUT", {"content-type": "application/json"}, b'{"default":true}')
            assert reply.status in (200, 204), (reply.status, reply.text)
            said = asked(client, "use_notes", call)
            assert said["structuredContent"]["accountId"] == "home", said
            said = asked(client, "use_notes", {**call, "accountId": "third"})
            assert said["structuredContent"]["status"] == "needs_auth", said

    def check_09_revoked(self):
        """a revoked account is gone at the provider and here, and the next call says to connect"""
        with self.gateway() as gateway:
            connected(gateway, "notes", Person("zoe"))
            reply = fetch(f"{gateway.url}/v1/accounts/notes/zoe", "DELETE")
            assert reply.status == 204, (reply.status, reply.text)
            assert json.loads(fetch(f"{gateway.url}/v1/accounts").text)["accounts"] == []
            said = asked(caller(gateway, "/mcp/notes", J), "use_notes", {"tool": "echo"})
            assert said["structuredContent"]["status"] == "needs_auth", said

    def check_10_relay(self):
        """the relay answers 403 with the same data before, and passes bodies through after"""
        with self.gateway() as gateway:
            client = Client(f"{gateway.url}/relay/notes", L)
            try:
                client.connect()
                raise AssertionError("it was let through")
            except RpcError as error:
                assert error.status == 403, error
                assert error.data["connect_url"] and error.data["provider_id"] == "notes", error.data
                assert "www-authenticate" not in client.last.headers
                assert Person("zoe").agree(error.data["connect_url"]).status == 200
            client = Client(f"{gateway.url}/relay/notes", L).connect()
            assert any(tool["name"] == "echo" for tool in client.tools())

    def check_11_others_go_on(self):
        """a provider that needs no credential is not touched by any of it"""
        with Everything() as plain, self.gateway(
            protected("notes", self.server), provider("plain", plain.url)
        ) as gateway:
            gateway.settled("plain")
            client = caller(gateway, "/tools/plain", L)
            assert "hi" in str(client.call("echo", {"message": "hi"}))

    def check_12_restart(self):
        """after a restart the account is still there, and neither file nor log holds a token"""
        first = self.gateway()
        try:
            connected(first, "notes", Person("zoe"))
            tokens = [token for token in self.server.facts()["tokens"] if token]
            for path, content in secrets_of(first.home).items():
                for token in tokens:
                    assert token.encode() not in content, path
            assert not any(token in first.output() for token in tokens)
            first.terminate()
            first.again()
            client = caller(first, "/mcp/notes", M)
            said = asked(client, "use_notes", {"tool": "echo", "arguments": {"message": "hi"}})
            assert said["structuredContent"]["status"] == "ok", said
        finally:
            first.stop()

    def check_13_expires(self):
        """a token that expires is renewed before, once, while calls go on"""
        with Everything() as upstream, Oidc(upstream.url, ttl=4) as server:
            with Gateway(protected("notes", server)) as gateway:
                connected(gateway, "notes", Person("zoe"))
                client = caller(gateway, "/mcp/notes", M)
                call = {"tool": "echo", "arguments": {"message": "hi"}}

                def renewed():
                    said = asked(client, "use_notes", call)
                    assert said["structuredContent"]["status"] == "ok", said
                    return len(server.facts()["redeemed"]) >= 3

                until("three renewals", renewed)
                assert set(server.facts()["redeemed"].values()) == {1}, server.facts()

    def check_14_names(self):
        """a name that no account can have is refused, never taken for none; a long one is kept whole"""
        with self.gateway() as gateway:
            connected(gateway, "notes", Person("zoe"))
            call = {"tool": "echo", "arguments": {"message": "hi"}}
            for wrong in ("x" * 513, "a\nb", ["zoe"]):
                said = asked(caller(gateway, "/mcp/notes", J), "use_notes", {**call, "accountId": wrong})
                if isinstance(said, RpcError):
                    assert said.code == -32602, said
                else:
                    assert said["structuredContent"]["status"] == "invalid_arguments", said
                meta = {"pleiades/accountId": wrong}
                said = asked(caller(gateway, "/tools/notes", J), "echo", {"message": "hi"}, meta)
                assert isinstance(said, RpcError) and said.code == -32602, said
            long = "x" * 300
            connected(gateway, "notes", Person("zoe"), account=long)
            said = asked(caller(gateway, "/mcp/notes", M), "use_notes", {**call, "accountId": long})
            assert said["structuredContent"]["accountId"] == long, said
