"""Defects that other gateways are known for, as claims about this one."""

import hashlib
import json
import socket

from mcp import J, L, M, NAMES, Client, fetch
from world import Everything, Gateway, Modern, free_port, metric, provider, until

KEY = "callers-own-key"
CREDENTIALS = {
    "authorization": f"Bearer {KEY}",
    "x-api-key": KEY,
    "cookie": "session=callers-own-cookie",
    "proxy-authorization": "Basic callers-own-proxy",
    "x-forwarded-user": "callers-own-user",
}
VIEWS = ("tools", "mcp", "relay")


def call(client, view, name, tool, arguments=None):
    """The text of a tool's answer, whichever the view."""
    arguments = arguments or {}
    if view == "mcp":
        result = client.call(f"use_{name}", {"tool": tool, "arguments": arguments})
    else:
        result = client.call(tool, arguments)
    assert not result.get("isError"), result
    return result["content"][0]["text"]


def checks():
    yield from expired()
    yield from dead()
    yield from leaks()


def expired():
    """The upstream restarts between two calls of one session of ours."""
    with Modern("--only-legacy", L) as first, Everything() as second:
        with Gateway(provider("sdk", first.url), provider("everything", second.url)) as gateway:
            gateway.settled("sdk")
            gateway.settled("everything")
            clients = {}
            for revision in (J, L, M):
                for name in ("sdk", "everything"):
                    for view in ("tools", "mcp"):
                        client = Client(f"{gateway.url}/{view}/{name}", revision).connect()
                        assert "hi" in call(client, view, name, "echo", {"message": "hi"})
                        clients[revision, name, view] = client
            first.terminate()
            second.terminate()
            with Modern("--only-legacy", L, port=first.port), Everything(second.port):
                for (revision, name, view), client in clients.items():
                    yield (
                        f"a client of {NAMES[revision]} at /{view}/{name} calls on after its upstream"
                        " forgot every session",
                        lambda client=client, view=view, name=name: again(client, view, name),
                    )


def again(client, view, name):
    assert "hi" in call(client, view, name, "echo", {"message": "hi"})


def dead():
    """One provider refuses connections, one accepts and never answers; the third is well."""
    hanging = socket.socket()
    hanging.bind(("127.0.0.1", 0))
    hanging.listen(64)
    soon = {"timeouts": {"connect": "1s", "call": "2s"}}
    well = Modern()
    try:
        descriptors = [
            provider("well", well.url),
            provider("refusing", f"http://127.0.0.1:{free_port()}/mcp", upstream=soon),
            provider("hanging", f"http://127.0.0.1:{hanging.getsockname()[1]}/mcp", upstream=soon),
            provider("missing", command=["/no/such/program"], upstream=soon),
        ]
        with Gateway(*descriptors) as gateway:
            gateway.settled("well")

            def lists(revision):
                client = Client(f"{gateway.url}/tools", revision).connect()
                names = [tool["name"] for tool in client.tools()]
                assert "well__echo" in names, names
                assert client.call("well__echo", {"message": "hi"})["content"][0]["text"] == "hi"
                names = [t["name"] for t in Client(f"{gateway.url}/mcp", revision).connect().tools()]
                assert "use_well" in names, names

            def other_lists(revision):
                for view in ("tools", "mcp"):
                    client = Client(f"{gateway.url}/{view}", revision).connect()
                    assert client.every("prompts/list", "prompts"), view
                    assert client.every("resources/list", "resources"), view

            def said(name):
                client = Client(f"{gateway.url}/mcp/{name}", M)
                client.connect()
                result = client.call(f"use_{name}", {"tool": "echo", "arguments": {}})
                assert result["isError"], result
                assert result["structuredContent"]["status"] in ("upstream_error", "timeout"), result
                assert "127.0.0.1" not in json.dumps(result), result

            def seen():
                for name in ("refusing", "hanging", "missing"):
                    row = gateway.settled(name, "unreachable")
                    assert row.get("reason"), row
                text = fetch(f"{gateway.admin}/metrics").text
                assert metric(text, "pleiades_providers", state="unreachable") == 3, text

            for revision in (J, L, M):
                name = NAMES[revision]
                yield f"dead providers leave the tools of the others to a client of {name}", (
                    lambda revision=revision: lists(revision)
                )
                yield f"dead providers leave prompts and resources to a client of {name}", (
                    lambda revision=revision: other_lists(revision)
                )
            for name in ("refusing", "hanging", "missing"):
                yield f"a call of the {name} provider says so and no address", (
                    lambda name=name: said(name)
                )
            yield "dead providers are unreachable with a reason in /providers and the metrics", seen
    finally:
        well.stop()
        hanging.close()


def leaks():
    """The upstream tells which headers it saw."""
    with Modern() as upstream:
        keyed = provider("keyed", upstream.url)
        keyed["auth"] = {"api_key": {"header": "Authorization", "prefix": "Bearer ", "value": "ours"}}
        own = provider("own", upstream.url)
        own["auth"] = {"client_key": {"headers": ["x-own-key"], "forward_as": "X-Service-Key"}}
        plain = provider("plain", upstream.url, upstream={"headers": {"X-Org": "acme"}})
        digest = hashlib.sha256(KEY.encode()).hexdigest()
        known = {"name": "me", "tenant": "acme", "user": "me", "sha256": digest}
        with Gateway(plain, keyed, own, settings={"access": {"api_keys": [known]}}) as gateway:
            for name in ("plain", "keyed"):
                gateway.settled(name)

            def upstream_saw(view, name, revision, headers):
                client = Client(f"{gateway.url}/{view}/{name}", revision, headers).connect()
                return json.loads(call(client, view, name, "headers"))

            def clean(view, revision):
                saw = upstream_saw(view, "plain", revision, {**CREDENTIALS, "x-own-key": "mine"})
                assert "callers-own" not in json.dumps(saw), saw
                assert "mine" not in saw.values() and saw["x-org"] == "acme", saw

            def signed(view, revision):
                saw = upstream_saw(view, "keyed", revision, {**CREDENTIALS, "x-own-key": "mine"})
                assert saw["authorization"] == "Bearer ours", saw
                assert "callers-own" not in json.dumps(saw) and "mine" not in saw.values(), saw

            def brought(view, revision):
                saw = upstream_saw(view, "own", revision, {**CREDENTIALS, "x-own-key": "mine"})
                assert saw["x-service-key"] == "mine", saw
                assert "x-own-key" not in saw and "callers-own" not in json.dumps(saw), saw

            def asked():
                client = Client(f"{gateway.url}/mcp/own", M, {"x-api-key": KEY}).connect()
                result = client.call("use_own", {"tool": "headers", "arguments": {}})
                assert result["isError"], result
                assert "x-own-key" in result["content"][0]["text"].lower(), result

            def never_logged():
                written = gateway.output() + fetch(f"{gateway.admin}/metrics").text
                written += fetch(f"{gateway.admin}/providers").text
                for secret in ("callers-own", "mine\"", "Bearer ours"):
                    assert secret not in written, f"{secret} was written"

            for view in VIEWS:
                for revision in (J, M):
                    at = f"at /{view} for a client of {NAMES[revision]}"
                    yield f"no credential of the caller reaches the upstream {at}", (
                        lambda view=view, revision=revision: clean(view, revision)
                    )
                    yield f"the descriptor's key replaces the caller's {at}", (
                        lambda view=view, revision=revision: signed(view, revision)
                    )
                    yield f"a brought key reaches its own provider alone {at}", (
                        lambda view=view, revision=revision: brought(view, revision)
                    )
            yield "a missing key is asked for by the name of its header", asked
            yield "no credential stands in log, metrics or status", never_logged
