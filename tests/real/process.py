"""The process: how it ends, how two of it share sessions, how it serves stdin, what it shows outside."""

import json
import os
import subprocess
import threading

from mcp import GUARD, J, L, M, META, NAMES, Client, fetch
from world import (
    PLEIADES,
    Gateway,
    Modern,
    descendants,
    everything_stdio,
    free_port,
    is_alive,
    metric,
    provider,
    until,
)


def checks():
    yield from outside()
    yield from two()
    yield from ending()
    yield from stdin()
    yield from command_line()


def outside():
    with Modern() as upstream:
        dead = provider("dead", f"http://127.0.0.1:{free_port()}/mcp")
        with Gateway(provider("modern", upstream.url), dead) as gateway:
            gateway.settled("modern")

            def metrics():
                for view, tool in (("tools", "echo"), ("mcp", "use_modern"), ("relay", "echo")):
                    client = Client(f"{gateway.url}/{view}/modern", L).connect()
                    arguments = {"message": "hi"}
                    if view == "mcp":
                        arguments = {"tool": "echo", "arguments": arguments}
                    client.call(tool, arguments)
                text = fetch(f"{gateway.admin}/metrics").text
                for view in ("tool", "meta", "relay"):
                    counted = metric(text, "pleiades_calls_total", provider="modern", view=view)
                    assert counted >= 1, f"{view}: {counted}"
                assert metric(text, "pleiades_tools", provider="modern") >= 9, text
                promtool = os.environ["PLEIADES_PROMTOOL"]
                done = subprocess.run(
                    [promtool, "check", "metrics"], input=text, capture_output=True, text=True
                )
                assert done.returncode == 0 and not done.stdout + done.stderr, done

            def alive():
                assert fetch(f"{gateway.url}/health").status == 200
                assert fetch(f"{gateway.admin}/health").status == 200
                assert fetch(f"{gateway.admin}/ready").status == 200

            def doors():
                url = f"{gateway.url}/health"
                assert fetch(url, headers={"host": "evil.example"}).status == 403
                assert fetch(url, headers={"origin": "http://evil.example"}).status == 403
                assert fetch(url, headers={"origin": gateway.url}).status == 200

            yield "/metrics counts each view and promtool finds nothing to say", metrics
            yield "/health and /ready answer on their listeners", alive
            yield "foreign Host and Origin are refused", doors


def two():
    with Modern("--only-legacy", L) as upstream:
        one = provider("modern", upstream.url)
        with Gateway(one) as first, Gateway(one) as second:
            first.settled("modern")
            second.settled("modern")

            def in_turn(revision, view):
                client = Client(f"{first.url}/{view}/modern", revision).connect()
                tool, arguments = "echo", {"message": "hi"}
                if view == "mcp":
                    tool, arguments = "use_modern", {"tool": "echo", "arguments": arguments}
                for turn in range(6):
                    client.host = (first, second)[turn % 2].url.removeprefix("http://")
                    assert client.call(tool, arguments)["content"][0]["text"] == "hi"

            for revision in (J, L):
                for view in ("tools", "mcp", "relay"):
                    if (revision, view) == (J, "relay"):
                        continue  # its server speaks only L
                    yield (
                        f"two gateways serve one session of {NAMES[revision]} at /{view} in turn",
                        lambda r=revision, v=view: in_turn(r, v),
                    )


def ending():
    def polite(revision):
        gateway = Gateway(everything_stdio())
        try:
            gateway.settled("everything")
            client = Client(f"{gateway.url}/tools/everything", revision).connect()
            client.call("echo", {"message": "hi"})
            stream = client.listen()
            children = descendants(gateway.pid)
            assert children, "the stdio server is not our child"
            code = gateway.terminate()
            assert code == 0, f"ended with {code}:\n{gateway.output()[-2000:]}"
            stream.ended()
            until("the children to end", lambda: not any(map(is_alive, children)))
        finally:
            gateway.stop()

    def running():
        """drain + grace leave time for a call that runs."""
        with Modern() as upstream:
            gateway = Gateway(provider("modern", upstream.url))
            try:
                gateway.settled("modern")
                client = Client(f"{gateway.url}/tools/modern", L).connect()
                answers = []
                call = threading.Thread(
                    target=lambda: answers.append(client.call("slow", {"steps": 20}))
                )
                call.start()
                until("the call to run", lambda: gateway.inflight("modern"))
                assert gateway.terminate() == 0
                call.join()
                assert answers and answers[0]["content"][0]["text"] == "done", answers
            finally:
                gateway.stop()

    for revision in (L, M):
        yield (
            f"SIGTERM ends an open stream of {NAMES[revision]}, the children and the process",
            lambda revision=revision: polite(revision),
        )
    yield "SIGTERM lets a running call finish", running


class Piped:
    """`pleiades stdio` spoken to line by line."""

    def __init__(self, folder, *words):
        self.popen = subprocess.Popen(
            [str(PLEIADES), *words, "--providers", str(folder), "stdio"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
        )
        threading.Thread(target=self.popen.stderr.read, daemon=True).start()
        self.guard = threading.Timer(GUARD, self.popen.kill)
        self.guard.start()

    def send(self, message):
        self.popen.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        self.popen.stdin.flush()

    def ask(self, number, method, params):
        self.send({"id": number, "method": method, "params": params})
        for line in self.popen.stdout:
            message = json.loads(line)
            if message.get("id") == number:
                assert "result" in message, message
                return message["result"]
        raise AssertionError(f"{method} was not answered")

    def finish(self):
        """Ends stdin; the exit code, whatever stood on stdout after it, and the children it had."""
        children = descendants(self.popen.pid)
        self.popen.stdin.close()
        rest = self.popen.stdout.read()
        code = self.popen.wait(GUARD)
        self.guard.cancel()
        return code, rest, children


def stdin():
    with Gateway(everything_stdio()) as gateway:
        folder = gateway.providers

        def legacy(revision):
            piped = Piped(folder)
            hello = piped.ask(
                1,
                "initialize",
                {
                    "protocolVersion": revision,
                    "capabilities": {},
                    "clientInfo": {"name": "raw", "version": "1"},
                },
            )
            assert hello["protocolVersion"] == revision, hello
            piped.send({"method": "notifications/initialized"})
            works(piped, {})

        def modern():
            meta = {
                META + "protocolVersion": M,
                META + "clientCapabilities": {},
                META + "clientInfo": {"name": "raw", "version": "1"},
            }
            piped = Piped(folder)
            assert M in piped.ask(1, "server/discover", {"_meta": meta})["supportedVersions"]
            works(piped, {"_meta": meta})

        def works(piped, params):
            tools = piped.ask(2, "tools/list", params)["tools"]
            assert [tool["name"] for tool in tools] == ["use_everything"], tools
            call = {"tool": "echo", "arguments": {"message": "hi"}}
            result = piped.ask(3, "tools/call", {"name": "use_everything", "arguments": call, **params})
            assert "hi" in result["content"][0]["text"], result
            code, rest, children = piped.finish()
            assert code == 0, code
            assert all(json.loads(line) for line in rest.splitlines()), rest
            assert children, "the stdio server is not its child"
            until("the children to end", lambda: not any(map(is_alive, children)))

        def silent():
            piped = Piped(folder)
            code, rest, children = piped.finish()
            assert (code, rest) == (0, ""), (code, rest)
            until("the children to end", lambda: not any(map(is_alive, children)))

        for revision in (J, L):
            yield (
                f"stdio serves a client of {NAMES[revision]} and leaves no child behind",
                lambda revision=revision: legacy(revision),
            )
        yield "stdio serves a client of M and leaves no child behind", modern
        yield "stdio ends with 0 when stdin ends before a word", silent


def command_line():
    with Gateway(everything_stdio()) as gateway:
        folder = gateway.providers

        def run(*words):
            command = [str(PLEIADES), "--providers", str(folder), *words]
            return subprocess.run(
                command, capture_output=True, text=True, timeout=GUARD, cwd=gateway.home
            )

        def tools():
            done = run("--json", "tools", "everything")
            assert done.returncode == 0 and '"echo"' in done.stdout, done

        def call():
            done = run("call", "everything", "echo", '{"message": "hi"}')
            assert done.returncode == 0 and "hi" in done.stdout, done

        def add():
            with Modern() as upstream:
                done = run("add", upstream.url, "--id", "added")
                assert done.returncode == 0, done
                checked = run("check", str(folder / "added.yaml"))
                assert checked.returncode == 0, checked
                gateway.settled("added")
                client = Client(f"{gateway.url}/tools/added", L).connect()
                assert client.call("echo", {"message": "hi"})["content"][0]["text"] == "hi"

        def reports():
            (folder / "broken.yaml").write_text("id: broken\nupstream: {url: 'http://[oops'}\n")
            done = run("check", str(folder))
            assert done.returncode == 64, done
            assert "broken.yaml:" in done.stdout, done.stdout
            (folder / "broken.yaml").unlink()

        yield "`pleiades tools` lists", tools
        yield "`pleiades call` calls", call
        yield "`pleiades add` writes a descriptor that check accepts and the gateway serves", add
        yield "`pleiades check` ends with 64 when a file is faulty", reports
