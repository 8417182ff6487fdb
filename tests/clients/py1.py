"""The Python SDK, generation 1."""

from contextlib import AsyncExitStack

import httpx
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client

from common import every, main, plain


async def walk(wanted):
    async with AsyncExitStack() as stack:
        if wanted.command:
            command = StdioServerParameters(command=wanted.command[0], args=wanted.command[1:])
            read, write = await stack.enter_async_context(stdio_client(command))
        else:
            http = await stack.enter_async_context(
                httpx.AsyncClient(headers=wanted.headers, timeout=60)
            )
            streams = streamable_http_client(wanted.url, http_client=http)
            read, write, *_ = await stack.enter_async_context(streams)
        session = await stack.enter_async_context(ClientSession(read, write))
        hello = await session.initialize()
        seen = {"protocol": hello.protocolVersion, "server": hello.serverInfo.name}
        seen["tools"] = [t.name for t in await every(session.list_tools, "tools")]
        if hello.capabilities.resources:
            resources = await every(session.list_resources, "resources")
            templates = await every(session.list_resource_templates, "resourceTemplates")
            seen["resources"] = [str(r.uri) for r in resources]
            seen["templates"] = [t.uriTemplate for t in templates]
            if resources:
                seen["read"] = len((await session.read_resource(resources[0].uri)).contents)
        if hello.capabilities.prompts:
            seen["prompts"] = [p.name for p in await every(session.list_prompts, "prompts")]
        if wanted.call:
            seen["result"] = plain(await session.call_tool(wanted.call, wanted.args))
        return seen


main("py1", walk)
