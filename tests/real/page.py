"""The pages in a real browser: a connection from end to end without script, and every page as it looks."""

import contextlib
import json
import os
import re
import subprocess
import threading
from urllib.parse import unquote

from connecting import ANN, USERS, keys
from mcp import GUARD, J, fetch
from oauth import Oidc, Person, asked, caller, link_of, protected
from world import PLEIADES, ROOT, Everything, Gateway, until

SCRIPT = ROOT / "tests/peers/browser/walk.mjs"
LOOKS = ROOT / "tests/peers/browser/look.mjs"
# The principal that every installation begins with has no name on pages.
LOCAL = "you, on this machine"
LONG = {
    "title": "Customer relations and planning of the northern and southern districts " * 2,
    "name": "the-gateway-of-a-department-with-a-long-name-without-a-blank",
    "host": f"sign-in.{'a-long-label-' * 4}end.example",
    "scopes": [f"https://api.example.com/auth/districts.of.the.north/{number}.readwrite" for number in range(12)],
}


def checks():
    with Everything() as upstream, Oidc(upstream.url) as server:
        yield "a person on loopback agrees, logs in and is told that it worked", lambda: walked(server)
        yield "a person with a key does the same on a narrow window", lambda: walked(server, ANN, width=360)
        yield "a person who cancels at the provider is told so, and nothing is connected", lambda: refused(server)
        yield (
            "every page is clean for axe-core and by keyboard, at 320 and 1280 px, light and dark",
            lambda: looked_at(upstream, server),
        )


def walk(link, **options):
    said = {"chromium": os.environ["PLEIADES_CHROMIUM"], "link": link, **options}
    if "PLEIADES_PICTURES" in os.environ:
        said["pictures"] = os.environ["PLEIADES_PICTURES"]
    done = subprocess.run(
        [os.environ["PLEIADES_NODE22"], SCRIPT, json.dumps(said)],
        capture_output=True,
        timeout=3 * GUARD,
        env={**os.environ, "BROWSER_MODULES": os.environ["PLEIADES_BROWSER"]},
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    return json.loads(done.stdout)


def walked(server, key=None, **options):
    settings = {"access": {"api_keys": keys(*USERS)}} if key else {}
    with Gateway(protected("notes", server, title="Notes <of> Ann"), settings=settings) as gateway:
        client = caller(gateway, "/mcp/notes", J, key)
        link = link_of(asked(client, "use_notes", {"prompt": "x"}))
        found = walk(link, account="zoe", **({"key": key} if key else {}), **options)
        first, *_, last = found["seen"]
        assert not found["blocked"], found["blocked"]
        assert "Notes <of> Ann" in first["text"] and first["language"], first
        assert "/oauth/callback" in last["url"] and "zoe" in last["text"], last
        said = asked(client, "use_notes", {"tool": "echo", "arguments": {"message": "hi"}})
        assert said["structuredContent"]["status"] == "ok", said


def refused(server):
    with Gateway(protected("notes", server)) as gateway:
        client = caller(gateway, "/mcp/notes", J)
        link = link_of(asked(client, "use_notes", {"prompt": "x"}))
        person = Person("zoe")
        page = person.follow(person.submit(person.open(link)))
        page = person.follow(person.submit(page, account="zoe", go="no"))
        assert 400 <= page.status < 500 and page.headers["content-type"].startswith("text/html"), page
        said = asked(client, "use_notes", {"tool": "echo"})
        assert said["structuredContent"]["status"] == "needs_auth", said


def looked_at(upstream, server):
    """Walks to each kind of page; `expected` says its status, what stands on it, and after `!` what must not."""
    with contextlib.ExitStack() as stack:
        world, seen = Pages(stack, upstream, server), []
        for walks in world.batches():
            seen += look(list(walks))
        pages = {page["name"]: page for page in seen}
        faults = [f"{name}: {fault}" for name, page in pages.items() for fault in page["faults"]]
        assert not faults, "\n".join(faults)
        assert pages.keys() == world.expected.keys(), pages.keys() ^ world.expected.keys()
        for name, (status, *parts) in world.expected.items():
            page = pages[name]
            assert page["status"] == status, (name, page)
            for part in parts:
                without = part.removeprefix("!")
                assert (without in page["text"]) == (part == without), (name, part, page["text"])


def look(walks):
    said = {"chromium": os.environ["PLEIADES_CHROMIUM"], "walks": walks}
    if "PLEIADES_PICTURES" in os.environ:
        said["pictures"] = os.environ["PLEIADES_PICTURES"]
    done = subprocess.run(
        [os.environ["PLEIADES_NODE22"], LOOKS, json.dumps(said)],
        capture_output=True,
        timeout=6 * GUARD,
        env={**os.environ, "BROWSER_MODULES": os.environ["PLEIADES_BROWSER"]},
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    return json.loads(done.stdout)["seen"]


class Pages:
    """Gateways of several settings, and the ways of people to each kind of page."""

    def __init__(self, stack, upstream, server):
        self.stack, self.upstream, self.server = stack, upstream, server
        self.host = server.issuer.removeprefix("http://")
        self.expected = {}

    def gateway(self, *providers, **settings):
        made = providers or [protected("notes", self.server, title="Notes")]
        return self.stack.enter_context(Gateway(*made, settings=settings))

    def link(self, gateway, name="notes", key=None, **arguments):
        return link_of(asked(caller(gateway, f"/mcp/{name}", J, key), f"use_{name}", {"prompt": "x", **arguments}))

    def look(self, name, status, *parts):
        self.expected[name] = (status, *parts)
        return {"look": name}

    def batches(self):
        local = {"tenant": "default", "user": "local"}
        alone, keyed = self.gateway(), self.gateway(access={"local": local, "api_keys": keys(*USERS)})
        yield self.connecting(alone)
        yield self.proving(keyed, alone)
        yield from self.guessing()
        yield self.links(alone)
        yield self.failing()
        yield self.welcome(alone, keyed)
        yield self.long()
        yield from self.commands()

    def sign_in(self, name):
        """At the provider: logs in, and consents."""
        return [{"type": {"account": name}}, {"press": "Log in"}]

    def connecting(self, gateway):
        link = self.link(gateway)
        ask = self.look("on loopback", 200, self.host, LOCAL, "mcp:read", "Only go on if you asked for this", "Cancel")
        yield [{"open": link}, ask, {"press": "Cancel"}, self.look("cancelled", 200, "Not connected", "You cancelled")]
        denied = self.look("cancelled at the provider", 409, "Not connected", "Access was refused at Notes", "Try again")
        connected = self.look("connected", 200, "zoe", "Notes is connected", "You can close this page")
        used = self.look("opened twice", 410, "Not valid any more")
        once = [{"open": link}, {"press": "Continue"}, {"press": "Cancel"}, denied, {"press": "Try again"}]
        yield [*once, {"press": "Continue"}, *self.sign_in("zoe"), connected, {"reload": True}, used]
        link = self.link(gateway, accountId="home")
        second = self.look("a second account", 200, "home", "Which account of Notes", "Keep zoe", "nothing changes")
        chosen = self.look("the default was chosen", 200, "Calls that name no account use home")
        signed_in = [{"open": link}, {"press": "Continue"}, *self.sign_in("yan")]
        yield [*signed_in, second, {"press": "Use home"}, chosen]
        other = self.look("another account", 409, "This is another account", "Nothing has been changed yet")
        yield [{"open": link}, {"press": "Continue"}, *self.sign_in("eve"), other]
        kept = self.look("the account was kept", 409, "Nothing was changed")
        yield [{"open": link}, {"press": "Continue"}, *self.sign_in("fay"), {"press": "Keep"}, kept]
        unknown = self.look("unknown answer", 404, "belongs to no sign-in")
        yield [{"open": f"{gateway.url}/oauth/callback?code=x&state=made-up"}, unknown]
        forger = self.look("wrong issuer", 400, "another server", "!evil", "!call 555")
        forged = {"forge": {"iss": "https://evil.example", "error": "x", "error_description": "call 555"}}
        link = self.link(gateway, accountId="fourth")
        yield [{"open": link}, {"press": "Continue"}, forged, {"type": {"account": "zoe"}}, {"press": "Log in"}, forger]

    def proving(self, gateway, alone):
        link = self.link(gateway, key=ANN)
        ask = self.look("with a key", 200, "ann of acme", "x-api-key", "configuration", gateway.url.split("//")[1])
        wrong = self.look("wrong key", 403, "This is not the key", "!ann of acme", "Cancel")
        typed = [{"type": {"api_key": "a-wrong-key"}}, {"press": "Continue"}]
        yield [{"open": link}, ask, *typed, wrong, {"press": "Cancel"}, self.look("cancelled without a key", 200, "You cancelled")]
        local = (gateway.home / "data/pleiades/local.key").read_text().strip()
        yield [{"open": self.link(gateway, key=local)}, self.look("with the local key", 200, LOCAL, "local.key")]
        # Keys are sealed alike here, so this one opens where nobody can be proven to be Ann.
        elsewhere = link.replace(gateway.url, alone.url)
        yield [{"open": elsewhere}, self.look("nobody can prove", 200, "Ask whoever runs it", "!Continue", "!Cancel")]
        own = {"issuer": self.server.issuer, "client_id": "gateway", "client_secret": "a secret of the tests"}
        login = self.gateway(access={"login": own})
        page = self.look("with login", 200, "First you log in to pleiades", self.host, "Log in to pleiades")
        yield [{"open": self.link(login)}, page]

    def guessing(self):
        """Too many wrong keys, which somebody goes on trying meanwhile."""
        gateway, over, eve = self.gateway(access={"api_keys": keys(*USERS)}), threading.Event(), Person("eve")
        link = self.link(gateway, key=ANN)
        page = eve.open(link)
        until("wrong keys to be too many", lambda: eve.submit(page, api_key="a-wrong-key").status == 429)

        def guess():
            while not over.wait(0.02):
                eve.submit(page, api_key="a-wrong-key")

        guesser = threading.Thread(target=guess)
        guesser.start()
        many = self.look("too many attempts", 429, "Too many attempts", "Try again")
        try:
            yield [[{"open": link}, {"type": {"api_key": "a-wrong-key"}}, {"press": "Continue"}, many]]
        finally:
            over.set()
            guesser.join()

    def links(self, gateway):
        link = self.link(gateway, accountId="other")
        yield [{"open": f"{gateway.url}/oauth/connect/made-up"}, self.look("bad link", 404, "no link of this gateway")]
        yield [{"open": link[:-9]}, self.look("cut off link", 404, "cut off", "ask your agent again", "!make the call")]
        foreign = self.gateway(seal={"keys": ["another key of the tests, with its 32 bytes"]})
        there = link.replace(gateway.url, foreign.url)
        yield [{"open": there}, self.look("foreign link", 404, "no link of this gateway")]
        short = self.gateway(connect={"link_ttl": "1s"})
        link = self.link(short)
        until("the link to expire", lambda: fetch(link).status == 410)
        yield [{"open": link}, self.look("expired link", 410, "This link has expired", "Ask your agent again")]

    def failing(self):
        with Oidc(self.upstream.url) as server:
            gateway = self.gateway(protected("notes", server, title="Notes"))
            link = self.link(gateway)
        down = self.look("sign-in server down", 424, "The sign-in did not work", "Notes", "Try again")
        yield [{"open": link}, {"press": "Continue"}, down]

    def welcome(self, alone, keyed):
        for name, gateway, path, *parts in (
            ("at the root", alone, "/", f"{alone.url}/mcp", "!x-api-key", "!notes"),
            ("at a view", alone, "/tools", f"{alone.url}/tools", "mcpServers"),
            ("at a provider with keys", keyed, "/mcp/notes", f"{keyed.url}/mcp/notes", "x-api-key", "YOUR-KEY"),
            ("at no provider", keyed, "/relay/nothing", f"{keyed.url}/relay/nothing", "YOUR-KEY"),
        ):
            yield [{"open": f"{gateway.url}{path}"}, self.look(name, 200, *parts)]

    def long(self):
        """Names that fill no line, and hosts and scopes that fill several."""
        host = f"https://{LONG['host']}"
        oauth = {
            "client_id": "one",
            "authorization_endpoint": f"{host}/authorize",
            "token_endpoint": f"{host}/token",
            "scopes": LONG["scopes"],
        }
        gateway = self.gateway(protected("notes", self.server, oauth, title=LONG["title"].strip()), name=LONG["name"])
        link = self.link(gateway, accountId="somebody.with.a.long.name@department.of.long.names.example.com")
        long = self.look("long", 200, LONG["host"], LONG["scopes"][0], "and 6 more")
        yield [{"open": link}, long]

    def commands(self):
        """`pleiades connect` beside no gateway that runs: its own pages."""
        command = Connect(self.stack, self.server)
        connected = self.look("connect: connected", 200, "zoe", "Notes is connected", "You can close this page")
        yield [[{"open": command.begin()}, *self.sign_in("zoe"), connected]]
        asked_there = self.look("connect: asked", 200, "One question is left", "Notes")
        yield [[{"open": command.begin()}, *self.sign_in("eve"), asked_there]]
        url = command.begin()
        at = unquote(re.search(r"redirect_uri=([^&]+)", url)[1])
        nothing = self.look("connect: nothing", 404, "Nothing is here")
        denied = self.look("connect: cancelled", 400, "Not connected", "Access was refused at Notes")
        yield [[{"open": at}, nothing, {"open": url}, {"press": "Cancel"}, denied]]


class Connect:
    """`pleiades connect`, time after time, where no gateway runs."""

    def __init__(self, stack, server):
        self.stack, self.process = stack, None
        # Made for its folders and its settings.
        self.gateway = stack.enter_context(Gateway(protected("notes", server, title="Notes")))
        self.gateway.terminate()

    def begin(self):
        """The address to sign in at."""
        if self.process:
            self.process.wait(GUARD)
        program = [str(PLEIADES), "--config", "pleiades.yaml"]
        self.process = subprocess.Popen(
            [*program, "connect", "notes", "--account", "home", "--no-browser"],
            cwd=self.gateway.home,
            env=self.gateway.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.stack.callback(self.process.wait)
        self.stack.callback(self.process.kill)
        written = []
        for line in self.process.stderr:
            written.append(line)
            if line.strip().startswith("http"):
                # What it writes later must find room.
                threading.Thread(target=self.process.stderr.read, daemon=True).start()
                return line.strip()
        raise AssertionError(f"no address: {''.join(written)}")
