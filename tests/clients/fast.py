"""fastmcp's client. The file cannot bear the library's name: it would be imported instead."""

from fastmcp import Client
from fastmcp.client.transports import StdioTransport, StreamableHttpTransport

from common import main, plain


async def walk(wanted):
    if wanted.command:
        transport = StdioTransport(command=wanted.command[0], args=wanted.command[1:])
    else:
        transport = StreamableHttpTransport(wanted.url, headers=wanted.headers)
    async with Client(transport) as client:
        can = client.server_capabilities
        seen = {"protocol": client.protocol_version, "server": client.server_info.name}
        seen["tools"] = [t.name for t in await client.list_tools()]
        if can.resources:
            resources = await client.list_resources()
            seen["resources"] = [str(r.uri) for r in resources]
            templates = await client.list_resource_templates()
            seen["templates"] = [getattr(t, "uri_template", None) or t.uriTemplate for t in templates]
            if resources:
                seen["read"] = len(await client.read_resource(resources[0].uri))
        if can.prompts:
            seen["prompts"] = [p.name for p in await client.list_prompts()]
        if wanted.call:
            seen["result"] = plain(await client.call_tool_mcp(wanted.call, wanted.args))
        return seen


main("fastmcp", walk)
