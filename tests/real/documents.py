"""What README and the pages of docs say to type is typed here, as it stands there, and prints what they show.

A page is read from its top to its end in a folder of its own, which stands for the reader's clone: blocks that name their
file in a first line (`# providers.d/notes.yaml`) are written, `sh` blocks are run, a `text` block after one is what it
prints (`…` stands for anything). A command that serves goes on until the page ends. Only this differs from what a reader
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
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import threading

from mcp import GUARD, fetch
from oauth import Oidc
from world import PLEIADES, ROOT, Everything, free_port, server_script, until

NOT_RUN = ROOT / "tests/data/commands_not_run.txt"
# Spans in prose that are commands begin with one of these, after variables.
PROGRAMS = {"cargo", "curl", "jq", "kill", "npx", "openssl", "printf", "sha256sum", "sqlite3", "systemctl"}
# Of these two words, since `vault rekey` is one of ours.
PROGRAMS |= {"vault kv", "vault token", "vault write"}
ASSIGNED = re.compile(r"[A-Z_]+=")


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

    def __init__(self, page, peers):
        self.page, self.peers = page, peers
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="pleiades-reader-"))
        self.clone = self.home / "pleiades"
        self.port, self.admin = free_port(), free_port()
        self.serving = None
        self.listed = not_run().get(page, set())
        self.prepare()

    def prepare(self):
        self.clone.mkdir()
        shutil.copytree(ROOT / "schemas", self.clone / "schemas")
        (self.clone / "providers.d").mkdir()
        for path in sorted((ROOT / "providers.d").glob("*.yaml")):
            self.write(path.relative_to(ROOT), path.read_text())
        programs = self.home / "bin"
        programs.mkdir()
        (programs / "pleiades").symlink_to(PLEIADES)
        script(programs / "cargo", CARGO)
        script(programs / "xdg-open", f"#!{sys.executable}\n{BROWSER}")
        folders = {"HOME": self.home, "XDG_RUNTIME_DIR": self.home / "run"}
        (self.home / "run").mkdir(mode=0o700)
        own = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "PLEIADES_", "RUST_LOG"))}
        self.environment = {
            **own,
            **{name: str(path) for name, path in folders.items()},
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT / "tests/real"),
            "PLEIADES_SERVERS": os.environ["PLEIADES_SERVERS"],
            "TOKEN": "a-token-that-somebody-got-elsewhere",
        }
        config = self.home / ".config/pleiades/pleiades.yaml"
        config.parent.mkdir(parents=True)
        addresses = {"listen": f"127.0.0.1:{self.port}", "admin": f"127.0.0.1:{self.admin}"}
        config.write_text(json.dumps({**addresses, "providers": str(self.clone / "providers.d")}))

    def here(self, text):
        """A text of the page with the addresses of this run."""
        text = text.replace("8787", str(self.port)).replace("8788", str(self.admin))
        for theirs, ours in self.peers.elsewhere.items():
            text = text.replace(theirs, ours)
        return text

    def there(self, text):
        """What was printed, with the addresses of the page and a clone's path that is nobody's."""
        text = text.replace(str(self.port), "8787").replace(str(self.admin), "8788")
        for theirs, ours in self.peers.elsewhere.items():
            text = text.replace(ours, theirs)
        return text.replace(str(self.clone) + "/", "").replace(str(self.home), "~")

    def write(self, path, text):
        target = self.clone / path
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_name(f".{target.name}")
        draft.write_text(self.here(text))
        draft.rename(target)

    def run(self, block):
        """The lines of a block in one shell, as if they were typed one after the other."""
        lines = [line for line in block.text.splitlines() if bare(line) not in self.listed]
        if any(serves(line) for line in lines if bare(line)):
            assert len(lines) == 1, f"{block.place}: what serves stands alone"
            return self.serve(lines[0])
        code, printed = self.typed("\n".join(lines))
        assert code == 0, f"{code}: {printed}{self.logs()}"
        if block.shows:
            wanted = re.escape(block.shows.text.strip()).replace("…", r"[\s\S]*?")
            assert re.fullmatch(wanted, printed.strip()), f"the page shows\n{block.shows.text}\nand it prints\n{printed}"

    def typed(self, text):
        """The exit code of a shell's lines, and what they printed on a terminal."""
        master, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 200, 0, 0))
        shell = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", self.here(text)],
            stdin=subprocess.DEVNULL,
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
        os.close(master)
        code = shell.wait()
        guard.cancel()
        return code, self.there(seen(printed.decode(errors="replace")))

    def serve(self, line):
        self.stop()
        self.output = (self.home / "serving.log").open("wb")
        self.serving = subprocess.Popen(
            ["bash", "-c", f"exec {self.here(line)}"],
            stdin=subprocess.DEVNULL,
            stdout=self.output,
            stderr=self.output,
            cwd=self.clone,
            env=self.environment,
        )
        until("the gateway to be ready", self.is_ready)

    def is_ready(self):
        assert self.serving.poll() is None, self.logs()
        try:
            return fetch(f"http://127.0.0.1:{self.admin}/ready").status == 200
        except OSError:
            return False

    def logs(self):
        """What the gateway and the person said meanwhile."""
        found = [path for path in sorted(self.home.glob("*.log")) if path.stat().st_size]
        return "".join(f"\n{path.name}:\n{path.read_text(errors='replace')[-3000:]}" for path in found)

    def stop(self):
        if self.serving and self.serving.poll() is None:
            # The second signal ends what the first lets go on.
            self.serving.send_signal(signal.SIGTERM)
            self.serving.send_signal(signal.SIGTERM)
            self.serving.wait(GUARD)
        self.serving = None

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


def script(path, text):
    path.write_text(text)
    path.chmod(0o755)


class Peers:
    """Servers that stand for those that the pages name."""

    def __init__(self, everything, oidc):
        self.oidc = oidc
        package = '[npx, -y, "@modelcontextprotocol/server-everything"]'
        local = json.dumps(["node", server_script("server-everything"), "stdio"])
        self.elsewhere = {
            "https://mcp.deepwiki.com/mcp": everything.url,
            "https://mcp.linear.app/mcp": oidc.url,
            package: local,
        }


def title(block):
    first = next((bare(line) for line in block.text.splitlines() if bare(line)), "")
    return f"{block.place}: `{first}`" + (" and what follows it" if block.text.count("\n") > 1 else "")


def checks():
    with Everything() as everything, Oidc(everything.url) as oidc:
        peers = Peers(everything, oidc)
        for page in pages():
            yield from read(page, peers)
        yield "every expression of METRICS.md is one that Prometheus takes", expressions


def read(page, peers):
    found = blocks(page)
    commands = [span for span in spans(page) if is_command(span) and span not in not_run().get(page, set())]
    if not commands and not any(block.language == "sh" for block in found):
        return
    with Reader(page, peers) as reader:
        for block in found:
            named = re.match(r"# (\S+\.(?:yaml|conf|service))\n", block.text)
            if named:
                reader.write(named[1], block.text)
            if block.language == "sh" and any(bare(line) not in reader.listed for line in block.text.splitlines()):
                yield title(block), lambda block=block: reader.run(block)
        for command in commands:
            block = Block(page, "in the text", "sh", command)
            yield title(block), lambda block=block: reader.run(block)


def is_command(span):
    words = [word for word in span.split() if not ASSIGNED.match(word)]
    return len(words) > 1 and bool({words[0], " ".join(words[:2])} & PROGRAMS)


def expressions():
    rows = (ROOT / "docs/METRICS.md").read_text().split("## Worth an alert")[1].splitlines()
    cells = [re.split(r"(?<!\\)\|", row) for row in rows if row.startswith("| ") and "`" in row]
    found = [span.replace("\\|", "|") for cell in cells for span in cell[2].split("`")[1::2]]
    assert len(found) >= 10, found
    rules = [{"alert": f"A{number}", "expr": text} for number, text in enumerate(found)]
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "rules.yaml")
        path.write_text(json.dumps({"groups": [{"name": "documented", "rules": rules}]}))
        done = subprocess.run([os.environ["PLEIADES_PROMTOOL"], "check", "rules", path], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
