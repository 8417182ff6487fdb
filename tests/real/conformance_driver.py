"""The client that the conformance suite starts: the gateway, with a naive client behind it.

    conformance_driver.py [--view tools|mcp] [--protocol auto|pinned] [--client REVISION] URL

The suite's server at URL becomes the one provider of a gateway of our own, and the naive client does at
the gateway whatever a server can be asked for. What the suite judges is what the gateway then said to the
suite's server. Revision, scenario and the scenario's own values come in the environment; the client is of
the same revision unless it is given another. Exit code 0: the flow ran to its end; nothing else is judged.
"""

import argparse
import base64
import json
import os
import signal
import sys
import threading

from mcp import NAMES, M, Client, RpcError
from world import Gateway, provider

NAME = "conf"
# The suite ends only the shell that it started, so whoever hangs ends himself, and his gateway.
WATCHDOG = 75
# Rounds in which a server may ask before it answers.
ROUNDS = 10
# Scenarios whose server lists tools that it cannot run.
SHOWN_ONLY = ("json-schema-ref-no-deref",)
EXAMPLES = {"string": "a", "integer": 3, "number": 3.5, "boolean": True, "array": [], "object": {}}


class Naive(Client):
    """A client that accepts every form with the defaults of its schema."""

    def heard(self, message):
        if "method" in message and "id" in message:
            answer = {"jsonrpc": "2.0", "id": message["id"], "result": answered(message)}
            _, headers = self.envelope("", {})
            self.post(answer, headers)

    def finished(self, method, params, between=lambda: None, headers=None):
        """A request to its last round; `between` runs while the server waits for the next."""
        for _ in range(ROUNDS):
            result = self.request(method, params, headers)
            if result.get("resultType", "complete") != "input_required":
                return result
            between()
            asked = result.get("inputRequests", {})
            params = {**params, "inputResponses": {key: answered(value) for key, value in asked.items()}}
            params.pop("requestState", None)
            if "requestState" in result:
                params["requestState"] = result["requestState"]
        raise AssertionError(f"`{method}` asks without end")


def answered(request):
    """What a person who changes nothing answers."""
    method, params = request["method"], request.get("params", {})
    if method == "elicitation/create":
        fields = params.get("requestedSchema", {}).get("properties", {})
        return {"action": "accept", "content": {name: filled(field) for name, field in fields.items()}}
    if method == "roots/list":
        return {"roots": []}
    raise AssertionError(f"asked for `{method}`, which was not declared")


def filled(schema):
    """The default of a schema, else any value of its type."""
    if "default" in schema:
        return schema["default"]
    if "enum" in schema:
        return schema["enum"][0]
    return EXAMPLES.get(schema.get("type"), "a")


def arguments(tool, tools, scenario, context):
    """The arguments of each call to make of a tool."""
    named = [call["arguments"] for call in context.get("toolCalls", []) if call["name"] == tool["name"]]
    if named:
        return named
    if scenario == "json-schema-2020-12-preservation" and tool["name"] == "json_schema_echo":
        return [{"schema": other["inputSchema"]} for other in tools if other is not tool]
    schema = tool["inputSchema"]
    fields = schema.get("properties", {})
    return [{name: filled(fields.get(name, {})) for name in schema.get("required", [])}]


def mirrored(tool, given):
    """The headers that a client of M owes for these arguments of a tool (flat ones will do here)."""
    headers = {}
    for name, schema in tool["inputSchema"].get("properties", {}).items():
        value = given.get(name)
        if "x-mcp-header" in schema and value is not None:
            text = value if isinstance(value, str) else json.dumps(value)
            if not text.isascii() or not text.isprintable() or text != text.strip():
                text = f"=?base64?{base64.b64encode(text.encode()).decode()}?="
            headers[f"mcp-param-{schema['x-mcp-header']}"] = text
    return headers


def use_tools(client, scenario, context):
    """Lists the tools and calls each; one that says it is unrelated also between the rounds of others."""
    tools = client.tools()
    plain = [tool["name"] for tool in tools if tool["name"].endswith("unrelated")]
    for tool in tools:
        for given in arguments(tool, tools, scenario, context):
            params = {"name": tool["name"], "arguments": given}
            headers = mirrored(tool, given) if client.revision == M else {}
            try:
                client.finished("tools/call", params, lambda: [client.call(name) for name in plain], headers)
            except RpcError:
                if scenario not in SHOWN_ONLY:
                    raise


def use_meta(client, scenario, context):
    """The same through the one tool of the meta view."""
    for outer in client.tools():
        names = outer["inputSchema"]["properties"]["tool"].get("enum", [])
        inner = [schema_of(client, outer["name"], name) for name in names]
        for tool in inner:
            for given in arguments(tool, inner, scenario, context):
                params = {"tool": tool["name"], "arguments": given}
                result = client.finished("tools/call", {"name": outer["name"], "arguments": params})
                assert result["structuredContent"]["status"] == "ok", result


def schema_of(client, outer, name):
    answer = client.call(outer, {"tool": name})["structuredContent"]
    if answer["status"] == "schema":
        return {"name": name, "inputSchema": answer["data"]["inputSchema"]}
    return {"name": name, "inputSchema": {}}


def use_rest(client, capabilities):
    """Reads every resource and gets every prompt."""
    if "resources" in capabilities:
        for resource in client.every("resources/list", "resources"):
            client.finished("resources/read", {"uri": resource["uri"]})
    if "prompts" in capabilities:
        for prompt in client.every("prompts/list", "prompts"):
            wanted = [given["name"] for given in prompt.get("arguments", []) if given.get("required")]
            params = {"name": prompt["name"], "arguments": {name: "a" for name in wanted}}
            client.finished("prompts/get", params)


def drive(options, revision, scenario, context):
    pinned = {"protocol": revision} if options.protocol == "pinned" else {}
    with Gateway(provider(NAME, options.url, upstream=pinned)) as gateway:
        # One scenario lists tools that no client may take: those are left out, and named.
        gateway.settled(NAME, "ready", "degraded")
        url, asked = f"{gateway.url}/{options.view}/{NAME}", {"elicitation": {}}
        client = Naive(url, options.client or revision, capabilities=asked).connect()
        use = use_meta if options.view == "mcp" else use_tools
        use(client, scenario, context)
        use_rest(client, client.server["capabilities"])
        client.tools()


def bitten(*_):
    raise TimeoutError(f"the flow did not end within {WATCHDOG} s")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--view", choices=["tools", "mcp"], default="tools")
    parser.add_argument("--protocol", choices=["auto", "pinned"], default="pinned")
    parser.add_argument("--client", choices=list(NAMES))
    parser.add_argument("url")
    options = parser.parse_args()
    signal.signal(signal.SIGALRM, bitten)
    signal.alarm(WATCHDOG)
    # The second guard is for a gateway that does not end either.
    last = threading.Timer(WATCHDOG + 30, os._exit, [70])
    last.daemon = True
    last.start()
    revision = os.environ["MCP_CONFORMANCE_PROTOCOL_VERSION"]
    context = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT", "{}"))
    drive(options, revision, os.environ["MCP_CONFORMANCE_SCENARIO"], context)
    return 0


if __name__ == "__main__":
    sys.exit(main())
