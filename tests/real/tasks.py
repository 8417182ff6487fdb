"""Tools that only run as tasks, for clients of every revision in both views, and the tasks extension in
the tool view. The providers: a peer of our own that notes what it is asked (`tasks_peer.py`), the
official server-everything (experimental tasks of 2025-11-25), and our conformance server on rmcp.
"""

import contextlib
import itertools

from mcp import J, L, M, META, NAMES, Client, RpcError
from tasks_peer import EXTENSION, RELATED, Peer
from world import Conformance, Everything, Gateway, everything_stdio, provider, until

ELICITS = {J: {"elicitation": {}}, L: {"elicitation": {"form": {}}}, M: {"elicitation": {"form": {}}}}
NAMED = ("ownl", "ownm", "rmcp", "official", "process")
TENDS = {**ELICITS[M], "extensions": {EXTENSION: {}}}


class Person(Client):
    """A client whose user answers each question with the same topic."""

    answers = {"topic": "crystals"}

    def heard(self, message):
        if "method" in message and "id" in message:
            assert message["method"] == "elicitation/create", message
            assert RELATED not in message["params"].get("_meta", {}), message
            self.asked = message["params"]
            _, headers = self.envelope("response", {})
            headers.pop("mcp-method", None)
            said = {"action": "accept", "content": self.answers}
            reply = self.post({"jsonrpc": "2.0", "id": message["id"], "result": said}, headers)
            assert reply.status == 202, (reply.status, reply.text)

    def run(self, name, arguments, meta=None):
        """Calls a tool in as many rounds as it takes."""
        params = {"name": name, "arguments": arguments, **({"_meta": meta} if meta else {})}
        while True:
            result = self.request("tools/call", params)
            if result.get("resultType") != "input_required":
                return result
            self.asked = next(iter(result["inputRequests"].values()))["params"]
            said = {"action": "accept", "content": self.answers}
            params["inputResponses"] = dict.fromkeys(result["inputRequests"], said)
            if "requestState" in result:
                params["requestState"] = result["requestState"]


def checks():
    with contextlib.ExitStack() as stack:
        peers = {revision: stack.enter_context(Peer(revision)) for revision in (L, M)}
        rmcp, official = stack.enter_context(Conformance()), stack.enter_context(Everything())
        descriptors = [provider(f"own{NAMES[r].lower()}", peers[r].url) for r in (L, M)]
        descriptors += [provider("rmcp", rmcp.url), provider("official", official.url)]
        descriptors += [everything_stdio("process")]
        keyed = {"headers": ["x-key"], "forward_as": "X-Key"}
        descriptors += [{"id": "keyed", "upstream": {"url": peers[M].url}, "auth": {"client_key": keyed}}]
        gateway = stack.enter_context(Gateway(*descriptors))
        other = stack.enter_context(
            Gateway(*descriptors, settings={"access": {"local": {"tenant": "local", "user": "other"}}})
        )
        twin = stack.enter_context(Gateway(*descriptors))
        for one, name in itertools.product((gateway, other, twin), NAMED):
            one.settled(name)
        for client, upstream, view in itertools.product((J, L, M), (L, M), ("mcp", "tools")):
            if (client, upstream, view) != (M, M, "tools"):
                yield from cell(gateway, peers[upstream], client, upstream, view)
        yield from native(gateway, peers[M])
        yield from foreign(gateway, other)
        yield "a task that asked at one replica goes on at another", lambda: elsewhere(gateway, twin, peers[M])
        for client, server in itertools.product((J, L, M), ("official", "process")):
            yield (
                f"{NAMES[client]} client: the tool of the official server ({server}) runs as a task and asks",
                lambda client=client, server=server: research(gateway, server, client),
            )


def open_(gateway, view, name, client, capabilities=None):
    capabilities = ELICITS[client] if capabilities is None else capabilities
    return Person(f"{gateway.url}/{view}/{name}", client, capabilities=capabilities).connect()


def text(result):
    return "\n".join(block.get("text", "") for block in result["content"])


def cell(gateway, peer, client, upstream, view):
    provider_id = f"own{NAMES[upstream].lower()}"
    where = f"{NAMES[client]} client, {NAMES[upstream]} upstream, /{view}"

    def call(person, arguments, meta=None):
        if view == "mcp":
            return person.run(f"use_{provider_id}", {"tool": "research", "arguments": arguments}, meta)
        return person.run("research", arguments, meta)

    def listed():
        tools = open_(gateway, view, provider_id, client).tools()
        assert all("execution" not in tool for tool in tools), tools

    def runs():
        looks, made = peer.count("tasks/get"), len(peer.tasks)
        person = open_(gateway, view, provider_id, client)
        result = call(person, {}, {"progressToken": "mine"})
        assert "researched anything" in text(result) and not result.get("isError"), result
        assert "taskId" not in result and RELATED not in result.get("_meta", {}), result
        assert peer.count("tasks/get") >= looks + 2, "nobody looked after the task"
        assert len(peer.tasks) == made + 1, "the call was made more than once"
        told = [n["params"] for n in person.notifications if n["method"] == "notifications/progress"]
        assert told and all(it["progressToken"] == "mine" for it in told), told

    def asks():
        made = len(peer.tasks)
        person = open_(gateway, view, provider_id, client)
        result = call(person, {"ask": True})
        assert "researched crystals" in text(result), result
        assert person.asked["message"] == "Which topic?", person.asked
        assert len(peer.tasks) == made + 1, "the call was made more than once"

    def cancels(held):
        """`held`: before the gateway hears of the task; else once it has looked at it."""
        made, cancelled = len(peer.tasks), peer.count("tasks/cancel")
        person = open_(gateway, view, provider_id, client)
        inner = {"name": "research", "arguments": {"endless": True, "held": held}}
        outer = {"name": f"use_{provider_id}", "arguments": {"tool": "research", "arguments": inner["arguments"]}}
        begun = person.begin("tools/call", outer if view == "mcp" else inner)
        until("the task to be made", lambda: len(peer.tasks) > made)
        name = list(peer.tasks)[-1]
        if not held:
            until("the task to be looked at", lambda: name in peer.named("tasks/get"))
        if client == M:
            begun.close()
        else:
            person.notify("notifications/cancelled", {"requestId": begun.number})
        peer.tasks[name].named.set()
        until("the task to be cancelled", lambda: name in peer.named("tasks/cancel"))
        assert peer.count("tasks/cancel") == cancelled + 1
        begun.close()

    yield f"{where}: a tool does not say that it is a task", listed
    yield f"{where}: a tool that is a task runs to its result, with progress", runs
    yield f"{where}: a task that asks is answered by the client, and its call made once", asks
    yield f"{where}: a call that is cancelled cancels its task", lambda: cancels(False)
    yield f"{where}: a call that is cancelled before its task is named cancels it too", lambda: cancels(True)


def native(gateway, peer):
    """The extension, from end to end."""

    def open_tools(path="/tools/ownm", capabilities=TENDS):
        return Person(f"{gateway.url}{path}", M, capabilities=capabilities).connect()

    def ended(client, task):
        return until(
            "the task to end or ask",
            lambda: (state := client.request("tasks/get", {"taskId": task})) and state["status"] != "working" and state,
        )

    def refused(client, method, params, code):
        try:
            client.request(method, params)
        except RpcError as error:
            assert error.code == code, error
            return
        raise AssertionError(f"{method} was not refused")

    def announced():
        own = open_tools().server["capabilities"]["extensions"]
        assert own[EXTENSION] == {} and own[META + "ui"] == {"mimeTypes": ["a/b"]}, own
        assert EXTENSION in open_tools("/tools").server["capabilities"]["extensions"]
        assert "extensions" not in open_tools("/mcp/ownm").server["capabilities"]
        assert "extensions" not in open_tools("/tools/ownl").server["capabilities"]

    def undeclared():
        client = open_tools(capabilities=ELICITS[M])
        refused(client, "tools/call", {"name": "research", "arguments": {}}, -32021)
        refused(client, "tasks/get", {"taskId": "any"}, -32021)

    def passes(path, name):
        client = open_tools(path)
        made = client.call(name, {"ask": True})
        task = made["taskId"]
        assert made["resultType"] == "task" and task not in peer.tasks, made
        state = ended(client, task)
        assert state["taskId"] == task and state["status"] == "input_required", state
        said = {"topic": {"action": "accept", "content": {"topic": "tides"}}}
        client.request("tasks/update", {"taskId": task, "inputResponses": said})
        state = ended(client, task)
        assert text(state["result"]) == "researched tides", state

    def cancelled():
        client = open_tools()
        task = client.call("research", {"endless": True})["taskId"]
        client.request("tasks/cancel", {"taskId": task})
        assert ended(client, task)["status"] == "cancelled"

    def misnamed():
        client = open_tools()
        task = client.call("research")["taskId"]
        try:
            client.request("tasks/get", {"taskId": task}, {"mcp-name": "task-1"})
        except RpcError as error:
            assert error.code == -32020, error
        else:
            raise AssertionError("`Mcp-Name` was not compared")
        for wrong in ("task-1", task[:-2] + "AA", ""):
            refused(client, "tasks/get", {"taskId": wrong}, -32602)
        refused(client, "tasks/result", {"taskId": task}, -32601)
        refused(open_tools("/mcp/ownm"), "tasks/get", {"taskId": task}, -32601)

    yield "the extension is announced where it is served, and others pass as they are", announced
    yield "a client without the extension is told that the tool needs it", undeclared
    yield "a task passes under an id of its own, and its questions with it", lambda: passes("/tools/ownm", "research")
    yield "the same in the union", lambda: passes("/tools", "ownm__research")
    yield "a task is cancelled by its client", cancelled
    yield "an id that is not the task's own is refused", misnamed


def foreign(gateway, other):
    """Ids are their principal's, at their provider, for their account."""

    def refused(url, task, headers=None):
        client = Client(url, M, headers, TENDS)
        for method in ("tasks/get", "tasks/cancel", "tasks/update"):
            try:
                client.request(method, {"taskId": task, "inputResponses": {}})
            except RpcError as error:
                assert error.code == -32602, error
            else:
                raise AssertionError(f"{method} of a foreign task was served")

    def principals():
        task = Client(f"{gateway.url}/tools/ownm", M, None, TENDS).call("research", {"endless": True})["taskId"]
        refused(f"{other.url}/tools/ownm", task)
        refused(f"{gateway.url}/tools/rmcp", task)

    def accounts():
        url, mine = f"{gateway.url}/tools/keyed", {"x-key": "mine"}
        task = Client(url, M, mine, TENDS).call("research", {"endless": True})["taskId"]
        refused(url, task, {"x-key": "yours"})
        refused(url, task)
        assert Client(url, M, mine, TENDS).request("tasks/get", {"taskId": task})["status"] == "working"

    def rmcp(client):
        person = open_(gateway, "mcp", "rmcp", client)
        person.answers = {"confirm": True}
        arguments = {"tool": "confirm_delete", "arguments": {"filename": "a.txt"}}
        result = person.run("use_rmcp", arguments)
        assert "a.txt was deleted" in text(result), result

    yield "a task of another principal, or at another provider, is not there", principals
    yield "a task of another account is not there", accounts
    for client in (J, L, M):
        yield f"{NAMES[client]} client: a task of a real server asks through the meta tool", lambda c=client: rmcp(c)


def elsewhere(gateway, twin, peer):
    made = len(peer.tasks)
    params = {"name": "use_ownm", "arguments": {"tool": "research", "arguments": {"ask": True}}}
    asked = open_(gateway, "mcp", "ownm", M).request("tools/call", params)
    assert asked["resultType"] == "input_required", asked
    said = {"action": "accept", "content": {"topic": "rain"}}
    params["inputResponses"] = dict.fromkeys(asked["inputRequests"], said)
    params["requestState"] = asked["requestState"]
    result = open_(twin, "mcp", "ownm", M).request("tools/call", params)
    assert "researched rain" in text(result), result
    assert len(peer.tasks) == made + 1, "the call was made more than once"


def research(gateway, server, client):
    person = open_(gateway, "tools", server, client)
    person.answers = {"interpretation": "snake"}
    result = person.run("simulate-research-query", {"topic": "python", "ambiguous": True})
    assert "Research Report" in text(result) and "(snake)" in text(result), result
    assert RELATED not in result.get("_meta", {}), result
