"""A real authorization server with a protected MCP server behind it, and what people do with them."""

import json
import os
import pathlib

from browser import Browser
from mcp import L, Client, RpcError, fetch
from world import ROOT, Process, free_port, listens, provider, until

SCRIPT = ROOT / "tests/peers/oidc/server.mjs"


class Oidc(Process):
    """`oidc-provider`, and `/mcp` of its own that lets through to `upstream` what bears its tokens."""

    def __init__(self, upstream, port=None, **options):
        self.port = port or free_port()
        self.issuer = f"http://127.0.0.1:{self.port}"
        self.url = f"{self.issuer}/mcp"
        said = json.dumps({"port": self.port, "upstream": upstream, **options})
        command = [os.environ["PLEIADES_NODE22"], SCRIPT, said]
        super().__init__("oidc", command, {"OIDC_MODULES": os.environ["PLEIADES_OIDC"]})
        until("oidc-provider to listen", lambda: self.check_alive() or listens(self.port))

    def facts(self):
        return json.loads(fetch(f"{self.issuer}/-/facts").text)

    def values(self):
        """Every secret that it ever issued or was shown."""
        return set(json.loads(fetch(f"{self.issuer}/-/values").text))

    def mint(self, account, client, lifetime):
        """A token answer as if somebody had connected `account`."""
        body = json.dumps({"account": account, "client": client, "lifetime": lifetime}).encode()
        return json.loads(fetch(f"{self.issuer}/-/mint", "POST", body=body).text)

    def set(self, **faults):
        body = json.dumps(faults).encode()
        return json.loads(fetch(f"{self.issuer}/-/set", "POST", body=body).text)


def protected(name, server, auth=None, **rest):
    """A descriptor of a provider that wants OAuth; `{}` discovers everything."""
    return {**provider(name, server.url), "auth": {"oauth": auth or {}}, **rest}


class Person(Browser):
    """Somebody with an account at the provider, and perhaps a key of the gateway."""

    def __init__(self, name, key=None, **rest):
        super().__init__(**rest)
        self.name, self.key = name, key

    def agree(self, link):
        """Opens a connect link and does what the pages ask for; the page at the end."""
        page = self.open(link)
        assert page.status == 200 and page.forms, f"no form to connect with: {page}"
        fields = page.forms[0]["fields"]
        given = {"api_key": self.key} if "api_key" in fields and self.key else {}
        return self.through(self.follow(self.submit(page, **given)))

    def through(self, page):
        """Logs in at the provider and consents, to the page that has no form of it any more."""
        for _ in range(4):
            login = next((form for form in page.forms if "account" in form["fields"]), None)
            if login is None:
                return page
            page = self.follow(self.submit(page, page.forms.index(login), account=self.name, go="yes"))
        return page


def link_of(outcome):
    """`connect_url` of an answer in any of its forms."""
    return data_of(outcome)["connect_url"]


def data_of(outcome):
    """What an answer without a credential says beside."""
    if isinstance(outcome, RpcError):
        return outcome.data
    if "inputRequests" in outcome:
        return outcome["_meta"]["pleiades/needs_auth"]
    structured = outcome["structuredContent"]
    return structured.get("data", structured)


def asked(client, name, arguments=None, meta=None):
    """A call, whatever comes of it."""
    try:
        return client.call(name, arguments, meta)
    except RpcError as error:
        return error


def caller(gateway, path, revision=L, key=None, capabilities=None, headers=None):
    """A client of the gateway, with a key where it has one."""
    given = {**({"x-api-key": key} if key else {}), **(headers or {})}
    return Client(f"{gateway.url}{path}", revision, given, capabilities).connect()


def connected(gateway, name, person, revision=L, key=None, account=None):
    """Connects somebody's account through the one tool of a provider; the answer's data."""
    client = caller(gateway, f"/mcp/{name}", revision, key)
    arguments = {"prompt": "anything", **({"accountId": account} if account else {})}
    data = data_of(asked(client, f"use_{name}", arguments))
    page = person.agree(data["connect_url"])
    assert page.status == 200, page
    return data


def secrets_of(folder):
    """Every file below a folder, as bytes: what the gateway left on the disk."""
    return {path: path.read_bytes() for path in pathlib.Path(folder).rglob("*") if path.is_file()}
