"""Prints what a model reads, in tokens; started by `scripts/tokens`, which builds first and has the options."""

import argparse
import collections
import contextlib
import gzip
import json
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests/real"))
sys.dont_write_bytecode = True
import conversations  # noqa: E402
from mcp import L, Client  # noqa: E402
from replay import Replay  # noqa: E402
from tokenizer import Tokenizer, compact  # noqa: E402
from world import ROOT, Gateway, provider, server_script  # noqa: E402

CATALOG = ROOT / "tests/data/catalogs.jsonl.gz"


def catalog(path):
    """The recorded tools of each server."""
    servers = collections.defaultdict(list)
    with (gzip.open if str(path).endswith(".gz") else open)(path, "rt") as lines:
        for line in lines:
            row = json.loads(line)
            tool = {
                key: row[key] for key in ("name", "description", "inputSchema", "annotations") if row.get(key)
            }
            servers[row.pop("server")].append(tool)
    return servers


def definition(tool):
    """What hosts hand to a model of a tool: its name, description and schema."""
    return compact(
        {"name": tool["name"], "description": tool.get("description", ""), "parameters": tool["inputSchema"]}
    )


def listed(tokenizer, tools):
    return tokenizer.count(*map(definition, tools))


def print_table(head, rows):
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row) + " |")


def saved(before, after):
    return f"{100 * (1 - after / before):.1f} %"


def definitions(tokenizer, path):
    servers = catalog(path)
    rows, sums = [], collections.Counter()
    with contextlib.ExitStack() as stack:
        upstreams = {name: stack.enter_context(Replay(tools, None)) for name, tools in servers.items()}
        described = [provider(name, upstream.url) for name, upstream in upstreams.items()]
        gateway = stack.enter_context(Gateway(*described))
        for name, tools in servers.items():
            gateway.settled(name)
            meta = Client(f"{gateway.url}/mcp/{name}", L).connect().tools()
            cost = {
                "tools": len(tools),
                "all": listed(tokenizer, tools),
                "names": tokenizer.count(compact([tool["name"] for tool in tools])),
                "meta": listed(tokenizer, meta),
                "wire": tokenizer.count(*map(compact, meta)),
            }
            sums.update(cost)
            rows.append((name, *cost.values(), saved(cost["all"], cost["meta"])))
    rows.append(("together", *sums.values(), saved(sums["all"], sums["meta"])))
    print_table(["provider", "tools", "all schemas", "names alone", "meta tool", "as listed", "saved"], rows)
    print(
        "\nTokens of o200k_base in one turn. Counted is the JSON of name, description and input schema, as the gateway"
        "\nlists them; annotations, `_meta` and output schemas are not, since hosts do not hand them to models: `as listed`"
        "\nis the meta tool with all of them. How a vendor wraps definitions is not counted.\n"
    )


class Talk:
    """A conversation as a client sends it: each turn the definitions and all that came before."""

    def __init__(self, tokenizer, tools):
        self.tokenizer, self.definitions = tokenizer, listed(tokenizer, tools)
        self.history, self.sent, self.turns, self.results = 0, 0, 0, 0

    def call(self, name, arguments, result):
        self.turn()
        call, result = self.tokenizer.counts([compact({"name": name, "arguments": arguments}), result])
        self.history += call + result
        self.results += result

    def turn(self):
        self.turns += 1
        self.sent += self.definitions + self.history

    def row(self):
        self.turn()  # The answer in words.
        return (
            self.turns,
            self.definitions,
            self.history - self.results,
            self.results,
            self.definitions + self.history,
            self.sent,
        )


def shown(result, structured):
    """What a client shows its model of a result."""
    if structured and "structuredContent" in result:
        return compact(result["structuredContent"])
    return "\n".join(block.get("text", "") for block in result["content"])


def plain(tokenizer, client, calls, structured):
    talk = Talk(tokenizer, client.tools())
    for _, name, arguments in calls:
        talk.call(name, arguments, shown(good(client.call(name, arguments)), structured))
    return talk


def through_meta(tokenizer, client, calls, structured, first):
    """`first`: what is asked beforehand: nothing, one menu, or before an operation is called for the first time its
    schema or a menu."""
    tools = client.tools()
    assert len(tools) == 1, tools
    use, talk, known = tools[0]["name"], Talk(tokenizer, tools), set()
    if first == "one menu":
        menu = {"prompt": calls[0][0]}
        talk.call(use, menu, shown(client.call(use, menu), structured))
    for goal, name, arguments in calls:
        asked = {"schemas": {"tool": name}, "menus": {"prompt": goal}}.get(first)
        if asked and name not in known:
            talk.call(use, asked, shown(client.call(use, asked), structured))
        known.add(name)
        whole = {"tool": name, "arguments": arguments}
        talk.call(use, whole, shown(good(client.call(use, whole)), structured))
    return talk


def good(result):
    assert not result.get("isError"), json.dumps(result)[:2000]
    return result


@contextlib.contextmanager
def played(servers):
    """Each conversation: its provider, and what makes its calls."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        folder = pathlib.Path(folder).resolve()
        conversations.fill(folder)
        recorded = {
            "github": (lambda: conversations.GITHUB, conversations.github),
            "notion": (lambda: conversations.NOTION, conversations.notion),
        }
        talks = {}
        for name, (calls, answer) in recorded.items():
            upstream = stack.enter_context(Replay(servers[name], answer))
            talks[f"{name} (recorded)"] = provider(name, upstream.url), calls
        command = ["node", server_script("server-filesystem"), folder]
        talks["filesystem (the official server)"] = (
            provider("filesystem", command=command),
            lambda: conversations.files(folder),
        )
        yield talks


def conversation(tokenizer, path, structured):
    rows, view = [], "structuredContent where there is one" if structured else "content"
    with played(catalog(path)) as talks:
        described = [dict(descriptor) for descriptor, _ in talks.values()]
        with Gateway(*described) as gateway:
            for title, (descriptor, calls) in talks.items():
                name = descriptor["id"]
                gateway.settled(name)
                client = Client(f"{gateway.url}/tools/{name}", L).connect()
                before = plain(tokenizer, client, calls(), structured).row()
                rows.append((title, "plain MCP", *before, ""))
                for first in (None, "one menu", "schemas", "menus"):
                    client = Client(f"{gateway.url}/mcp/{name}", L).connect()
                    talk = through_meta(tokenizer, client, calls(), structured, first).row()
                    how = f"meta, {first} first" if first else "meta, at once"
                    rows.append((title, how, *talk, saved(before[-1], talk[-1])))
    head = [
        "provider",
        "how",
        "turns",
        "definitions",
        "calls",
        "results",
        "context at the end",
        "sent in all",
        "saved",
    ]
    print_table(head, rows)
    print(
        f"\nTokens of o200k_base of ten calls and the answer after them. A client sends the definitions and all that came"
        f"\nbefore in each turn: `sent in all` is the sum over the turns, without any prompt cache; `context at the end`"
        f"\nis what the last turn holds. Results are what a client shows that shows {view}. `one menu first` begins with a"
        f"\nprompt; `schemas first` and `menus first` ask before each operation's first call, each time in a turn of its"
        f"\nown: the most that a model can ask, where plain MCP needs nothing. All of that is counted. Not counted are"
        f"\nsystem prompts, what the person writes, what the model thinks and how a vendor wraps messages: they are the"
        f"\nsame for both. Results of recorded servers are made by a seed, in the shapes and sizes that those servers"
        f"\nanswer by default; the gateway cuts results as descriptors do by default.\n"
    )


def main():
    parser = argparse.ArgumentParser(prog="scripts/tokens")
    parser.add_argument("what", nargs="?", choices=["definitions", "conversation"])
    parser.add_argument("--catalog", type=pathlib.Path, default=CATALOG)
    parser.add_argument("--structured", action="store_true")
    asked = parser.parse_args()
    with Tokenizer() as tokenizer:
        if asked.what != "conversation":
            definitions(tokenizer, asked.catalog)
        if asked.what != "definitions":
            conversation(tokenizer, CATALOG, asked.structured)


if __name__ == "__main__":
    main()
