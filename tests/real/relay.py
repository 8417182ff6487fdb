"""The relay: the provider's own endpoint for clients of an era it speaks, and a clear word for others."""

import http.client
import json

from mcp import J, L, M, NAMES, Client, RpcError, fetch
from world import Gateway, Modern, free_port, provider

FLAGS = {J: ("--only-legacy", J), L: ("--only-legacy", L), M: ("--only-modern",)}


def checks():
    servers = {revision: Modern(*FLAGS[revision]) for revision in (J, L, M)}
    both = Modern()
    try:
        descriptors = [provider(NAMES[r].lower(), servers[r].url) for r in servers]
        descriptors.append(provider("both", both.url))
        descriptors.append(provider("other", both.url))
        descriptors.append(provider("dead", f"http://127.0.0.1:{free_port()}/mcp"))
        strict = provider("ruled", both.url, tools={"deny": ["fail"]})
        with Gateway(*descriptors, strict) as gateway:
            for name in ("j", "l", "m", "both", "other", "ruled"):
                gateway.settled(name)
            for revision in (J, L, M):
                yield from equal(gateway, revision)
            yield from unequal(gateway, servers)
            yield from edges(gateway)
    finally:
        for server in (*servers.values(), both):
            server.stop()


def equal(gateway, revision):
    name = NAMES[revision]

    def works(provider_id):
        client = Client(f"{gateway.url}/relay/{provider_id}", revision).connect()
        assert "echo" in [tool["name"] for tool in client.tools()]
        assert client.call("echo", {"message": "hi"})["content"][0]["text"] == "hi"
        result = client.call("vendor")
        assert result["vendorResult"] == {"kept": [1, 2.5, "x"]}, result
        client.call("slow", {"steps": 2}, meta={"progressToken": "mine"})
        assert len(client.notifications) >= 2, client.notifications

    def sealed():
        client = Client(f"{gateway.url}/relay/both", revision).connect()
        upstream = client.call("headers")["structuredContent"].get("mcp-session-id")
        assert upstream and client.session and upstream != client.session
        stranger = Client(f"{gateway.url}/relay/other", revision)
        stranger.session = client.session
        refused(404, lambda: stranger.request("tools/list"))
        client.session = client.session[:-2] + ("AA" if client.session[-2:] != "AA" else "BB")
        refused(404, lambda: client.request("tools/list"))

    def hears():
        client = Client(f"{gateway.url}/relay/both", revision).connect()
        stream = client.listen()
        client.call("grow")
        stream.wait_for("notifications/tools/list_changed")
        stream.close()

    yield f"a client of {name} works through the relay to a server of {name}", (
        lambda: works(name.lower())
    )
    yield f"a client of {name} works through the relay to a server of all", lambda: works("both")
    yield f"a client of {name} hears through the relay that the list changed", hears
    if revision != M:
        yield f"a session of {name} is sealed to its provider", sealed


def refused(status, request):
    try:
        request()
    except RpcError as refusal:
        assert refusal.status == status, refusal
        return refusal
    raise AssertionError(f"it was not refused with {status}")


def unequal(gateway, servers):
    def told(revision, upstream):
        client = Client(f"{gateway.url}/relay/{NAMES[upstream].lower()}", revision)
        refusal = refused(400, client.connect)
        assert refusal.code == -32022, refusal
        assert upstream in refusal.data["supported"], refusal.data
        assert client.last.messages[0]["id"] == 1, client.last.messages

    for revision, upstream in ((J, M), (L, M), (M, J), (M, L)):
        yield (
            f"the relay tells a client of {NAMES[revision]} what a server of {NAMES[upstream]} speaks",
            lambda revision=revision, upstream=upstream: told(revision, upstream),
        )


def edges(gateway):
    def below():
        client = Client(f"{gateway.url}/relay/both/more", J)
        refused(404, client.connect)
        assert fetch(f"{gateway.url}/relay/nobody", "POST", {"content-type": "application/json"}).status == 404

    def dead():
        for revision in (J, M):
            client = Client(f"{gateway.url}/relay/dead", revision)
            try:
                client.connect()
                raise AssertionError("a dead server answered")
            except RpcError as refusal:
                assert refusal.status in (502, 504) and refusal.code is not None, refusal
            assert "127.0.0.1" not in json.dumps(client.last.messages), client.last.messages

    def ruled():
        client = Client(f"{gateway.url}/relay/ruled", J)
        try:
            client.connect()
            raise AssertionError("rules on tools cannot hold on the relay, yet it exists")
        except RpcError as refusal:
            assert refusal.status in (403, 404), refusal

    def large():
        client = Client(f"{gateway.url}/relay/both", J).connect()
        message = "x" * 1_000_000
        assert client.call("echo", {"message": message})["content"][0]["text"] == message

    def too_large():
        port = int(gateway.url.rsplit(":", 1)[1])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        headers = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
        connection.putrequest("POST", "/relay/both")
        for name, value in {**headers, "content-length": str(9 << 20)}.items():
            connection.putheader(name, value)
        connection.endheaders(b"{")
        assert connection.getresponse().status == 413
        connection.close()

    yield "a path below a relay, and the relay of nobody, are 404", below
    yield "a dead server is 502 or 504 with a JSON-RPC error that names no address", dead
    yield "a provider with rules on tools has no relay", ruled
    yield "a message of a megabyte passes the relay", large
    yield "a body over the limit is 413", too_large
