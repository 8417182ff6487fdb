"""The client that the conformance suite starts for its authorization scenarios: the gateway, which owns
everything that has to do with tokens, and a naive client behind it.

    conformance_auth_driver.py [--protocol auto|pinned] [--view tools|mcp] URL

Whenever the gateway answers with a link, somebody opens it, agrees, and comes back; then the naive client
makes the same call again, at most a few times. Exit code 0: the flow ran to its end, connected or refused.
"""

import argparse
import json
import os
import signal
import sys
import threading

from browser import Browser
from conformance_driver import WATCHDOG, Naive, arguments, bitten
from mcp import RpcError
from world import Gateway, provider

NAME = "conf"
# A client that is refused again and again gives up; a gateway must not depend on it.
TRIES = 6
DOCUMENT = "https://conformance-test.local/client-metadata.json"
MACHINE = "auth/client-credentials"


def auth(scenario, context):
    """The `auth` of the descriptor that an operator would write."""
    client = {key: context[key] for key in ("client_id", "client_secret") if key in context}
    if scenario.startswith(MACHINE):
        if "private_key_pem" in context:
            client.update(private_key=context["private_key_pem"], token_auth="private_key_jwt")
        return {"client_credentials": client}
    if scenario == "auth/basic-cimd":
        client = {"client_id": DOCUMENT, "token_auth": "none"}
    if "issuer" in context and client:
        client["issuer"] = context["issuer"]
    return {"oauth": client}


def link_of(outcome):
    """The link that an answer carries, when it carries one."""
    if isinstance(outcome, RpcError):
        return (outcome.data or {}).get("connect_url")
    structured = outcome.get("structuredContent") or {}
    return (structured.get("data") or structured or {}).get("connect_url")


def attempt(client, name, given):
    try:
        return client.finished("tools/call", {"name": name, "arguments": given})
    except RpcError as error:
        return error


def persist(client, name, given):
    """Makes a call until it needs nobody any more, or somebody is sent away."""
    for _ in range(TRIES):
        outcome = attempt(client, name, given)
        link = link_of(outcome)
        if not link:
            return True
        page = Browser().connect(link)
        print(f"connecting for {name}: {page.status}", file=sys.stderr)
        if page.status != 200:
            return False
        if name == "connect":
            return True
    return False


def use(client, scenario, context, view):
    for _ in range(TRIES):
        tools = client.tools()
        if view == "mcp":
            outer = tools[0]
            names = outer["inputSchema"]["properties"]["tool"].get("enum", [])
            if not names:
                if not persist(client, outer["name"], {"prompt": "anything"}):
                    return
                continue
            for name in names:
                persist(client, outer["name"], {"tool": name, "arguments": {"a": 3, "b": 3}})
            return
        if [tool["name"] for tool in tools] == ["connect"]:
            if not persist(client, "connect", {}):
                return
            continue
        for tool in tools:
            for given in arguments(tool, tools, scenario, context):
                persist(client, tool["name"], given)
        break
    client.tools()
    if scenario == "auth/authorization-server-migration":
        for tool in client.tools():
            for given in arguments(tool, [tool], scenario, context):
                persist(client, tool["name"], given)


def drive(options, revision, scenario, context):
    pinned = {"protocol": revision} if options.protocol == "pinned" else {}
    descriptor = provider(NAME, options.url, upstream=pinned)
    descriptor["auth"] = auth(scenario, context)
    with Gateway(descriptor) as gateway:
        try:
            url = f"{gateway.url}/{options.view}/{NAME}"
            spoken = "2025-06-18" if revision < "2025-06-18" else revision
            client = Naive(url, spoken).connect()
            use(client, scenario, context, options.view)
        finally:
            if os.environ.get("PLEIADES_SHOW_LOG"):
                print(gateway.output(), file=sys.stderr)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--view", choices=["tools", "mcp"], default="tools")
    parser.add_argument("--protocol", choices=["auto", "pinned"], default="pinned")
    parser.add_argument("url")
    options = parser.parse_args()
    signal.signal(signal.SIGALRM, bitten)
    signal.alarm(WATCHDOG)
    last = threading.Timer(WATCHDOG + 30, os._exit, [70])
    last.daemon = True
    last.start()
    revision = os.environ["MCP_CONFORMANCE_PROTOCOL_VERSION"]
    context = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT", "{}"))
    drive(options, revision, os.environ["MCP_CONFORMANCE_SCENARIO"], context)
    return 0


if __name__ == "__main__":
    sys.exit(main())
