"""Clients that can be asked back, in the way of their revision.

One of J or L reads its streams while a call runs and answers requests of the server by POST; one of M
makes its call again with `inputResponses` and the `requestState` it was given.
"""

import json

from mcp import J, M, Client, RpcError

FORM = {"name": "Ada", "username": "ada", "colour": "blue", "color": "blue", "context": "sea", "ok": True}
FORM.update({"confirm": True, "email": "ada@example.com", "greeting": "hello"})
MODEL = {"role": "assistant", "model": "none", "stopReason": "endTurn"}
MODEL["content"] = {"type": "text", "text": "Paris"}
ROOTS = {"roots": [{"uri": "file:///home/ada", "name": "home"}]}


def all_of(revision):
    """Every capability that a client of a revision can declare."""
    elicitation = {} if revision == J else {"form": {}, "url": {}}
    return {"elicitation": elicitation, "sampling": {}, "roots": {}}


def willing(method, params):
    """Answers whatever is asked: forms by the names of their fields."""
    if method == "sampling/createMessage":
        return MODEL
    if method == "roots/list":
        return ROOTS
    if params.get("mode") == "url":
        return {"action": "accept"}
    fields = params["requestedSchema"]["properties"]
    return {"action": "accept", "content": {name: FORM[name] for name in fields if name in FORM}}


def declining(method, params):
    """A person who wants none of it."""
    return {"action": "decline"} if method == "elicitation/create" else willing(method, params)


def cancelling(method, params):
    """A person who closes the form."""
    return {"action": "cancel"} if method == "elicitation/create" else willing(method, params)


def silent(_method, _params):
    """A person who went for a walk: the question stays open."""
    return None


class Asked(Client):
    """`answer(method, params)` says the result of each question; `None` leaves it open.

    Questions are kept in `asked` as pairs of method and parameters, their ids in `questions`. A
    question that is left open ends the request of a client of M with the whole result.
    """

    def __init__(self, url, revision, answer=willing, capabilities=None, headers=None):
        declared = all_of(revision) if capabilities is None else capabilities
        super().__init__(url, revision, headers, declared)
        self.answer = answer
        # The status of an answer that is one.
        self.taken = 202
        self.asked, self.questions, self.retracted = [], [], []

    def heard(self, message):
        if message.get("method") == "notifications/cancelled":
            self.retracted.append(message["params"]["requestId"])
        if "method" not in message or "id" not in message:
            return
        assert self.revision != M, f"a client of M was sent a request: {message}"
        params = message.get("params", {})
        self.asked.append((message["method"], params))
        self.questions.append(message["id"])
        result = self.answer(message["method"], params)
        if result is not None:
            status = self.respond(message["id"], result).status
            assert status == self.taken, (status, message)

    def respond(self, question, result):
        """Answers a question by POST; what came back."""
        _, headers = self.envelope("", {})
        return self.post({"jsonrpc": "2.0", "id": question, "result": result}, headers)

    def request(self, method, params=None, extra_headers=None):
        result = super().request(method, params, extra_headers)
        rounds = 0
        while self.revision == M and result.get("resultType") == "input_required":
            responses = {}
            for key, question in result.get("inputRequests", {}).items():
                self.asked.append((question["method"], question.get("params", {})))
                responses[key] = self.answer(*self.asked[-1])
                if responses[key] is None:
                    return result
            rounds += 1
            if rounds > 20:
                raise RpcError(200, {"message": f"`{method}` asks without end"})
            result = super().request(method, retried(params, result, responses), extra_headers)
        return result


def retried(params, result, responses):
    """The parameters with which a client of M makes its call again."""
    params = {**(params or {}), "inputResponses": responses}
    params.pop("requestState", None)
    if "requestState" in result:
        params["requestState"] = result["requestState"]
    return json.loads(json.dumps(params))
