"""Two replicas: a question asked by one is answered through the other, with Redis between them, and
refused clearly without."""

import contextlib
import json
import time

from asked import Asked, all_of, retried, silent, willing
from mcp import J, L, M, NAMES, RpcError
from world import Conformance, Gateway, Redis, provider, until

TOOL = "test_elicitation"
ARGUMENTS = {"message": "who are you?"}
FORM = {"action": "accept", "content": {"username": "ada", "email": "ada@example.com"}}
# A refusal must come within a second (the issue's own bound), so here a bound is what is claimed.
SOON = 1.0


class Elsewhere(Asked):
    """Answers at another replica than the one that asked."""

    def __init__(self, url, revision, other):
        super().__init__(url, revision, willing)
        self.other, self.replies = other, []

    def heard(self, message):
        if "method" not in message or "id" not in message:
            return
        self.asked.append((message["method"], message.get("params", {})))
        there = Asked(self.other + self.path, self.revision)
        there.session = self.session
        began = time.monotonic()
        reply = there.respond(message["id"], willing(*self.asked[-1]))
        self.replies.append((reply, time.monotonic() - began))
        if reply.status != 202:
            # Nobody is left without an answer: the one that asked gets it after all.
            assert self.respond(message["id"], {"action": "cancel"}).status == 202


def checks():
    with Conformance() as mixed, contextlib.ExitStack() as alone:
        servers = [alone.enter_context(Conformance("--only-legacy", revision)) for revision in (J, L)]
        providers = [provider("l", servers[1].url), provider("j", servers[0].url), provider("m", mixed.url)]
        yield from joined(providers)
        yield from apart(providers)


def ready(*gateways):
    for gateway in gateways:
        for name in ("j", "l", "m"):
            gateway.settled(name)


def legacy(first, second, revision, name):
    client = Elsewhere(f"{first.url}/tools/{name}", revision, second.url).connect()
    result = client.call(TOOL, ARGUMENTS)
    return client, result


def began(gateway, name):
    """A call of M that waits for its answer."""
    client = Asked(f"{gateway.url}/tools/{name}", M, silent)
    params = {"name": TOOL, "arguments": ARGUMENTS}
    result = client.request("tools/call", params)
    assert result["resultType"] == "input_required", result
    return params, result


def goes_on(gateway, name, params, result):
    client = Asked(f"{gateway.url}/tools/{name}", M, willing)
    responses = {key: willing(it["method"], it["params"]) for key, it in result["inputRequests"].items()}
    return client.request("tools/call", retried(params, result, responses))


def joined(providers):
    with Redis() as redis, contextlib.ExitStack() as both:
        settings = {"shared_state": {"redis": redis.url}}
        first = both.enter_context(Gateway(*providers, settings=settings))
        second = both.enter_context(Gateway(*providers, settings=settings))
        ready(first, second)

        def through(revision, name):
            client, result = legacy(first, second, revision, name)
            assert [reply.status for reply, _ in client.replies] == [202], client.replies
            assert not result.get("isError"), result
            assert "accept" in json.dumps(result), result

        def parked(name):
            params, result = began(first, name)
            done = goes_on(second, name, params, result)
            assert not done.get("isError") and "accept" in json.dumps(done), done
            again = goes_on(second, name, params, result)
            assert again.get("isError"), f"a call went on twice: {again}"

        def gone():
            with Gateway(*providers, settings=settings) as third:
                ready(third)
                params, result = began(third, "l")
            begin = time.monotonic()
            done = goes_on(second, "l", params, result)
            assert done.get("isError") and "gone" in json.dumps(done), done
            assert time.monotonic() - begin < SOON

        for revision in (J, L):
            for name in ("j", "l", "m"):
                yield (
                    f"a form elicited by a call of {NAMES[revision]} to {name} at one is answered through the other",
                    lambda r=revision, n=name: through(r, n),
                )
        for name in ("j", "l"):
            yield (
                f"a call of M to {name} that waits at one goes on through the other, once",
                lambda n=name: parked(n),
            )
        yield "a call whose replica is gone ends as an error, and is not made again", gone


def apart(providers):
    with Gateway(*providers) as first, Gateway(*providers) as second:
        ready(first, second)

        def refused(revision):
            client, _ = legacy(first, second, revision, "l")
            (reply, took), = client.replies
            assert reply.status == 400 and took < SOON, (reply.status, took)
            assert "shared_state" in reply.messages[0]["error"]["message"], reply.text

        def elsewhere():
            params, result = began(first, "l")
            begin = time.monotonic()
            done = goes_on(second, "l", params, result)
            assert time.monotonic() - begin < SOON
            assert done.get("isError") and "shared_state" in json.dumps(done), done
            done = goes_on(first, "l", params, result)
            assert not done.get("isError"), done

        for revision in (J, L):
            yield (
                f"without Redis an answer of {NAMES[revision]} at the other replica is refused within a second",
                lambda r=revision: refused(r),
            )
        yield "without Redis a call of M goes on at its own replica alone, and the other says so", elsewhere
