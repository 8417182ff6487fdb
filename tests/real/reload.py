"""Live reload: what changes in the folder reaches those who are connected, and disturbs nobody else."""

import json
import os
import pathlib
import shutil
import threading

from mcp import J, L, M, NAMES, Client, RpcError, fetch
from world import Gateway, Modern, metric, provider, until

CHANGED = "notifications/tools/list_changed"


def checks():
    with Modern() as upstream:
        yield from changes(upstream)
        yield from folder(upstream)
        yield from config_map(upstream)


def changes(upstream):
    with Gateway(provider("first", upstream.url)) as gateway:
        gateway.settled("first")

        def hears(revision, view, name):
            client = Client(f"{gateway.url}/{view}", revision).connect()
            before = {tool["name"] for tool in client.tools()}
            stream = client.listen()
            gateway.write(provider(name, upstream.url))
            stream.wait_for(CHANGED)
            gateway.settled(name)
            wanted = f"use_{name}" if view == "mcp" else f"{name}__echo"
            after = {tool["name"] for tool in client.tools()}
            assert wanted in after - before, after - before
            stream.close()

        def upstream_changes(revision, view):
            client = Client(f"{gateway.url}/{view}/first", revision).connect()
            stream = client.listen()
            caller = Client(f"{gateway.url}/tools/first", revision).connect()
            count = len(caller.tools())
            caller.call("grow")
            stream.wait_for(CHANGED)
            until("the new tool to be listed", lambda: len(caller.tools()) > count)
            stream.close()

        def undisturbed(own):
            client = Client(f"{gateway.url}/tools/first", L).connect()
            answers = []
            running = threading.Thread(
                target=lambda: answers.append(client.call("slow", {"steps": 30}))
            )
            running.start()
            generation = fetch(f"{gateway.admin}/metrics").text
            before = metric(generation, "pleiades_reload_generation")
            changed = provider("first" if own else "beside", upstream.url, title=f"changed {own}")
            gateway.write(changed)
            until(
                "the reload",
                lambda: metric(fetch(f"{gateway.admin}/metrics").text, "pleiades_reload_generation")
                > before,
            )
            running.join()
            assert answers and answers[0]["content"][0]["text"] == "done", answers
            assert client.call("echo", {"message": "hi"})["content"][0]["text"] == "hi"

        def removed():
            gateway.write(provider("gone", upstream.url))
            gateway.settled("gone")
            client = Client(f"{gateway.url}/tools/gone", M).connect()
            (gateway.providers / "gone.yaml").unlink()
            until("the provider to go", lambda: gateway.status("gone") is None)
            try:
                client.tools()
                raise AssertionError("a removed provider answered")
            except RpcError as refusal:
                assert refusal.status == 404, refusal

        for revision in (J, L, M):
            for view in ("tools", "mcp"):
                yield (
                    f"a client of {NAMES[revision]} listening at /{view} hears of a new provider",
                    lambda r=revision, v=view: hears(r, v, f"{NAMES[r]}_{v}".lower()),
                )
            yield (
                f"a client of {NAMES[revision]} listening at /tools/first hears of the upstream's change",
                lambda r=revision: upstream_changes(r, "tools"),
            )
        yield "a running call outlives the reload of another provider", lambda: undisturbed(False)
        yield "a running call outlives the reload of its own provider", lambda: undisturbed(True)
        yield "a removed provider is 404", removed


def folder(upstream):
    with Gateway(provider("kept", upstream.url), provider("other", upstream.url)) as gateway:
        gateway.settled("kept")
        path = gateway.providers / "kept.yaml"
        good = path.read_text()

        def works():
            client = Client(f"{gateway.url}/tools/kept", M).connect()
            assert client.call("echo", {"message": "hi"})["content"][0]["text"] == "hi"

        def broken():
            path.write_text("id: kept\nupstream: {urll: nowhere}\n")
            row = gateway.settled("kept", "stale")
            assert row["faults"], row
            works()
            text = fetch(f"{gateway.admin}/metrics").text
            assert metric(text, "pleiades_providers", state="stale") == 1, text
            path.write_text(good)
            gateway.settled("kept")

        def emptied():
            aside = gateway.home / "aside"
            aside.mkdir()
            for file in list(gateway.providers.iterdir()):
                file.rename(aside / file.name)
            until("the refusal", lambda: "refused" in fetch(f"{gateway.admin}/providers").text)
            works()
            for file in list(aside.iterdir()):
                file.rename(gateway.providers / file.name)
            until("the way back", lambda: '"refused"' not in fetch(f"{gateway.admin}/providers").text)
            works()

        yield "a broken file leaves its last good version running and says so", broken
        yield "a folder suddenly empty is refused and said", emptied


def config_map(upstream):
    """The symlink swap with which Kubernetes updates a mounted ConfigMap."""
    with Gateway(provider("first", upstream.url)) as gateway:
        mount = gateway.providers
        version = 0

        def publish(*descriptors):
            nonlocal version
            version += 1
            data = mount / f"..2026_{version}"
            data.mkdir()
            for descriptor in descriptors:
                text = json.dumps(descriptor)
                (data / f"{descriptor['id']}.yaml").write_text(text)
            draft = mount / "..data_tmp"
            draft.symlink_to(data.name)
            before = (mount / "..data").resolve() if (mount / "..data").exists() else None
            os.replace(draft, mount / "..data")
            for descriptor in descriptors:
                link = mount / f"{descriptor['id']}.yaml"
                if not link.is_symlink():
                    link.unlink(missing_ok=True)
                    link.symlink_to(pathlib.Path("..data") / link.name)
            if before:
                shutil.rmtree(before)

        def swapped():
            publish(provider("first", upstream.url))
            gateway.settled("first")
            for title in ("one", "two", "three"):
                publish(provider("first", upstream.url, title=title), provider("second", upstream.url))
                until(
                    f"the title {title}",
                    lambda title=title: (row := gateway.status("first")) and row["title"] == title,
                )
            gateway.settled("second")
            client = Client(f"{gateway.url}/tools/second", M).connect()
            assert client.call("echo", {"message": "hi"})["content"][0]["text"] == "hi"

        yield "every swap of a mounted ConfigMap is served", swapped
