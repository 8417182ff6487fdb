"""What README and the pages of docs say to type is typed here, as it stands there, and prints what they show.

A page is read from its top to its end in a folder of its own, which stands for the reader's clone: blocks that name their
file in a first line (`# providers.d/notes.yaml`) are written, `sh` blocks are run, a `text` block after one is what it
prints (`…` stands for anything). Questions are answered as `ANSWERS` says. A command that serves goes on until the page ends. Only this differs from what a reader
types, because many tests run at once and none asks the network:

- `cargo run --release -- X` runs the program that was built for the tests;
- ports 8787 and 8788 are free ones, and servers of others on the network are peers of the tests (`ELSEWHERE`);
- a browser that a command opens is a person of the tests.

What cannot be run stands in `tests/data/commands_not_run.txt` with the reason; `tests/it/documents.rs` holds usages
(`pleiades doctor PROVIDER`) against `--help`.
"""

import contextlib
import fcntl
import json
import os
import pathlib
import pty
import re
import secrets
import shlex
import shutil
import signal
import ssl
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import urllib.request

import tls
from mcp import GUARD, fetch
from oauth import Oidc, Person
from world import PLEIADES, ROOT, Everything, Process, free_port, listens, server_script, until

NOT_RUN = ROOT / "tests/data/commands_not_run.txt"
# Spans in prose that are commands begin with one of these, after variables.
PROGRAMS = {"cargo", "curl", "jq", "kill", "npx", "openssl", "printf", "sha256sum", "sqlite3", "systemctl"}
# Of these two words, since `vault rekey` is one of ours.
PROGRAMS |= {"vault kv", "vault token", "vault write"}
# Pages whose readers have accounts of `mail`.
CONNECTED = {"docs/ACCOUNTS.md", "docs/CREDENTIALS.md"}
# Pages whose readers have the files that another page shows.
PREPARED = {"docs/OPERATING.md": "docs/DEPLOYING.md"}
# What is typed where a command asks.
ANSWERS = {b"[y/N] ": b"y\n", b"(Enter: as it is): ": b"\n"}
ASSIGNED = re.compile(r"[A-Z_]+=")
# The keys whose digests the pages show.
OPERATIONS, ANN, BOB = (f"an-example-key-of-{name}" for name in ("operations", "ann", "bob"))


class Block:
    def __init__(self, page, line, language, text):
        self.page, self.line, self.language, self.text = page, line, language, text
        self.shows = None

    @property
    def place(self):
        return f"{self.page}:{self.line}"


def pages():
    own = sorted(path.name for path in ROOT.glob("*.md") if path.name != "CHANGELOG.md")
    return own + sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))


def blocks(page):
    found, inside = [], False
    for number, line in enumerate((ROOT / page).read_text().splitlines(), 1):
        if line.startswith("```"):
            inside = not inside
            if inside:
                found.append(Block(page, number, line[3:], ""))
            continue
        if inside:
            found[-1].text += line + "\n"
    for block, after in zip(found, found[1:]):
        if block.language == "sh" and after.language == "text":
            between = (ROOT / page).read_text().splitlines()[block.line : after.line - 1]
            if not any(line.strip() for line in between[block.text.count("\n") + 1 :]):
                block.shows = after
    return found


def spans(page):
    prose = " ".join((ROOT / page).read_text().split("```")[::2])
    return [" ".join(span.split()) for span in prose.split("`")[1::2]]


def not_run():
    """Commands that are not run, by page."""
    listed = {}
    for line in NOT_RUN.read_text().splitlines():
        if line and not line.startswith(("#", " ")):
            page, command = line.split(": ", 1)
            listed.setdefault(page, set()).add(command)
    return listed


def bare(line):
    """A line without the words about it."""
    return re.sub(r"\s+#\s.*$", "", line).strip()


def serves(line):
    """Whether a line is the gateway itself, which ends only when it is told to."""
    words = [word for word in shlex.split(line, comments=True) if not ASSIGNED.match(word)]
    if words[:2] == ["cargo", "run"]:
        words = ["pleiades", *(words[words.index("--") + 1 :] if "--" in words else [])]
    if words[:1] != ["pleiades"]:
        return False
    commands = [word for word in words[1:] if re.fullmatch("[a-z]+", word)]
    return not commands or commands[0] == "serve"


class Reader:
    """Somebody who does what a page says, in a folder of their own."""

    def __init__(self, page, everything):
        self.page = page
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="pleiades-reader-"))
        self.clone = self.home / "pleiades"
        self.port, self.admin, self.front = free_port(), free_port(), free_port()
        self.listed = not_run().get(page, set())
        self.clients = {name: secrets.token_urlsafe(24) for name in ("login", "google")}
        self.oidc = Oidc(everything.url, clients=[self.client(name) for name in self.clients])
        self.elsewhere = self.standing_in(everything)
        self.prepare()

    def client(self, name):
        """A client that somebody registered as the pages say."""
        base = f"https://localhost:{self.front}" if name == "login" else f"http://127.0.0.1:{self.port}"
        return {
            "client_id": name,
            "client_secret": self.clients[name],
            "redirect_uris": [f"{base}/oauth/callback"],
            "grant_types": ["authorization_code", "refresh_token"],
        }

    def standing_in(self, everything):
        """What stands for servers of others and for folders of a system."""
        package = '[npx, -y, "@modelcontextprotocol/server-everything"]'
        local = json.dumps(["node", server_script("server-everything"), "stdio"])
        return {
            "https://mcp.deepwiki.com/mcp": everything.url,
            "https://mcp.linear.app/mcp": self.oidc.url,
            "https://calendarmcp.googleapis.com/mcp/v1": self.oidc.url,
            "https://www.googleapis.com/auth/calendar": "mcp:read",
            "https://accounts.google.com": self.oidc.issuer,
            "https://mcp.example.com": f"https://localhost:{self.front}",
            "listen 443 ssl": f"listen 127.0.0.1:{self.front} ssl",
            "server_name mcp.example.com": "server_name localhost",
            # Google's page lets one choose; the peer asks everybody who they are.
            "consent select_account": "consent",
            package: local,
            "/usr/local/bin/pleiades": "pleiades",
            "/etc/ssl/mcp.example.com.pem": str(tls.FILES / "server.pem"),
            "/etc/ssl/mcp.example.com.key": str(tls.FILES / "server.key"),
            "/etc/": f"{self.home}/etc/",
            "/var/": f"{self.home}/var/",
        }

    def prepare(self):
        self.clone.mkdir()
        shutil.copytree(ROOT / "schemas", self.clone / "schemas")
        (self.clone / "providers.d").mkdir()
        for path in sorted((ROOT / "providers.d").glob("*.yaml")):
            self.write(str(path.relative_to(ROOT)), path.read_text())
        programs = self.home / "bin"
        programs.mkdir()
        (programs / "pleiades").symlink_to(PLEIADES)
        script(programs / "cargo", CARGO)
        script(programs / "xdg-open", f"#!{sys.executable}\n{BROWSER}")
        script(programs / "systemctl", f"#!{sys.executable}\n{SYSTEMCTL}")
        folders = {"HOME": self.home, "XDG_RUNTIME_DIR": self.home / "run"}
        (self.home / "run").mkdir(mode=0o700)
        # Somebody has started Cursor once.
        (self.home / ".cursor").mkdir()
        own = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "PLEIADES_", "RUST_LOG"))}
        self.environment = {
            **own,
            **{name: str(path) for name, path in folders.items()},
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT / "tests/real"),
            "PLEIADES_SERVERS": os.environ["PLEIADES_SERVERS"],
            "TOKEN": "a-token-that-somebody-got-elsewhere",
            "LOGIN_CLIENT_ID": "login",
            "LOGIN_CLIENT_SECRET": self.clients["login"],
            "GOOGLE_CLIENT_ID": "google",
            "GOOGLE_CLIENT_SECRET": self.clients["google"],
            "PLEIADES_ADMIN_KEY": OPERATIONS,
            "READY": f"http://127.0.0.1:{self.admin}/ready",
        }
        config = self.home / ".config/pleiades/pleiades.yaml"
        config.parent.mkdir(parents=True)
        addresses = {"listen": f"127.0.0.1:{self.port}", "admin": f"127.0.0.1:{self.admin}"}
        config.write_text(json.dumps({**addresses, "providers": str(self.clone / "providers.d")}))

    def here(self, text):
        """A text of the page with the addresses of this run."""
        text = text.replace("8787", str(self.port)).replace("8788", str(self.admin))
        for theirs, ours in self.elsewhere.items():
            text = text.replace(theirs, ours)
        return text

    def there(self, text):
        """What was printed, with the addresses of the page and a clone's path that is nobody's."""
        text = text.replace(str(self.port), "8787").replace(str(self.admin), "8788")
        for theirs, ours in self.elsewhere.items():
            text = text.replace(ours, theirs) if ours.startswith("http") else text
        return text.replace(str(self.clone) + "/", "").replace(str(self.home), "~")

    def write(self, path, text):
        target = self.clone / self.here(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_name(f".{target.name}")
        draft.write_text(self.here(text))
        draft.rename(target)
        if "/providers.d/" in str(target) and (self.home / "pleiades.pid").exists():
            # A reader is slower than the reload.
            until(f"the gateway to have read {target.name}", lambda: target.stem in self.enabled())

    def enabled(self):
        """The providers that run."""
        said = fetch(f"http://127.0.0.1:{self.admin}/providers", headers={"x-api-key": OPERATIONS})
        return [one["id"] for one in json.loads(said.text)["providers"] if one["state"] != "disabled"]

    def run(self, block):
        """The lines of a block in one shell, as if they were typed one after the other."""
        lines = [line for line in block.text.splitlines() if bare(line) not in self.listed]
        serving = [line for line in lines if bare(line) and serves(line)]
        if serving:
            assert serving == lines, f"{block.place}: what serves stands alone"
            for line in serving:
                self.serve(bare(line))
            return
        code, printed = self.typed("\n".join(lines))
        assert code == 0, f"{code}: {printed}{self.logs()}"
        if block.shows:
            wanted = re.escape(block.shows.text.strip()).replace("…", r"[\s\S]*?")
            assert re.fullmatch(wanted, printed.strip()), f"the page shows\n{block.shows.text}\nand it prints\n{printed}"

    def connect(self, *accounts):
        """Serves, with accounts of `mail` that are connected."""
        self.serve("pleiades")
        mail = {"id": "mail", "upstream": {"url": self.oidc.url}, "auth": {"oauth": {}}}
        self.write("providers.d/mail.yaml", json.dumps(mail))
        for account in accounts:
            code, printed = self.typed(f"pleiades connect mail --account {account}")
            assert code == 0, f"{code}: {printed}{self.logs()}"

    def typed(self, text):
        """The exit code of a shell's lines, and what they printed on a terminal."""
        master, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 200, 0, 0))
        shell = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", self.here(text)],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            cwd=self.clone,
            env=self.environment,
            start_new_session=True,
        )
        os.close(terminal)
        guard = threading.Timer(GUARD, os.killpg, (shell.pid, signal.SIGKILL))
        guard.start()
        printed = b""
        with contextlib.suppress(OSError):
            while part := os.read(master, 65536):
                printed += part
                if asked := next((end for end in ANSWERS if printed.endswith(end)), None):
                    os.write(master, ANSWERS[asked])
        # Closed earlier, it would hang up on a shell that is about to end.
        code = shell.wait()
        os.close(master)
        guard.cancel()
        return code, self.there(seen(printed.decode(errors="replace")))

    def serve(self, line):
        """A line that serves, as a service that `systemctl` can stop and start."""
        (self.home / "pleiades.service").write_text(self.here(line))
        code, printed = self.typed("systemctl restart pleiades")
        assert code == 0, f"{code}: {printed}{self.logs()}"

    def logs(self):
        """What the gateway and the person said meanwhile."""
        found = [path for path in sorted(self.home.glob("*.log")) if path.stat().st_size]
        return "".join(f"\n{path.name}:\n{path.read_text(errors='replace')[-3000:]}" for path in found)

    def stop(self):
        code, printed = self.typed("systemctl stop pleiades")
        assert code == 0, printed
        self.oidc.stop()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
        shutil.rmtree(self.home, ignore_errors=True)


def seen(text):
    """What a terminal shows: no colours, and of a line that was written over the last state."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r\n", "\n")
    return "\n".join(line.split("\r")[-1] for line in text.split("\n"))


CARGO = """#!/bin/sh
# `cargo run --release -- X`, of what is built already.
[ "$1 $2" = "run --release" ] || { echo "cargo $* is not run by the tests" >&2; exit 64; }
shift 2
[ "${1:---}" = -- ] || { echo "only what follows -- is taken" >&2; exit 64; }
[ $# = 0 ] || shift
exec pleiades "$@"
"""

# Somebody who signs in as Ada wherever a command leads them.
BROWSER = """
import pathlib, sys
from oauth import Person

sys.stderr = pathlib.Path.home().joinpath("browser.log").open("a")
ada = Person("ada")
page = ada.open(sys.argv[1])
if page.forms and not any("account" in form["fields"] for form in page.forms):
    page = ada.follow(ada.submit(page))
ada.through(page)
"""


# What systemd does with a unit: one process, whose end is waited for.
SYSTEMCTL = """
import os, pathlib, signal, subprocess, sys, time, urllib.request

home = pathlib.Path.home()
pid, log = home / "pleiades.pid", home / "serving.log"
verb = sys.argv[1]
if verb in ("stop", "restart") and pid.exists():
    running = int(pid.read_text())
    # The second signal ends what the first lets go on.
    for _ in range(2):
        os.kill(running, signal.SIGTERM)
        time.sleep(0.1)
    while pathlib.Path(f"/proc/{running}").exists():
        time.sleep(0.05)
    pid.unlink()
if verb in ("start", "restart"):
    lines = (home / "pleiades.service").read_text().splitlines()
    fields = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    command = fields.get("ExecStart", "\\n".join(lines))
    variables = dict(os.environ)
    if "EnvironmentFile" in fields:
        given = pathlib.Path(fields["EnvironmentFile"]).read_text().splitlines()
        variables |= dict(line.split("=", 1) for line in given)
    with log.open("ab") as output:
        service = subprocess.Popen(
            ["bash", "-c", f"exec env {command}"], stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            env=variables, start_new_session=True,
        )
    pid.write_text(str(service.pid))
    while True:
        if service.poll() is not None:
            sys.exit(log.read_text()[-3000:])
        try:
            urllib.request.urlopen(os.environ["READY"])
            break
        except OSError:
            time.sleep(0.05)
"""


def script(path, text):
    path.write_text(text)
    path.chmod(0o755)


def title(block):
    first = next((bare(line) for line in block.text.splitlines() if bare(line)), "")
    return f"{block.place}: `{first}`" + (" and what follows it" if block.text.count("\n") > 1 else "")


def checks():
    with Everything() as everything:
        for page in pages():
            yield from read(page, everything)
        yield "every expression of METRICS.md is one that Prometheus takes", expressions


def read(page, everything):
    found = blocks(page)
    commands = [span for span in spans(page) if is_command(span) and span not in not_run().get(page, set())]
    if not commands and not any(block.language == "sh" for block in found):
        return
    with Reader(page, everything) as reader:
        if page in CONNECTED:
            reader.connect("ada@example.com", "ada@example.org")
        for block in blocks(PREPARED[page]) if page in PREPARED else []:
            keep(block, reader)
        for block in found:
            keep(block, reader)
            if block.language == "sh" and any(bare(line) not in reader.listed for line in block.text.splitlines()):
                yield title(block), lambda block=block: reader.run(block)
                if (page, bare(block.text.splitlines()[0])) == ("docs/OPERATING.md", "systemctl start pleiades"):
                    yield "a team behind nginx, as OPERATING.md and DEPLOYING.md show both: people log in and connect", lambda: team(reader)
        for command in commands:
            block = Block(page, "in the text", "sh", command)
            yield title(block), lambda block=block: reader.run(block)


def keep(block, reader):
    """Writes a block that names its file in its first line."""
    named = re.match(r"# (\S+\.(?:yaml|conf|service))\n", block.text)
    if named:
        reader.write(named[1], block.text)
    if named and named[1].endswith(".service"):
        (reader.home / "pleiades.service").write_text(reader.here(block.text))


def is_command(span):
    words = [word for word in span.split() if not ASSIGNED.match(word)]
    return len(words) > 1 and bool({words[0], " ".join(words[:2])} & PROGRAMS)


def team(reader):
    """Ann connects an account through the documented nginx, and Bob cannot use her link."""
    reader.write("/etc/pleiades/providers.d/linear.yaml", (ROOT / "providers.d/linear.yaml").read_text().replace("enabled: false", ""))
    with Front(reader) as front:
        link = front.call(ANN, {"prompt": "x"})["data"]["connect_url"]
        assert link.startswith(f"{front.url}/oauth/connect/"), link
        page = front.log_in("bob", link)
        assert page.status == 403 and "somebody else" in page.text, page
        page = front.log_in("ann", link)
        assert page.status == 200 and "is connected" in page.text, f"{page}{reader.logs()}"
        answer = front.call(ANN, {"tool": "echo", "arguments": {"message": "hi"}})
        assert answer["status"] == "ok" and "hi" in answer["text"], answer
        assert front.call(BOB, {"tool": "echo", "arguments": {"message": "hi"}})["status"] == "needs_auth"


class Front(Process):
    """nginx with the file that the page shows."""

    def __init__(self, reader):
        self.url = f"https://localhost:{reader.front}"
        self.tls = ssl.create_default_context(cafile=tls.FILES / "first-ca.pem")
        included = reader.home / "etc/nginx/conf.d/pleiades.conf"
        config = reader.home / "nginx.conf"
        folders = "".join(f"{kind}_temp_path {reader.home}/{kind};" for kind in ("fastcgi", "uwsgi", "scgi", "proxy"))
        config.write_text(
            f"daemon off; master_process off; pid {reader.home}/nginx.pid; error_log {reader.home}/nginx.log; events {{}}"
            f"http {{ access_log off; client_body_temp_path {reader.home}/body; {folders} include {included}; }}"
        )
        super().__init__("nginx", [os.environ["PLEIADES_NGINX"], "-p", reader.home, "-c", config])
        until("nginx to listen", lambda: self.check_alive() or listens(reader.front))

    def call(self, key, arguments):
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "use_linear", "arguments": arguments}}
        headers = {"content-type": "application/json", "accept": "application/json, text/event-stream", "x-api-key": key}
        asked = urllib.request.Request(f"{self.url}/mcp", json.dumps(body).encode(), headers)
        text = urllib.request.urlopen(asked, timeout=GUARD, context=self.tls).read().decode()
        lines = [line[len("data:") :] for line in text.splitlines() if line.startswith("data:")]
        return json.loads(lines[-1] if lines else text)["result"]["structuredContent"]

    def log_in(self, name, link):
        """Opens a link, logs in, goes on to the provider and agrees there; the page at the end."""
        person = Person(name, tls=self.tls)
        page = person.through(person.follow(person.submit(person.open(link))))
        return person.through(person.follow(person.submit(page))) if page.status == 200 and page.forms else page


def expressions():
    page = (ROOT / "docs/METRICS.md").read_text().split("## Worth an alert")[1]
    block = page.split("```promql\n")[1].split("```")[0]
    found = [line for line in block.splitlines() if line and not line.startswith("#")]
    assert len(found) >= 10, found
    rules = [{"alert": f"A{number}", "expr": text} for number, text in enumerate(found)]
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "rules.yaml")
        path.write_text(json.dumps({"groups": [{"name": "documented", "rules": rules}]}))
        done = subprocess.run([os.environ["PLEIADES_PROMTOOL"], "check", "rules", path], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
