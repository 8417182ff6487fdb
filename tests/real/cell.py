"""One of the nine cells: a client of one revision, a provider of one revision, one view."""

import itertools

from asked import Asked, willing
from mcp import J, L, M, NAMES, RpcError

REVISIONS = (J, L, M)
FLAGS = {J: ("--only-legacy", J), L: ("--only-legacy", L), M: ("--only-modern",)}
CELLS = tuple(itertools.product(REVISIONS, REVISIONS))
VIEWS = ("tools", "mcp")


def label(client, upstream):
    return f"{NAMES[client]}-{NAMES[upstream]}"


class Said:
    """What a call of a tool came to, whichever view it went through."""

    def __init__(self, result, meta):
        self.result, self.failed = result, bool(result.get("isError"))
        blocks = result.get("content", [])
        self.text = next((block["text"] for block in blocks if block["type"] == "text"), "")
        structured = result.get("structuredContent", {})
        self.status = structured.get("status") if meta else None
        self.data = structured.get("data") if meta else structured

    def __repr__(self):
        return repr(self.result)


class Cell:
    """Opens clients and calls tools as the view wants it."""

    def __init__(self, gateway, name, client, upstream, view="tools"):
        self.gateway, self.name = gateway, name
        self.client, self.upstream, self.view = client, upstream, view
        self.url = f"{gateway.url}/{view}/{name}"

    def __str__(self):
        return f"{label(self.client, self.upstream)} at /{self.view}"

    @property
    def is_meta(self):
        return self.view == "mcp"

    @property
    def same_era(self):
        return (self.client == M) == (self.upstream == M)

    def open(self, answer=willing, capabilities=None):
        return Asked(self.url, self.client, answer, capabilities).connect()

    def params(self, tool, arguments=None, meta=None):
        """The parameters of `tools/call`."""
        params = {"name": tool, "arguments": arguments or {}}
        if self.is_meta:
            inner = {"tool": tool, "arguments": params["arguments"]}
            params = {"name": f"use_{self.name}", "arguments": inner}
        if meta:
            params["_meta"] = meta
        return params

    def call(self, client, tool, arguments=None, meta=None):
        params = self.params(tool, arguments, meta)
        return Said(client.request("tools/call", params), self.is_meta)

    def counts(self, client):
        """What the provider counted of its own work."""
        return self.call(client, "cell_counts").data


def refused(function, *codes):
    """Runs what must be refused with one of these codes."""
    try:
        got = function()
    except RpcError as refusal:
        assert refusal.code in codes, f"{refusal.code} is none of {codes}: {refusal}"
        return refusal
    raise AssertionError(f"not refused: {got}")
