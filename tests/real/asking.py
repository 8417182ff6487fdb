"""Attacks on asking back: answers to the wrong question, states of another call, clients, providers
and gateways that go away while a question is open."""

import json
import threading

from asked import MODEL, silent, willing
from cell import FLAGS, REVISIONS, Cell, Said, refused
from mcp import J, L, M, NAMES, RpcError, events, fetch, lines_of
from world import Conformance, Gateway, provider, until

ACT = "cell_act"
ACCEPT = {"action": "accept", "content": {"ok": True}}
# Calls that one principal may have parked.
MOST = 32


class Call:
    """A call of a legacy client in a thread of its own, until its answer."""

    def __init__(self, cell, client, tool=ACT):
        self.client, self.said, self.fault = client, None, None
        self.thread = threading.Thread(target=self._run, args=(cell, tool), daemon=True)
        self.thread.start()

    def _run(self, cell, tool):
        try:
            self.said = cell.call(self.client, tool)
        except (RpcError, OSError, ValueError, AssertionError) as fault:
            self.fault = fault

    def question(self):
        return until("the question", lambda: self.client.questions or self.check())[-1]

    def check(self):
        assert self.fault is None, self.fault

    def done(self):
        self.thread.join(60)
        assert not self.thread.is_alive(), "the call never ended"
        return self.said


class World:
    """The three providers behind one gateway."""

    def __init__(self):
        self.servers = {r: Conformance(*FLAGS[r]) for r in REVISIONS}
        self.providers = [provider(NAMES[r].lower(), self.servers[r].url) for r in REVISIONS]
        self.gateway = Gateway(*self.providers)
        for revision in REVISIONS:
            self.gateway.settled(NAMES[revision].lower())

    def cell(self, client, upstream, view="tools"):
        return Cell(self.gateway, NAMES[upstream].lower(), client, upstream, view)

    def stop(self):
        self.gateway.stop()
        for server in self.servers.values():
            server.stop()


def checks():
    world = World()
    try:
        yield from answers(world)
        yield from states(world)
        yield from vanishing(world)
        yield from ends(world)
    finally:
        world.stop()


def answers(world):
    for upstream in (L, M):
        cell = world.cell(L, upstream)
        name = f"L client, {NAMES[upstream]} provider"

        def forged(cell=cell):
            caller = cell.open(silent)
            call = Call(cell, caller)
            question = call.question()
            half = len(question) // 2
            changed = question[:half] + ("A" if question[half] != "A" else "B") + question[half + 1 :]
            for wrong in (1, "1", "", None, [question], changed, question[:-1], question + "A"):
                status = caller.respond(wrong, ACCEPT).status
                assert 400 <= status < 500, (wrong, status)
            assert call.thread.is_alive(), call.said
            assert caller.respond(question, ACCEPT).status == 202
            assert call.done().text == "action=accept", call.said

        def replayed(cell=cell):
            caller = cell.open(silent)
            before = cell.counts(caller)["runs"]
            first = Call(cell, caller)
            question = first.question()
            assert caller.respond(question, {"action": "decline"}).status == 202
            assert first.done().text == "action=decline", first.said
            asked = len(caller.questions)
            second = Call(cell, caller)
            until("the next question", lambda: len(caller.questions) > asked)
            # What answered the first question must not answer the second.
            assert caller.respond(question, ACCEPT).status in (202, 400)
            assert second.thread.is_alive(), second.said
            assert caller.respond(caller.questions[-1], {"action": "cancel"}).status == 202
            assert second.done().text == "action=cancel", second.said
            rounds = 2 if cell.upstream == M else 1
            assert cell.counts(caller)["runs"] == before + 2 * rounds

        def ended(cell=cell):
            caller = cell.open(silent)
            earlier = left(cell, caller)
            stream = caller.begin("tools/call", cell.params(ACT))
            question = read_question(stream)
            caller.notify("notifications/cancelled", {"requestId": stream.number})
            until("the call to end", lambda: not world.gateway.inflight(cell.name))
            if cell.upstream != M:
                until("the provider to know", lambda: left(cell, caller) > earlier)
            before = cell.counts(caller)
            assert caller.respond(question, ACCEPT).status in (202, 400)
            assert not grown(cell, caller, before)

        def wrong_kind(cell=cell):
            """A model's words are no form: they are refused at once, and the call ends as one without an answer."""
            caller = cell.open(lambda *_: MODEL)
            caller.taken = 400
            try:
                said = cell.call(caller, ACT)
                assert said.text != "action=accept", said
            except RpcError as refusal:
                assert refusal.code in (-32603, -32602), refusal

        yield f"{name}: an id that nobody gave out answers nothing", forged
        yield f"{name}: an answer counts once", replayed
        yield f"{name}: a question of a cancelled call cannot be answered", ended
        yield f"{name}: an answer of the wrong kind is no consent", wrong_kind


def grown(cell, client, before):
    """Which answers the provider heard since, and how often."""
    now, then = cell.counts(client)["answers"], before["answers"]
    more = {action: count - then.get(action, 0) for action, count in now.items()}
    return {action: count for action, count in more.items() if count}


def left(cell, client):
    """How often the provider was left: its call was cancelled, or its question closed, whichever came first."""
    counts = cell.counts(client)
    return counts["cancelled"] + counts["answers"].get("cancel", 0)


def read_question(stream):
    """The id of the first question on the stream of a call."""
    for text in events(lines_of(stream.getresponse())):
        message = json.loads(text)
        if "method" in message and "id" in message:
            return message["id"]
    raise AssertionError("nothing was asked")


class Parked:
    """A call of a client of M that has asked: what came back, and how to make it again."""

    def __init__(self, cell, tool=ACT, arguments=None):
        self.cell, self.client = cell, cell.open(silent)
        self.params = cell.params(tool, arguments)
        self.result = self.client.request("tools/call", self.params)

    def waits(self):
        return self.result.get("resultType") == "input_required"

    def again(self, cell=None, state=None, answer=ACCEPT, **changed):
        cell = cell or self.cell
        params = {**self.params, **changed}
        if cell.is_meta and cell.name != self.cell.name:
            params["name"] = f"use_{cell.name}"
        responses = {key: answer for key in self.result["inputRequests"]}
        params["inputResponses"] = responses
        params["requestState"] = self.result["requestState"] if state is None else state
        return Said(cell.open(silent).request("tools/call", params), cell.is_meta)


def states(world):
    for view in ("tools", "mcp"):
        for upstream in (J, L):
            cell = world.cell(M, upstream, view)
            yield (
                f"{cell}: a state serves its own call alone, and once",
                lambda cell=cell: strictly(world, cell),
            )
        yield (
            f"M-M at /{view}: a provider's state serves its own call alone",
            lambda view=view: wrapped(world, world.cell(M, M, view)),
        )
    yield f"one principal parks {MOST} calls and no more", lambda: limit(world)


def strictly(world, cell):
    parked = Parked(cell, arguments={"mark": "one"})
    assert parked.waits() and "requestState" in parked.result, parked.result
    before = cell.counts(parked.client)
    foreign(world, cell, parked)
    assert cell.counts(parked.client) == before, "a state of another call did something"
    said = parked.again()
    assert said.text == "action=accept", said
    after = cell.counts(parked.client)
    assert after["runs"] == before["runs"], "the call was made again"
    again = parked.again()
    assert again.failed and "is over" in again.text, again
    assert cell.counts(parked.client) == after, "a state was used twice"


def foreign(world, cell, parked):
    """The state brought back with anything that is not its call, or changed."""
    state = parked.result["requestState"]
    half = len(state) // 2
    changed = state[:half] + ("A" if state[half] != "A" else "B") + state[half + 1 :]
    for wrong in (changed, state[:-1], "", "null", state + "A", "a" * 5000):
        refused(lambda wrong=wrong: parked.again(state=wrong), -32602)
    other = world.cell(M, J if cell.upstream == L else L, cell.view)
    refused(lambda: parked.again(cell=other), -32602)
    for tool, arguments in ((ACT, {"mark": "two"}), (ACT, {}), ("cell_two", {"mark": "one"})):
        params = cell.params(tool, arguments)
        refused(lambda params=params: parked.again(**params), -32602)


def wrapped(world, cell):
    parked = Parked(cell, "test_input_required_result_request_state")
    state = parked.result["requestState"]
    for wrong in (state[:-1], state + "A", state[1:], "x"):
        refused(lambda wrong=wrong: parked.again(state=wrong), -32602)
    params = cell.params("test_input_required_result_tampered_state")
    refused(lambda: parked.again(**params), -32602)
    refused(lambda: parked.again(cell=world.cell(M, J, cell.view)), -32602)
    assert parked.again().text == "state-ok"


def limit(world):
    cell = world.cell(M, L)
    client = cell.open(silent)
    before = cell.counts(client)
    calls = [Parked(cell) for _ in range(MOST)]
    assert all(call.waits() for call in calls), [call.result for call in calls]
    for _ in range(8):
        beyond = Said(Parked(cell).result, False)
        assert beyond.failed and "answer some first" in beyond.text, beyond
    until(
        "the provider to be told of the calls beyond",
        lambda: cell.counts(client)["cancelled"] + cell.counts(client)["answers"].get("cancel", 0)
        >= before["cancelled"] + before["answers"].get("cancel", 0) + 8,
    )
    for call in calls:
        assert call.again(answer={"action": "decline"}).text == "action=decline"
    assert Parked(cell).again().text == "action=accept"
    assert cell.counts(client)["runs"] == before["runs"] + MOST + 9, "a call was made again"


def vanishing(world):
    for upstream in REVISIONS:
        for client in (J, L):
            cell = world.cell(client, upstream)
            yield (
                f"{cell}: who vanishes without a word closes its question at the provider",
                lambda cell=cell: alone(world, cell),
            )
            yield (
                f"{cell}: who vanishes is asked on its other stream",
                lambda cell=cell: elsewhere(world, cell),
            )
            yield (
                f"{cell}: a session that is ended closes its question at the provider",
                lambda cell=cell: deleted(world, cell),
            )


def vanish(cell, client):
    stream = client.begin("tools/call", cell.params(ACT))
    question = read_question(stream)
    stream.sock and stream.close()
    return question


def closed(cell, before):
    """The provider hears that nobody answers: of M by nothing at all, because it never waits."""
    other = cell.open()
    if cell.upstream != M:
        until("the provider to be told", lambda: heard_the_end(cell, other, before))
    until("the call to end", lambda: not cell.gateway.inflight(cell.name))


def heard_the_end(cell, client, before):
    now = cell.counts(client)
    cancelled = now["answers"].get("cancel", 0) - before["answers"].get("cancel", 0)
    return now["cancelled"] - before["cancelled"] + cancelled == 1


def alone(world, cell):
    client = cell.open(silent)
    before = cell.counts(client)
    vanish(cell, client)
    closed(cell, before)
    assert "accept" not in grown(cell, cell.open(), before)


def elsewhere(world, cell):
    client = cell.open(silent)
    before = cell.counts(client)
    stream = client.listen()
    try:
        vanish(cell, client)
        until("the question on the other stream", lambda: client.questions)
        assert client.respond(client.questions[-1], ACCEPT).status == 202
        until("the provider to hear it", lambda: grown(cell, client, before) == {"accept": 1})
    finally:
        stream.close()


def deleted(world, cell):
    client = cell.open(silent)
    before = cell.counts(client)
    call = Call(cell, client)
    question = call.question()
    ending = {"mcp-session-id": client.session, "mcp-protocol-version": cell.client}
    assert fetch(client.url, "DELETE", ending).status == 204
    closed(cell, before)
    assert client.respond(question, ACCEPT).status == 404
    call.thread.join(60)
    assert not call.thread.is_alive(), "the call of an ended session never ended"


def ends(world):
    yield "a parked call whose provider dies fails once, with a word to the model", lambda: dying(world)
    yield "a legacy call whose provider dies while it asks ends", lambda: dying_at_once(world)
    yield "calls that a gateway had parked are over after its restart, and not made again", (
        lambda: restarted(world)
    )


def dying(world):
    cell = world.cell(M, J)
    parked = Parked(cell)
    assert parked.waits(), parked.result
    replace(world, J)
    said = parked.again()
    assert said.failed, said
    check_untouched(cell)
    assert Parked(cell).again().text == "action=accept"


def dying_at_once(world):
    cell = world.cell(J, L)
    client = cell.open(silent)
    call = Call(cell, client)
    call.question()
    replace(world, L)
    assert call.done().failed, call.said
    until("the question to be taken back", lambda: client.retracted == client.questions)
    check_untouched(cell)


def replace(world, revision):
    """Ends a provider without farewell and starts it anew at the same place."""
    old = world.servers[revision]
    old.popen.kill()
    old.popen.wait()
    world.servers[revision] = Conformance(*FLAGS[revision], port=old.port)
    old.stop()


def check_untouched(cell):
    """A new provider has run nothing."""

    def counts():
        try:
            return cell.counts(cell.open())
        except (RpcError, TypeError, KeyError):
            return None

    counted = until("the provider to answer again", lambda: (got := counts()) and "runs" in got and got)
    assert counted["runs"] == 0, counted


def restarted(world):
    parked = [Parked(world.cell(M, upstream, view)) for upstream in (J, L) for view in ("tools", "mcp")]
    assert all(call.waits() for call in parked), [call.result for call in parked]
    before = {r: world.cell(M, r).counts(world.cell(M, r).open(willing)) for r in (J, L)}
    world.gateway.stop()
    world.gateway = Gateway(*world.providers)
    for revision in REVISIONS:
        world.gateway.settled(NAMES[revision].lower())
    for call in parked:
        cell = world.cell(M, call.cell.upstream, call.cell.view)
        call.cell = cell
        said = call.again()
        assert said.failed and "another replica" in said.text, said
    for revision in (J, L):
        cell = world.cell(M, revision)
        assert cell.counts(cell.open())["runs"] == before[revision]["runs"], "a call was made again"
