"""The nine cells: clients of J, L and M in front of upstreams of J, L and M, in two views."""

import itertools
import json

from mcp import J, L, M, NAMES, Client, RpcError, fetch_events, lines_of
from world import Gateway, Modern, provider, until

REVISIONS = (J, L, M)
FLAGS = {J: ("--only-legacy", J), L: ("--only-legacy", L), M: ("--only-modern",)}
PLAIN = {"echo", "add", "slow", "cancelled", "fail", "list_value", "vendor", "headers", "grow", "region"}
MANY = 23


def checks():
    servers = {r: Modern(*FLAGS[r], "--tools", MANY, "--page", "5") for r in REVISIONS}
    try:
        descriptors = [provider(NAMES[r].lower(), servers[r].url) for r in REVISIONS]
        with Gateway(*descriptors) as gateway:
            for revision in REVISIONS:
                gateway.settled(NAMES[revision].lower())
            for client, upstream in itertools.product(REVISIONS, REVISIONS):
                yield from cell(gateway, client, upstream)
            yield "the union lists the tools of all three upstreams to their last page", (
                lambda: union(gateway)
            )
    finally:
        for server in servers.values():
            server.stop()


def cell(gateway, revision, upstream):
    name = NAMES[upstream].lower()
    cell_name = f"{NAMES[revision]} client, {NAMES[upstream]} upstream"

    def open_(view):
        return Client(f"{gateway.url}/{view}/{name}", revision).connect()

    def hands():
        client = open_("tools")
        if revision == M:
            assert M in client.server["supportedVersions"], client.server
        else:
            assert client.server["protocolVersion"] == revision, client.server

    def lists():
        names = [tool["name"] for tool in open_("tools").tools()]
        assert PLAIN <= set(names), names
        assert sum(one.startswith("many_") for one in names) == MANY, names
        assert len(names) == len(set(names)), names

    def calls():
        client = open_("tools")
        assert client.call("echo", {"message": "hi"})["content"][0]["text"] == "hi"
        assert client.call("add", {"a": 2, "b": 3})["structuredContent"] == {"sum": 5.0}
        assert client.call("fail")["isError"] is True
        try:
            answer = client.call("no_such_tool")
            assert answer["isError"], answer
        except RpcError as refusal:
            assert refusal.code == -32602, refusal

    def envelope():
        result = open_("tools").call("echo", {"message": "hi"})
        assert ("resultType" in result) == (revision == M), result
        page = open_("tools").request("tools/list")
        for field in ("ttlMs", "cacheScope", "resultType"):
            assert (field in page) == (revision == M), page.keys()

    def unknown_fields():
        client = open_("tools")
        result = client.call("vendor")
        assert result["vendorResult"] == {"kept": [1, 2.5, "x"]}, result
        assert result["content"][0]["vendorBlock"] == 7, result
        assert result["_meta"]["vendor.example/trace"] == "kept", result
        listed = {tool["name"]: tool for tool in client.tools()}
        assert listed["echo"]["vendorField"] == {"kept": True}, listed["echo"]
        assert listed["echo"]["_meta"]["vendor.example/tool"] == "echo", listed["echo"]

    def structured():
        result = open_("tools").call("list_value")
        assert result["content"][0]["text"] == "[1,2,3]", result
        if revision == M:
            assert result["structuredContent"] == [1, 2, 3], result
        else:
            assert "structuredContent" not in result, result

    def mirrored():
        client = open_("tools")
        header = {"mcp-param-region": "eu"} if revision == M else {}
        params = {"name": "region", "arguments": {"region": "eu"}}
        result = client.request("tools/call", params, header)
        assert result["structuredContent"] == {"region": "eu"}, result

    def meta():
        client = open_("mcp")
        tools = client.tools()
        assert [tool["name"] for tool in tools] == [f"use_{name}"], tools
        enum = tools[0]["inputSchema"]["properties"]["tool"]["enum"]
        assert PLAIN <= set(enum) and "many_22" in enum, enum
        tool = f"use_{name}"
        result = client.call(tool, {"tool": "echo", "arguments": {"message": "hi"}})
        assert result["structuredContent"]["status"] == "ok", result
        assert result["content"][0]["text"] == "hi", result
        result = client.call(tool, {"tool": "add", "arguments": {"a": 2, "b": 3}})
        assert result["structuredContent"]["data"] == {"sum": 5.0}, result
        result = client.call(tool, {"tool": "region", "arguments": {"region": "eu"}})
        assert result["structuredContent"]["data"] == {"region": "eu"}, result

    def asks_for_schema():
        result = open_("mcp").call(f"use_{name}", {"tool": "add"})
        assert result["structuredContent"]["status"] == "schema", result
        assert not result.get("isError"), result

    def wrong_calls():
        client = open_("mcp")
        wrong = client.call(f"use_{name}", {"tool": "ecko", "arguments": {}})
        assert wrong["isError"] and wrong["structuredContent"]["status"] == "unknown_tool", wrong
        wrong = client.call(f"use_{name}", {"tool": "add", "arguments": {"a": "two"}})
        assert wrong["isError"] and wrong["structuredContent"]["status"] == "invalid_arguments", wrong

    def resources(view):
        client = open_(view)
        uris = [r["uri"] for r in client.every("resources/list", "resources")]
        assert uris == ["memo://greeting", "memo://farewell"], uris
        templates = client.every("resources/templates/list", "resourceTemplates")
        assert [t["uriTemplate"] for t in templates] == ["memo://page/{number}"], templates
        for uri in ("memo://greeting", "memo://page/7"):
            contents = client.request("resources/read", {"uri": uri})["contents"]
            assert contents[0]["text"] == f"memo of {uri}", contents
        try:
            client.request("resources/read", {"uri": "other://x"})
            raise AssertionError("a resource that is not there was read")
        except RpcError as refusal:
            assert refusal.code == (-32602 if revision == M else -32002), refusal

    def prompts(view):
        client = open_(view)
        assert [p["name"] for p in client.every("prompts/list", "prompts")] == ["greet"]
        got = client.request("prompts/get", {"name": "greet", "arguments": {"who": "Ada"}})
        assert got["messages"][0]["content"]["text"] == "Say hello to Ada.", got

    def completion(view):
        params = {
            "ref": {"type": "ref/prompt", "name": "greet"},
            "argument": {"name": "who", "value": "a"},
        }
        got = open_(view).request("completion/complete", params)
        assert got["completion"]["values"] == ["ada", "alan"], got

    def progress():
        client = open_("tools")
        client.call("slow", {"steps": 2}, meta={"progressToken": "mine"})
        steps = [n["params"] for n in client.notifications if n["method"] == "notifications/progress"]
        assert [step["progressToken"] for step in steps] == ["mine"] * len(steps), steps
        assert [step["progress"] for step in steps] == [1.0, 2.0], steps

    def cancelled():
        """M cancels by closing its stream, the older ones by saying so."""
        client = open_("tools")
        count = client.call("cancelled")["structuredContent"]["count"]
        abandoned = client.begin("tools/call", {"name": "slow", "arguments": {"steps": 1000}})
        until("the call to run", lambda: gateway.inflight(name))
        if revision == M:
            abandoned.close()
        else:
            client.notify("notifications/cancelled", {"requestId": abandoned.number})
        until(
            "the upstream to hear of it",
            lambda: client.call("cancelled")["structuredContent"]["count"] > count,
        )
        abandoned.close()

    def fetched():
        """The client leaves while the call runs, and comes back for its answer."""
        client = open_("tools")
        client.headers["accept"] = "text/event-stream, application/json"
        abandoned = client.begin("tools/call", {"name": "slow", "arguments": {"steps": 10}})
        lines = (line.decode().strip() for line in lines_of(abandoned.getresponse()))
        event = next(line.removeprefix("id: ") for line in lines if line.startswith("id: "))
        abandoned.close()
        _, headers = client.envelope("", {})
        headers.update({"accept": "text/event-stream", "last-event-id": event})
        for _ in range(2):
            answers = [json.loads(text) for text in fetch_events(client, headers)]
            assert [answer["id"] for answer in answers] == [abandoned.number], answers
            assert answers[0]["result"]["content"][0]["text"] == "done", answers

    yield f"{cell_name}: each negotiates its own revision", hands
    yield f"{cell_name}: tools are listed to the last page", lists
    yield f"{cell_name}: tools are called", calls
    yield f"{cell_name}: results bear the client's envelope, not the upstream's", envelope
    yield f"{cell_name}: unknown fields of results and tools survive", unknown_fields
    if upstream == M:
        yield f"{cell_name}: structured content that is no object is fitted to the client", structured
    yield f"{cell_name}: an argument mirrored into a header reaches the upstream", mirrored
    yield f"{cell_name}: the meta tool lists, calls and returns data", meta
    yield f"{cell_name}: the meta tool returns the schema of an operation", asks_for_schema
    yield f"{cell_name}: a wrong meta call says what is wrong", wrong_calls
    for view in ("tools", "mcp"):
        yield f"{cell_name}: resources and templates at /{view}", lambda view=view: resources(view)
        yield f"{cell_name}: prompts at /{view}", lambda view=view: prompts(view)
        yield f"{cell_name}: completion at /{view}", lambda view=view: completion(view)
    if revision == L:
        yield f"{cell_name}: an answer whose stream broke is fetched by the id it began with", fetched
    if revision == upstream:
        yield f"{cell_name}: progress reaches the caller under its own token", progress
        yield f"{cell_name}: a cancelled call is cancelled upstream", cancelled


def union(gateway):
    for revision in REVISIONS:
        names = {tool["name"] for tool in Client(f"{gateway.url}/tools", revision).connect().tools()}
        for prefix in "jlm":
            assert f"{prefix}__many_{MANY - 1}" in names, (revision, prefix, len(names))
