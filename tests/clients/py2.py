"""The Python SDK, generation 2: probes for the newest revision and falls back."""

from contextlib import AsyncExitStack

import httpx2
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from common import every, main, plain


async def walk(wanted):
    async with AsyncExitStack() as stack:
        if wanted.command:
            server = StdioServerParameters(command=wanted.command[0], args=wanted.command[1:])
        else:
            http = await stack.enter_async_context(
                httpx2.AsyncClient(headers=wanted.headers, timeout=60)
            )
            server = streamable_http_client(wanted.url, http_client=http)
        client = await stack.enter_async_context(Client(server))
        can = client.server_capabilities
        seen = {"protocol": client.protocol_version, "server": client.server_info.name}

        def pages(call):
            return lambda cursor: call(cursor=cursor)

        seen["tools"] = [t.name for t in await every(pages(client.list_tools), "tools")]
        if can.resources:
            resources = await every(pages(client.list_resources), "resources")
            templates = await every(pages(client.list_resource_templates), "resource_templates")
            seen["resources"] = [str(r.uri) for r in resources]
            seen["templates"] = [t.uri_template for t in templates]
            if resources:
                seen["read"] = len((await client.read_resource(resources[0].uri)).contents)
        if can.prompts:
            seen["prompts"] = [p.name for p in await every(pages(client.list_prompts), "prompts")]
        if wanted.call:
            seen["result"] = plain(await client.call_tool(wanted.call, wanted.args))
        return seen


main("py2", walk)
