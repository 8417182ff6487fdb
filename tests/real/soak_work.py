"""What the clients of the soak do, and what each of it must come to. Every call says something that no
other call says, so that an answer to another one is seen."""

import itertools
import json
import random

from asked import willing
from mcp import M, RpcError, events, fetch, lines_of

NUMBERS = itertools.count(1)
WATCHED = "test://watched-resource"


def fresh(word):
    return f"{word}-{next(NUMBERS)}"


class Wrong(Exception):
    """An answer that is not the one to this call."""


def check(holds, what):
    if not holds:
        raise Wrong(repr(what)[:600])


class Person:
    """Answers forms with words of its own, each time the same within one call."""

    def __init__(self):
        self.name, self.colour = fresh("name"), fresh("colour")
        self.action = random.choice(("accept", "decline", "cancel"))

    def __call__(self, method, params):
        if method != "elicitation/create" or params.get("mode") == "url":
            return willing(method, params)
        fields = params["requestedSchema"]["properties"]
        if "ok" in fields:
            return {"action": self.action, "content": {"ok": True}} if self.action == "accept" else {
                "action": self.action
            }
        words = {"name": self.name, "colour": self.colour, "color": self.colour, "context": self.name}
        return {"action": "accept", "content": {field: words[field] for field in fields}}


class Worker:
    """One client after another in one cell; each lives for some operations."""

    def __init__(self, cell, budget):
        self.cell, self.budget, self.client = cell, budget, None
        self.left = 0

    def client_now(self):
        if self.client is None or self.left <= 0:
            self.end()
            self.client = self.cell.open(Person())
            self.left = random.randint(5, 40)
        self.left -= 1
        return self.client

    def end(self):
        """A client goes: with a word, or without."""
        client, self.client = self.client, None
        if client is None or client.session is None or random.random() < 0.5:
            return
        headers = {"mcp-session-id": client.session, "mcp-protocol-version": client.revision}
        check(fetch(client.url, "DELETE", headers).status == 204, "an open session was not ended")
        try:
            client.tools()
        except RpcError as refusal:
            check(refusal.status == 404, refusal)
        else:
            raise Wrong("an ended session was served")

    def operations(self):
        cell = self.cell
        yield from (greet, greet, greet, read, prompt, complete, lists, progress, missing)
        yield from (act, two, rounds, state, prompt_asked)
        yield from (cancel, subscribe)
        if cell.same_era:
            yield from (sample, roots, log)
        if cell.client == M and cell.upstream != M:
            yield abandon
        if cell.client != M:
            yield vanish

    def once(self):
        operation = random.choice(list(self.operations()))
        if operation is abandon and not self.budget.take():
            operation = greet
        client = self.client_now()
        client.answer = Person()
        operation(self.cell, client)
        return operation.__name__


def greet(cell, client):
    name = fresh("who")
    said = cell.call(client, "greet", {"name": name})
    check(said.text == f"Hello, {name}!", said)


def read(cell, client):
    number = next(NUMBERS)
    uri = f"test://template/{number}/data"
    contents = client.request("resources/read", {"uri": uri})["contents"][0]
    check(json.loads(contents["text"])["id"] == str(number), contents)


def prompt(cell, client):
    word = fresh("word")
    params = {"name": "test_prompt_with_arguments", "arguments": {"arg1": word, "arg2": "b"}}
    got = client.request("prompts/get", params)["messages"][0]["content"]["text"]
    check(word in got, got)


def complete(cell, client):
    ref = {"type": "ref/prompt", "name": "test_prompt_with_arguments"}
    params = {"ref": ref, "argument": {"name": "arg1", "value": "pari"}}
    check(client.request("completion/complete", params)["completion"]["values"] == ["paris"], "completion")


def lists(cell, client):
    check(client.tools() and client.every("resources/list", "resources"), "empty lists")


def progress(cell, client):
    token, client.notifications = fresh("token"), []
    cell.call(client, "cell_wait", {"steps": 3}, {"progressToken": token})
    told = [it["params"] for it in client.notifications if it["method"] == "notifications/progress"]
    check([it["progressToken"] for it in told] == [token] * 3, client.notifications)


def missing(cell, client):
    try:
        client.request("resources/read", {"uri": "test://nothing"})
    except RpcError as refusal:
        check(refusal.code == (-32602 if cell.client == M else -32002), refusal)
    else:
        raise Wrong("what is not there was read")


def act(cell, client):
    said = cell.call(client, "cell_act")
    check(said.text == f"action={client.answer.action}", (client.answer.action, said))


def two(cell, client):
    said = cell.call(client, "cell_two")
    check(said.text == f"{client.answer.name} {client.answer.colour}", (vars(client.answer), said))


def rounds(cell, client):
    said = cell.call(client, "test_input_required_result_multi_round")
    check(said.text == f"{client.answer.name} likes {client.answer.colour}.", (vars(client.answer), said))


def state(cell, client):
    client.answer.action = "accept"
    check(cell.call(client, "test_input_required_result_request_state").text == "state-ok", "state")


def prompt_asked(cell, client):
    got = client.request("prompts/get", {"name": "test_input_required_result_prompt"})
    text = got["messages"][0]["content"]["text"]
    check(text == f"Use this context: {client.answer.name}", text)


def sample(cell, client):
    said = cell.call(client, "test_sampling", {"prompt": "Where?"})
    check(said.text == "LLM response: Paris", said)


def roots(cell, client):
    check("file:///home/ada" in cell.call(client, "test_input_required_result_list_roots").text, "roots")


def log(cell, client):
    check(not cell.call(client, "test_tool_with_logging").failed, "log")


def begun(cell, client, tool, arguments=None, meta=None):
    """A call under way, and its stream of messages."""
    stream = client.begin("tools/call", cell.params(tool, arguments, meta))
    return stream, (json.loads(text) for text in events(lines_of(stream.getresponse())))


def cancel(cell, client):
    token = {"progressToken": fresh("token")}
    stream, messages = begun(cell, client, "cell_wait", {"steps": 100_000}, token)
    # Log messages of other clients of the same person may come between.
    first = next(message for message in messages if message.get("method") != "notifications/message")
    check(first.get("method") == "notifications/progress", first)
    if cell.client != M:
        client.notify("notifications/cancelled", {"requestId": stream.number})
    stream.close()


def vanish(cell, client):
    """The connection goes while a question is open; its client answers it nevertheless."""
    stream, messages = begun(cell, client, "cell_act")
    question = next(message for message in messages if "method" in message and "id" in message)
    stream.close()
    check(client.respond(question["id"], {"action": "decline"}).status == 202, "an answer was refused")


def abandon(cell, client):
    """A call is parked and nobody comes back."""
    client.answer = lambda *_: None
    result = client.request("tools/call", cell.params("cell_act"))
    check(result.get("resultType") == "input_required", result)


def subscribe(cell, client):
    stream = client.listen(("toolsListChanged",), [WATCHED])
    try:
        if cell.client == M:
            stream.wait_for("notifications/subscriptions/acknowledged")
        else:
            client.request("resources/subscribe", {"uri": WATCHED})
        for _ in range(100):
            cell.call(client, "test_trigger_resource_update", {"uri": WATCHED})
            if told := stream.soon("notifications/resources/updated"):
                check(told["params"]["uri"] == WATCHED, told)
                return
        raise Wrong("an update never arrived")
    finally:
        stream.close()


def risky(cell, client):
    """A call of a provider that comes and goes: answered rightly, or refused in words."""
    name = fresh("who")
    said = cell.call(client, "greet", {"name": name})
    check(said.failed or said.text == f"Hello, {name}!", said)
    return said.failed
