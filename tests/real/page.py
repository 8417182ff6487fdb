"""The connect page in a real browser, without script: on a wide and a narrow window, with a key and without."""

import json
import os
import subprocess

from connecting import ANN, USERS, keys
from mcp import GUARD, J
from oauth import Oidc, Person, asked, caller, link_of, protected
from world import ROOT, Everything, Gateway

SCRIPT = ROOT / "tests/peers/browser/walk.mjs"


def checks():
    with Everything() as upstream, Oidc(upstream.url) as server:
        yield "a person on loopback agrees, logs in and is told that it worked", lambda: walked(server)
        yield "a person with a key does the same on a narrow window", lambda: walked(server, ANN, width=360)
        yield "a person who cancels at the provider is told so, and nothing is connected", lambda: refused(server)


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
