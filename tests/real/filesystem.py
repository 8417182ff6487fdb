"""The official filesystem server over stdio."""

import pathlib
import tempfile

from mcp import J, L, M, NAMES, Client
from world import Gateway, provider, server_script


def checks():
    with tempfile.TemporaryDirectory() as folder:
        note = pathlib.Path(folder).resolve() / "note.txt"
        note.write_text("written by the test")
        command = ["node", server_script("server-filesystem"), note.parent]
        with Gateway(provider("files", command=command)) as gateway:
            gateway.settled("files")
            for revision in (J, L, M):
                yield from of(gateway, revision, note)


def of(gateway, revision, note):
    def reads():
        client = Client(f"{gateway.url}/tools/files", revision).connect()
        assert "read_text_file" in [tool["name"] for tool in client.tools()]
        result = client.call("read_text_file", {"path": str(note)})
        assert result["content"][0]["text"] == "written by the test", result

    def writes():
        client = Client(f"{gateway.url}/mcp/files", revision).connect()
        target = note.parent / f"{NAMES[revision]}.txt"
        arguments = {"path": str(target), "content": revision}
        result = client.call("use_files", {"tool": "write_file", "arguments": arguments})
        assert not result.get("isError"), result
        assert target.read_text() == revision

    def refuses():
        client = Client(f"{gateway.url}/mcp/files", revision).connect()
        arguments = {"path": "/etc/hostname"}
        result = client.call("use_files", {"tool": "read_text_file", "arguments": arguments})
        assert result["isError"], result
        assert result["structuredContent"]["status"] == "upstream_error", result

    name = NAMES[revision]
    yield f"a client of {name} reads a file in the tool view", reads
    yield f"a client of {name} writes a file in the meta view", writes
    yield f"a client of {name} is told of the server's refusal", refuses
