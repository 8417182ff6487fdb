"""Commands about providers: what `import` writes runs, what `doctor` says is so."""

import http.server
import json
import os
import ssl
import subprocess
import threading

import tls
from mcp import GUARD, L, Client
from world import PLEIADES, Everything, Gateway, descendants, free_port, provider, server_script


def checks():
    with Everything() as everything:
        yield from imported(everything)
        yield from examined(everything)


def run(folder, *words, **env):
    command = [str(PLEIADES), "--providers", str(folder), *words]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=GUARD, cwd=folder.parent, env={**os.environ, **env}
    )


def imported(everything):
    with Gateway() as gateway:
        source = gateway.providers.parent / "mcp.json"
        command = {"command": "node", "args": [server_script("server-everything"), "stdio"]}
        secret = {"env": {"EVERYTHING_TOKEN": "a-literal-token"}}
        servers = {"remote": {"url": everything.url}, "local": command, "keyed": {**command, **secret}}
        source.write_text("// a comment\n" + json.dumps({"mcpServers": servers}))

        def runs():
            done = run(gateway.providers, "import", str(source), "--json")
            assert done.returncode == 0, done
            report = json.loads(done.stdout)
            assert [one["enabled"] for one in report["written"]] == [True, True, False], report
            for name in ("remote", "local"):
                gateway.settled(name)
                client = Client(f"{gateway.url}/tools/{name}", L).connect()
                assert "hi" in client.call("echo", {"message": "hi"})["content"][0]["text"]
            written = "".join(file.read_text() for file in gateway.providers.glob("*.yaml"))
            assert "a-literal-token" not in written + done.stdout + done.stderr, written
            assert run(gateway.providers, "check", str(gateway.providers)).returncode == 0

        def stays():
            done = run(gateway.providers, "import", str(source))
            assert done.returncode == 64 and "is there already" in done.stdout, done

        yield "`pleiades import` writes descriptors that the gateway serves, and no secret", runs
        yield "`pleiades import` writes over nothing", stays


def doctor(folder, name, **env):
    done = run(folder, "doctor", name, "--json", **env)
    report = json.loads(done.stdout)
    assert done.returncode == (0 if report["ok"] else 69), done
    return {step["step"]: step for step in report["steps"]}


def examined(everything):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), tls.Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls.FILES / "server.pem", tls.FILES / "server.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"https://localhost:{server.server_address[1]}/mcp"
    ca = {"tls": {"ca_file": str(tls.FILES / "first-ca.pem")}}
    other = {"tls": {"ca_file": str(tls.FILES / "second-ca.pem")}}
    named = {
        "remote": provider("remote", everything.url),
        "dead": provider("dead", f"http://127.0.0.1:{free_port()}/mcp"),
        "path": provider("path", everything.url.replace("/mcp", "/nothing")),
        "plain": provider("plain", everything.url.replace("http:", "https:")),
        "unknown": provider("unknown", url),
        "other": provider("other", url, upstream=other),
        "known": provider("known", url, upstream=ca),
    }
    try:
        with Gateway(*named.values()) as gateway:

            def well():
                steps = doctor(gateway.providers, "remote")
                assert steps["protocol"]["detail"].startswith("mcp-servers/everything 2."), steps
                assert "2025-06-18, 2025-11-25" in steps["protocol"]["detail"], steps
                assert steps["lists"]["state"] == "ok" and " tools, " in steps["lists"]["detail"], steps
                assert doctor(gateway.providers, "known")["tls"]["state"] == "ok"

            def fails(name, step, word):
                steps = doctor(gateway.providers, name)
                states = {key: one["state"] for key, one in steps.items()}
                assert states[step] == "failed" and states["lists"] == "skipped", steps
                assert word in steps[step]["cure"], steps

            yield "`pleiades doctor` finds a server well, also behind a private authority", well
            for name, step, word in (
                ("dead", "tcp", "start the server"),
                ("path", "http", "/mcp"),
                ("plain", "tls", "http://"),
                ("unknown", "tls", "ca_file"),
                ("other", "tls", "ca_file"),
            ):
                yield (
                    f"`pleiades doctor` finds the step `{step}` of a server that is {name}",
                    lambda name=name, step=step, word=word: fails(name, step, word),
                )
            yield "`pleiades doctor` starts a command and leaves no process behind", lambda: local(gateway)
    finally:
        server.shutdown()


def local(gateway):
    before = set(descendants(os.getpid()))
    path = gateway.providers / "local.yaml"
    script = server_script("server-everything")
    path.write_text(f"id: local\nupstream: {{command: [node, {json.dumps(script)}, stdio]}}\nauth: {{none: {{}}}}\n")
    steps = doctor(gateway.providers, "local")
    assert steps["start"]["state"] == "ok" and "stderr" in str(steps["start"]["lines"]), steps
    gateway.settled("local")
    path.unlink()
    left = set(descendants(os.getpid())) - before - set(descendants(gateway.pid))
    assert not left, left
