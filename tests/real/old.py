"""Upstreams of 2024-11-05: an event stream, and messages posted beside it."""

import itertools
import json
import os
import pathlib
import subprocess

from foreign import views
from mcp import J, L, M, NAMES, Client, RpcError, events, lines_of
from world import PLEIADES, Everything, Gateway, Process, free_port, listens, provider, until

# The other widespread implementation: it names its address relatively and refuses unknown sessions.
PYTHON = """
import sys
from mcp.server.fastmcp import Context, FastMCP
from pydantic import BaseModel

server = FastMCP("python", host="127.0.0.1", port=int(sys.argv[1]))

class Name(BaseModel):
    name: str

@server.tool()
def echo(message: str) -> str:
    return message

@server.tool()
async def greet(context: Context) -> str:
    answer = await context.elicit("Who is there?", Name)
    return f"{answer.action} {answer.data.name if answer.data else ''}".strip()

server.run("sse")
"""


class Python(Process):
    """A server of the official Python SDK over its event stream."""

    def __init__(self, port=None):
        self.port = port or free_port()
        python = os.environ.get("PLEIADES_PY1", "python3")
        super().__init__("python", [python, "-c", PYTHON, self.port])
        self.url = f"http://127.0.0.1:{self.port}/sse"
        until("the Python server to listen", lambda: self.check_alive() or listens(self.port))


def old(name, url):
    return provider(name, url, upstream={"protocol": "sse"})


def checks():
    with Everything(transport="sse") as everything, Python() as python:
        descriptors = [
            old("everything", everything.url),
            old("python", python.url),
            provider("detected", everything.url),
        ]
        with Gateway(*descriptors) as gateway:
            for name in ("everything", "python", "detected"):
                gateway.settled(name)
            for name in ("everything", "detected"):
                for revision, view in itertools.product((J, L, M), ("mcp", "tools", "relay")):
                    yield from cell(gateway, name, revision, view)
            for revision in (J, L):
                yield (
                    f"{NAMES[revision]} client: a question that comes on the stream is answered",
                    lambda revision=revision: asked(gateway, revision),
                )
            yield (
                "M client: a question that comes on the stream ends the call, and its answer goes on",
                lambda: asked_in_rounds(gateway),
            )
            for client in ("ts1", "py2"):
                yield from views(gateway, "an event stream", client)
    yield "a server that restarts is found again", restarted
    yield "a server that is gone is an error, and found when it comes back", gone
    yield "`add` writes down the transport that answered", added


def cell(gateway, name, revision, view):
    claim = f"{NAMES[revision]} client, {name} at /{view}"

    def open_():
        return Client(f"{gateway.url}/{view}/{name}", revision).connect()

    def call(client, tool, arguments, meta=None):
        if view == "mcp":
            tool, arguments = f"use_{name}", {"tool": tool, "arguments": arguments}
        result = client.call(tool, arguments, meta)
        assert not result.get("isError"), result
        return result

    def uses():
        client = open_()
        assert "hi" in call(client, "echo", {"message": "hi"})["content"][0]["text"]
        uris = [resource["uri"] for resource in client.every("resources/list", "resources")]
        assert client.request("resources/read", {"uri": uris[0]})["contents"], uris
        names = {prompt["name"] for prompt in client.every("prompts/list", "prompts")}
        assert "simple-prompt" in names, names
        assert client.request("prompts/get", {"name": "simple-prompt"})["messages"]
        params = {
            "ref": {"type": "ref/prompt", "name": "completable-prompt"},
            "argument": {"name": "department", "value": "E"},
        }
        got = client.request("completion/complete", params)
        assert got["completion"]["values"] == ["Engineering"], got

    def progress():
        client = open_()
        arguments = {"duration": 1, "steps": 2}
        call(client, "trigger-long-running-operation", arguments, {"progressToken": "mine"})
        steps = [n["params"] for n in client.notifications if n["method"] == "notifications/progress"]
        assert steps and all(step["progressToken"] == "mine" for step in steps), client.notifications

    def refused():
        try:
            open_()
        except RpcError as refusal:
            assert refusal.code == -32022, refusal
            assert M not in refusal.data["supported"], refusal
        else:
            raise AssertionError("the relay joined two generations")

    if view == "relay" and revision == M:
        yield f"{claim}: refused, with what the provider speaks", refused
        return
    yield f"{claim}: tools, resources, prompts and completion", uses
    yield f"{claim}: progress under the caller's token", progress


def asked(gateway, revision):
    client = Client(f"{gateway.url}/tools/python", revision, capabilities={"elicitation": {}}).connect()
    calling = client.begin("tools/call", {"name": "greet", "arguments": {}})
    for text in events(lines_of(calling.getresponse())):
        message = json.loads(text)
        if message.get("method") == "elicitation/create":
            answer = {"action": "accept", "content": {"name": "Ada"}}
            _, headers = client.envelope("", {})
            reply = client.post({"jsonrpc": "2.0", "id": message["id"], "result": answer}, headers)
            assert reply.status == 202, (reply.status, reply.text)
        elif message.get("id") == calling.number:
            assert message["result"]["content"][0]["text"] == "accept Ada", message
            break
    else:
        raise AssertionError("the call was never answered")
    calling.close()


def asked_in_rounds(gateway):
    capabilities = {"elicitation": {"form": {}}}
    client = Client(f"{gateway.url}/tools/python", M, capabilities=capabilities).connect()
    first = client.call("greet")
    assert first["resultType"] == "input_required", first
    [(key, request)] = first["inputRequests"].items()
    assert request["method"] == "elicitation/create", request
    params = {
        "name": "greet",
        "arguments": {},
        "inputResponses": {key: {"action": "accept", "content": {"name": "Ada"}}},
        "requestState": first["requestState"],
    }
    last = client.request("tools/call", params)
    assert last["content"][0]["text"] == "accept Ada", last


def answers(gateway, name):
    client = Client(f"{gateway.url}/tools/{name}", L).connect()
    result = client.call("echo", {"message": "hi"})
    return not result.get("isError") and "hi" in result["content"][0]["text"]


def restarted():
    for server, name in ((lambda port: Everything(port, "sse"), "everything"), (Python, "python")):
        with server(None) as first, Gateway(old(name, first.url)) as gateway:
            gateway.settled(name)
            assert answers(gateway, name)
            first.popen.kill()
            first.popen.wait()
            with server(first.port):
                until("a call to be answered", lambda: answers(gateway, name))


def gone():
    with Everything(transport="sse") as first, Gateway(old("everything", first.url)) as gateway:
        gateway.settled("everything")
        assert answers(gateway, "everything")
        first.popen.kill()
        first.popen.wait()
        until("the failure to show", lambda: not answers(gateway, "everything"))
        with Everything(first.port, "sse"):
            until("a call to be answered", lambda: answers(gateway, "everything"))


def added():
    with Everything(transport="sse") as server:
        folder = server.folder / "providers.d"
        command = [PLEIADES, "--providers", folder, "add", server.url, "--id", "found"]
        done = subprocess.run(
            [str(word) for word in command], capture_output=True, text=True, cwd=server.folder, timeout=60
        )
        assert done.returncode == 0, done.stderr
        written = pathlib.Path(folder / "found.yaml").read_text()
        assert "  protocol: sse\n" in written, written
