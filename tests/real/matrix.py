"""The nine cells: every feature in each, in both views, as the one table that `docs/CELLS.md` shows."""

import os
import traceback

import features
import features_asked
from cell import CELLS, FLAGS, REVISIONS, VIEWS, Cell, label
from mcp import NAMES, RpcError
from world import CONFORMANCE, ROOT, Conformance, Gateway, everything_stdio, provider

DOCUMENT = ROOT / "docs/CELLS.md"
ROWS = features.ROWS + features_asked.ROWS
# A pipe does not say which call a question belongs to, so these are asked there too.
PIPED = features_asked.FORMS + features_asked.URLS + features_asked.ERAS


def checks():
    servers = {r: Conformance(*FLAGS[r]) for r in REVISIONS}
    try:
        descriptors = [provider(NAMES[r].lower(), servers[r].url) for r in REVISIONS]
        with Gateway(*descriptors) as gateway:
            for revision in REVISIONS:
                gateway.settled(NAMES[revision].lower())
            yield from table(gateway)
    finally:
        for server in servers.values():
            server.stop()
    yield from piped()


def table(gateway):
    found = {}
    for row in ROWS:
        yield f"{row.name}, in every cell", lambda row=row: whole(gateway, row, found)
    yield "the table of cells is the one in the documentation", lambda: documented(found)


def whole(gateway, row, found=None):
    """Runs a row in all cells and both views; names those that fail."""
    faults = []
    for client, upstream in CELLS:
        for view in row.views:
            cell = Cell(gateway, NAMES[upstream].lower(), client, upstream, view)
            fault = attempt(row, cell)
            faults += [f"{cell}: {fault}"] if fault else []
            if found is not None:
                worked = found.setdefault((row.name, label(client, upstream)), [])
                worked.append(not fault)
    assert not faults, f"{len(faults)} of {len(CELLS) * len(row.views)}\n  " + "\n  ".join(faults)


def attempt(row, cell):
    try:
        row.run(cell)
    except (AssertionError, RpcError, OSError, KeyError, ValueError, TypeError) as fault:
        where = traceback.extract_tb(fault.__traceback__)[-1]
        return f"{type(fault).__name__} at line {where.lineno} (`{where.line}`): {str(fault)[:600]}"
    return None


def shown(row, client, upstream, found):
    """What a cell of the table says."""
    cell = Cell.__new__(Cell)
    cell.client, cell.upstream, cell.view = client, upstream, "tools"
    if not all(found.get((row.name, label(client, upstream)), [False])):
        return "fails"
    return "yes" if row.where(cell) else f"- [{row.note_of(cell)}]"


def rendered(found):
    """The table and the sentences under it, as Markdown."""
    head = ["feature", *(label(*cell) for cell in CELLS)]
    lines = [head, ["---"] * len(head)]
    for row in ROWS:
        lines.append([row.name, *(shown(row, *cell, found) for cell in CELLS)])
    notes = [f"{number}. {sentence}" for number, sentence in features.NOTES.items()]
    return "\n".join(["| " + " | ".join(line) + " |" for line in lines] + ["", *notes])


def documented(found):
    """`PLEIADES_GOLDEN=rewrite` writes the table anew; what it says is for its reader to judge."""
    text = rendered(found)
    print(text, flush=True)
    if os.environ.get("PLEIADES_GOLDEN") == "rewrite":
        before = DOCUMENT.read_text().split("| feature |")[0]
        DOCUMENT.write_text(f"{before}{text}\n")
    wanted = [line for line in DOCUMENT.read_text().splitlines() if line.startswith(("|", *"123456789"))]
    got = [line for line in text.splitlines() if line]
    assert got == wanted, f"{DOCUMENT.name} says otherwise"


def piped():
    command = [CONFORMANCE, "--stdio"]
    descriptors = [provider(NAMES[r].lower(), command=[*command, *FLAGS[r]]) for r in REVISIONS]
    with Gateway(*descriptors, everything_stdio()) as gateway:
        for revision in REVISIONS:
            gateway.settled(NAMES[revision].lower())
        for row in PIPED:
            yield f"{row.name}, over pipes, in every cell", lambda row=row: whole(gateway, row)
        gateway.settled("everything")
        yield "server-everything asks back over a pipe, whoever calls", lambda: everything(gateway)


def everything(gateway):
    for client in REVISIONS:
        for view in VIEWS:
            cell = Cell(gateway, "everything", client, "2025-11-25", view)
            caller = cell.open()
            said = cell.call(caller, "trigger-elicitation-request")
            assert caller.asked and caller.asked[0][0] == "elicitation/create", (str(cell), said)
            if client == "2026-07-28":
                continue
            said = cell.call(caller, "trigger-sampling-request", {"prompt": "Where?", "maxTokens": 10})
            assert "Paris" in str(said.result), (str(cell), said)
            said = cell.call(caller, "get-roots-list")
            assert "file:///home/ada" in str(said.result), (str(cell), said)
