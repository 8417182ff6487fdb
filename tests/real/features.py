"""The rows of the table of cells: what works in each, and what happens in those where nothing can.

A row is a function of one cell that raises when the feature does not work there. `Row.where` says in
which cells docs/CELLS.md allows it; in the others `Row.otherwise` is run, and the reason is one of `NOTES`.
"""

from cell import Said, refused
from mcp import J, M, META, RpcError, events, fetch, lines_of
from world import until

# Why a cell allows nothing. `docs/CELLS.md` shows the same sentences under the same numbers.
NOTES = {
    1: "2026-07-28 has no sessions, no `ping` and no `logging/setLevel`: a client of it cannot use them, "
    "and is told that there is no such method (`DELETE` is 405).",
    2: "Sampling and roots are not bridged between the generations: they are deprecated, and the provider "
    "is not told that it may ask. One that needs them fails its call at once.",
    3: "Log messages are not bridged between the generations: nothing of logging is declared to the client.",
    4: "2025-06-18 has no elicitation by URL: a provider of it cannot ask so, and none is told that a client "
    "of it can be asked. One that asks anyway is declined at once; where an error names the address (-32042), "
    "the client reads it in a failed result.",
    5: "Only 2025-11-25 has the error -32042; providers of the other revisions cannot answer with it.",
    6: "Streams of 2026-07-28 cannot be resumed; such a provider never asks for it.",
    7: "Caching hints and `resultType` came with 2026-07-28; older clients are shown neither.",
    8: "Only 2026-07-28 has results and schemas that are no objects, and arguments mirrored into headers.",
    9: "Icons came with 2025-11-25, so a provider of 2025-06-18 has none to fit.",
}


class Row:
    """One feature: its name, the check, the cells that allow it, and the views that show it."""

    def __init__(self, name, check, where=None, note=None, otherwise=None, views=("tools", "mcp")):
        self.name, self.check, self.note, self.views = name, check, note, views
        self.where = where or (lambda cell: True)
        self.otherwise = otherwise or (lambda cell: None)

    def note_of(self, cell):
        return self.note(cell) if callable(self.note) else self.note

    def run(self, cell):
        (self.check if self.where(cell) else self.otherwise)(cell)


def tools(cell):
    client = cell.open()
    listed = {tool["name"]: tool for tool in client.tools()}
    if cell.is_meta:
        names = listed[f"use_{cell.name}"]["inputSchema"]["properties"]["tool"]["enum"]
    else:
        names = listed
    assert {"test_simple_text", "cell_wait"} <= set(names), names
    assert cell.call(client, "test_simple_text").text == "This is a simple text response for testing."
    assert cell.call(client, "test_error_handling").failed


def content(cell):
    client = cell.open()
    kinds = {"test_image_content": "image", "test_audio_content": "audio"}
    kinds["test_embedded_resource"] = "resource"
    for tool, kind in kinds.items():
        said = cell.call(client, tool)
        assert kind in [block["type"] for block in said.result["content"]], said


def negotiation(cell):
    client = cell.open()
    if cell.client == M:
        assert M in client.server["supportedVersions"], client.server
    else:
        assert client.server["protocolVersion"] == cell.client, client.server


def resources(cell):
    client = cell.open()
    listed = {resource["uri"] for resource in client.every("resources/list", "resources")}
    assert {"test://static-text", "test://static-binary"} <= listed, listed
    read = client.request("resources/read", {"uri": "test://static-text"})["contents"][0]
    assert read["text"].startswith("This is the content") and read["uri"] == "test://static-text", read
    assert client.request("resources/read", {"uri": "test://static-binary"})["contents"][0]["blob"]


def templates(cell):
    client = cell.open()
    listed = [one["uriTemplate"] for one in client.every("resources/templates/list", "resourceTemplates")]
    assert listed == ["test://template/{id}/data"], listed
    read = client.request("resources/read", {"uri": "test://template/7/data"})["contents"][0]
    assert '"7"' in read["text"], read


def prompts(cell):
    client = cell.open()
    listed = {prompt["name"] for prompt in client.every("prompts/list", "prompts")}
    assert {"test_simple_prompt", "test_prompt_with_arguments"} <= listed, listed
    params = {"name": "test_prompt_with_arguments", "arguments": {"arg1": "a", "arg2": "b"}}
    got = client.request("prompts/get", params)["messages"][0]["content"]["text"]
    assert got == "Prompt with arguments: arg1='a', arg2='b'", got


def completion(cell):
    client = cell.open()
    for ref in (
        {"type": "ref/prompt", "name": "test_prompt_with_arguments"},
        {"type": "ref/resource", "uri": "test://template/{id}/data"},
    ):
        params = {"ref": ref, "argument": {"name": "arg1", "value": "par"}}
        values = client.request("completion/complete", params)["completion"]["values"]
        assert values == ["paris", "park", "party"], values


def progress(cell):
    client = cell.open()
    cell.call(client, "cell_wait", {"steps": 3}, {"progressToken": "mine"})
    told = [it["params"] for it in client.notifications if it["method"] == "notifications/progress"]
    assert [it["progressToken"] for it in told] == ["mine"] * 3, client.notifications
    assert [it["progress"] for it in told] == [1, 2, 3], told


def cancellation(cell):
    """M cancels by closing its stream, the older ones by saying so."""
    client = cell.open()
    before = cell.counts(client)["cancelled"]
    params = cell.params("cell_wait", {"steps": 1_000_000}, {"progressToken": "mine"})
    running = client.begin("tools/call", params)
    # Its first progress says that the provider is at work.
    next(events(lines_of(running.getresponse())))
    if cell.client == M:
        running.close()
    else:
        client.notify("notifications/cancelled", {"requestId": running.number})
    until("the provider to hear of it", lambda: cell.counts(client)["cancelled"] == before + 1)
    running.close()
    until("the call to end", lambda: not cell.gateway.inflight(cell.name))


def ping(cell):
    assert cell.open().request("ping") == {}


def no_method(method):
    return lambda cell: refused(lambda: cell.open().request(method), -32601)


def sessions(cell):
    client = cell.open()
    assert client.session, "no session was opened"
    ending = {"mcp-session-id": client.session, "mcp-protocol-version": cell.client}
    assert delete(client, ending) == 204
    try:
        raise AssertionError(f"an ended session was served: {client.tools()}")
    except RpcError as refusal:
        assert refusal.status == 404, refusal
    assert delete(client, ending) == 404


def no_sessions(cell):
    client = cell.open()
    assert client.session is None and delete(client, {}) == 405


def delete(client, headers):
    return fetch(client.url, "DELETE", headers).status


def log_messages(client):
    told = [it["params"] for it in client.notifications if it["method"] == "notifications/message"]
    return [it["data"] for it in told]


def logging(cell):
    """At the level that was asked for, and nothing below another."""
    client = cell.open()
    capabilities = client.server["capabilities"]
    assert "logging" in capabilities or cell.client == M, capabilities
    level = {META + "logLevel": "info"} if cell.client == M else None
    if level is None:
        assert client.request("logging/setLevel", {"level": "info"}) == {}
    cell.call(client, "test_tool_with_logging", meta=level)
    assert log_messages(client)[:1] == ["Tool execution started"], client.notifications
    assert len(log_messages(client)) == 3, client.notifications
    client.notifications.clear()
    if level is None:
        client.request("logging/setLevel", {"level": "error"})
    cell.call(client, "test_tool_with_logging", meta=level and {META + "logLevel": "error"})
    assert not log_messages(client), client.notifications


def no_logging(cell):
    client = cell.open()
    assert "logging" not in client.server["capabilities"], client.server
    level = {META + "logLevel": "debug"} if cell.client == M else None
    assert not cell.call(client, "test_tool_with_logging", meta=level).failed
    assert not log_messages(client), client.notifications


def set_level(cell):
    client = cell.open()
    assert client.request("logging/setLevel", {"level": "warning"}) == {}
    refused(lambda: client.request("logging/setLevel", {"level": "loud"}), -32602)


def subscription(cell):
    watched, client = "test://watched-resource", cell.open()
    assert client.server["capabilities"]["resources"].get("subscribe"), client.server
    stream = client.listen((), [watched])
    try:
        if cell.client == M:
            honoured = stream.wait_for("notifications/subscriptions/acknowledged")
            assert honoured["params"]["notifications"]["resourceSubscriptions"] == [watched], honoured
        else:
            client.request("resources/subscribe", {"uri": watched})
        told = wait_for_update(cell, stream, watched)
        assert told["params"]["uri"] == watched, told
        assert (META + "subscriptionId" in told["params"].get("_meta", {})) == (cell.client == M), told
        if cell.client != M:
            client.request("resources/unsubscribe", {"uri": watched})
    finally:
        stream.close()


def wait_for_update(cell, stream, uri):
    """The line to the provider opens beside the request, so the change is made until it is heard."""
    other, method = cell.open(), "notifications/resources/updated"

    def heard():
        cell.call(other, "test_trigger_resource_update", {"uri": uri})
        return stream.soon(method)

    return until("the update to arrive", heard)


def tool_list_changes(cell):
    client = cell.open()
    stream = client.listen(("toolsListChanged",))
    try:
        if cell.client == M:
            stream.wait_for("notifications/subscriptions/acknowledged")
        before = "test_dynamic_tool" in str(client.tools())
        cell.call(client, "test_trigger_tool_change")
        stream.wait_for("notifications/tools/list_changed")
        until("the new list", lambda: ("test_dynamic_tool" in str(client.tools())) != before)
    finally:
        stream.close()


def prompt_list_changes(cell):
    client = cell.open()
    stream = client.listen(("promptsListChanged",))

    def listed():
        return "test_dynamic_prompt" in str(client.every("prompts/list", "prompts"))

    try:
        if cell.client == M:
            stream.wait_for("notifications/subscriptions/acknowledged")
        before = listed()
        cell.call(client, "test_trigger_prompt_change")
        stream.wait_for("notifications/prompts/list_changed")
        until("the new list", lambda: listed() != before)
    finally:
        stream.close()


LISTS = ("tools/list", "prompts/list", "resources/list", "resources/templates/list")


def hinted(client):
    yield from ((method, client.request(method)) for method in LISTS)
    yield "resources/read", client.request("resources/read", {"uri": "test://static-text"})


def hints(cell):
    client = cell.open()
    for method, result in [("server/discover", client.server), *hinted(client)]:
        assert isinstance(result["ttlMs"], int) and result["ttlMs"] >= 0, (method, result)
        assert result["cacheScope"] in ("public", "private"), (method, result)


def no_hints(cell):
    for method, result in hinted(cell.open()):
        assert not {"ttlMs", "cacheScope"} & set(result), (method, result.keys())


def kind_of_result(cell):
    client = cell.open()
    assert cell.call(client, "test_simple_text").result["resultType"] == "complete"
    assert all(result["resultType"] == "complete" for _, result in hinted(client))


def no_kind_of_result(cell):
    client = cell.open()
    assert "resultType" not in cell.call(client, "test_simple_text").result
    assert not any("resultType" in result for _, result in hinted(client))


def values(cell):
    """M shows a list as it is, older clients its text; a tool's schema likewise."""
    client = cell.open()
    said = cell.call(client, "cell_values")
    if cell.is_meta:
        assert said.data == [1, 2, 3], said
        return
    assert said.text == "[1,2,3]", said
    assert said.result.get("structuredContent") == ([1, 2, 3] if cell.client == M else None), said
    tool = next(tool for tool in client.tools() if tool["name"] == "cell_values")
    assert ("outputSchema" in tool) == (cell.client == M), tool


def icons(cell):
    client = cell.open()
    tool = next(tool for tool in client.tools() if tool["name"] == "cell_values")
    assert ("icons" in tool) == (cell.client != J), tool
    blocks = cell.call(client, "cell_values").result["content"]
    link = next(block for block in blocks if block["type"] == "resource_link")
    assert ("icons" in link) == (cell.client != J), link


def mirrored(cell):
    client, header = cell.open(), {}
    if cell.client == M and not cell.is_meta:
        header = {"mcp-param-region": "eu"}
    params = cell.params("test_region_header", {"region": "eu"})
    said = Said(client.request("tools/call", params, header), cell.is_meta)
    assert said.text == "The region is eu.", said


def errors(cell):
    client = cell.open()
    missing = -32602 if cell.client == M else -32002
    refusal = refused(lambda: client.request("resources/read", {"uri": "test://nothing"}), missing)
    assert refusal.data == {"uri": "test://nothing"}, refusal.data
    refused(lambda: client.request("prompts/get", {"name": "no_such_prompt"}), -32602)
    refused(lambda: client.request("no/such/method"), -32601)
    if cell.is_meta:
        said = cell.call(client, "no_such_tool")
        assert said.failed and said.status == "unknown_tool", said
        refused(lambda: client.request("tools/call", {"name": "no_such_tool"}), -32602)
    else:
        refused(lambda: cell.call(client, "no_such_tool"), -32602)


def polled(cell):
    assert cell.call(cell.open(), "test_reconnection").text == "You came back for this."


def legacy(cell):
    return cell.client != M


ROWS = [
    Row("each negotiates its own revision", negotiation),
    Row("tools", tools),
    Row("content of every kind", content),
    Row("resources", resources),
    Row("resource templates", templates),
    Row("prompts", prompts),
    Row("completion", completion),
    Row("progress", progress),
    Row("cancellation reaches the provider", cancellation),
    Row("error codes", errors),
    Row("resource subscription and updates", subscription),
    Row("`tools/list_changed`", tool_list_changes),
    Row("`prompts/list_changed`", prompt_list_changes),
    Row("streams of the provider that are resumed", polled, lambda cell: cell.upstream != M, 6, polled),
    Row("log messages", logging, lambda cell: cell.same_era, 3, no_logging),
    Row(
        "`logging/setLevel`",
        set_level,
        lambda cell: legacy(cell) and cell.upstream != M,
        lambda cell: 1 if cell.client == M else 3,
        no_method("logging/setLevel"),
    ),
    Row("`ping`", ping, legacy, 1, no_method("ping")),
    Row("sessions that end", sessions, legacy, 1, no_sessions),
    Row("caching hints", hints, lambda cell: cell.client == M, 7, no_hints),
    Row("`resultType`", kind_of_result, lambda cell: cell.client == M, 7, no_kind_of_result),
    Row("values that are no objects", values, lambda cell: cell.upstream == M, 8),
    Row("arguments mirrored into headers", mirrored, lambda cell: cell.upstream == M, 8, mirrored),
    Row("icons", icons, lambda cell: cell.upstream != J, 9, views=("tools",)),
]
