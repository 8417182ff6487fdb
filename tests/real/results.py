"""Two hundred results of real shapes (`shapes.py`) through the meta view at several limits.

The cut is counted with a real tokenizer, pages are laid over one another and compared with what the provider sent,
and handles are tried by others.
"""

import functools
import json
import re

import shapes
from connecting import keys
from mcp import L, Client
from replay import Replay
from tokenizer import Tokenizer, compact
from world import Gateway, provider

LIMITS = (500, 2000, 8000)
# Pages of more than this, in bytes of JSON, are read at the larger limits alone: each is a call.
LARGE = 40_000
# How much more than its limit a cut may take: the gateway estimates.
SLACK = 1.1
PEOPLE = [("acme", "ada", "key-of-ada"), ("acme", "bob", "key-of-bob"), ("other", "ada", "key-of-other")]
TOOL = {
    "name": "read",
    "description": "Reads a recorded result.",
    "inputSchema": {"type": "object", "properties": {"number": {"type": "integer"}}, "required": ["number"]},
    "annotations": {"readOnlyHint": True},
}


class World:
    def __init__(self, gateway, tokenizer, results):
        self.gateway, self.tokenizer, self.results = gateway, tokenizer, results

    @functools.cache
    def client(self, limit, person=0):
        headers = {"authorization": f"Bearer {PEOPLE[person][2]}"}
        return Client(f"{self.gateway.url}/mcp/at{limit}", L, headers).connect()

    def call(self, limit, person=0, **arguments):
        return self.client(limit, person).call(f"use_at{limit}", arguments)

    @functools.cache
    def first(self, limit, number):
        """The answer to the call itself; every third one says what it is after."""
        prompt = {"prompt": "failed invoice of the archive"} if number % 3 == 0 else {}
        got = self.call(limit, tool="read", arguments={"number": number}, **prompt)
        assert not got.get("isError"), got
        return got["structuredContent"]

    def pages(self, limit, answer, **options):
        """The answers of all pages, from the first one on."""
        found = [answer]
        while (page := found[-1].get("page")) and page.get("next"):
            asked = {"result": answer["resultId"], "page": page["next"], **options}
            got = self.call(limit, options=asked)
            assert not got.get("isError"), got
            found.append(got["structuredContent"])
            assert len(found) < 5000, "the pages do not end"
        return found

    def cost(self, answer):
        data = [compact(answer["data"])] if "data" in answer else []
        return self.tokenizer.count(answer["text"], *data)


def joined(parts, whole):
    """Slices laid over one another: objects by key, arrays and strings one after the other. `whole` only says which
    neighbours are pieces of one element."""
    if all(compact(part) == compact(whole) for part in parts):
        return whole
    if isinstance(whole, str):
        return "".join(parts)
    if isinstance(whole, dict):
        names = dict.fromkeys(key for part in parts for key in part)
        got = {key: joined([part[key] for part in parts if key in part], whole.get(key)) for key in names}
        return {key: got[key] for key in whole if key in got} | got
    if isinstance(whole, list):
        return joined_list([element for part in parts for element in part], whole)
    raise AssertionError(f"{parts} of {whole}")


def joined_list(elements, whole):
    got, waiting = [], []
    for element in elements:
        expected = whole[len(got)] if len(got) < len(whole) else None
        waiting.append(element)
        try:
            one = joined(waiting, expected)
        except (AssertionError, TypeError, AttributeError):
            continue
        if compact(one) == compact(expected):
            got.append(one)
            waiting = []
    return got + waiting


def text_of(result):
    return "\n".join(block["text"] for block in result["content"])


def shown(text):
    """C0 control characters as `text` shows them; ends of lines and tabs stay."""
    return re.sub(r"(?!\r\n)[\x00-\x08\x0b-\x1f]", lambda found: f"\\u{ord(found[0]):04x}", text)


def check_cut(world, limit):
    faults = []
    for number, (name, _) in enumerate(world.results):
        answer = world.first(limit, number)
        cost = world.cost(answer)
        if cost > SLACK * limit:
            faults.append(f"{name}: {cost}")
    assert not faults, f"over {limit} tokens: {len(faults)} of {len(world.results)}: {faults}"


def check_pages(world, limit):
    faults = []
    for number, (name, result) in enumerate(world.results):
        if limit == min(LIMITS) and len(compact(result)) > LARGE:
            continue
        fault = of_pages(world, limit, number, result)
        if fault:
            faults.append(f"{name}: {fault}")
    assert not faults, f"{len(faults)} faults:\n" + "\n".join(faults)


def of_pages(world, limit, number, result):
    answer = world.first(limit, number)
    pages = world.pages(limit, answer)
    costs = [world.cost(page) for page in pages]
    if max(costs) > SLACK * limit:
        return f"a page takes {max(costs)} tokens"
    if "data" in answer:
        whole = data_of(result)
        got = joined([page["data"] for page in pages], whole)
        return (
            None
            if compact(got) == compact(whole)
            else f"{len(pages)} pages differ: {first_difference(got, whole)}"
        )
    if len(pages) > 1:
        # Read again: with a prompt, the first one begins with lines of others.
        pages[0] = world.call(limit, options={"result": answer["resultId"], "page": 1})["structuredContent"]
    return difference_of_text(pages, shown(text_of(result)))


def data_of(result):
    """What a result holds as data: its structured content, or the JSON that its text is."""
    return result["structuredContent"] if "structuredContent" in result else json.loads(text_of(result))


def difference_of_text(pages, whole):
    """The texts of pages one after the other are the whole; the last line of a page says how to get the next one, and
    stands on a line of its own."""
    at = 0
    for number, page in enumerate(pages):
        text = page["text"]
        if page.get("page"):
            text = text.rpartition("\n")[0]
            text = text + "\n" if whole.startswith(text + "\n", at) else text
        if not whole.startswith(text, at):
            return f"page {number + 1} of {len(pages)} differs at {common(text, whole[at:])} of its text"
        at += len(text)
    return None if at == len(whole) else f"{len(pages)} pages end at {at} of {len(whole)}"


def common(one, two):
    return next((at for at, (a, b) in enumerate(zip(one, two)) if a != b), min(len(one), len(two)))


def first_difference(got, whole, at=""):
    if isinstance(got, dict) and isinstance(whole, dict):
        for key in {**whole, **got}:
            if compact(got.get(key)) != compact(whole.get(key)) or (key in got) != (key in whole):
                return first_difference(got.get(key), whole.get(key), f"{at}/{key}")
        return f"{at}: order of keys"
    if isinstance(got, list) and isinstance(whole, list):
        for index, (one, two) in enumerate(zip(got, whole)):
            if compact(one) != compact(two):
                return first_difference(one, two, f"{at}/{index}")
        return f"{at}: {len(got)} elements, not {len(whole)}"
    return f"{at}: {compact(got)[:80]} is not {compact(whole)[:80]}"


def check_handles(world, limit):
    made_up = "r_" + "A" * 22
    seen = 0
    for number in range(len(world.results)):
        handle = world.first(limit, number).get("resultId")
        if not handle:
            continue
        seen += 1
        assert len(handle) == 24 and handle.startswith("r_"), handle
        answers = set()
        for person in (1, 2):
            for tried in (handle, made_up):
                got = world.call(limit, person, options={"result": tried, "page": 2})
                assert got["isError"] and got["structuredContent"]["status"] == "invalid_arguments", got
                got["structuredContent"].pop("telemetryId")
                answers.add(compact(got).replace(tried, "r_…"))
        assert len(answers) == 1, answers
    assert seen > 100, f"only {seen} results were cut"


def check_fitting(world, limit):
    """What is far below the limit comes as it is, without a handle."""
    seen = 0
    for number, (name, result) in enumerate(world.results):
        text, data = text_of(result), result.get("structuredContent")
        if world.tokenizer.count(text, compact(data) if data is not None else "") > 0.7 * limit:
            continue
        seen += 1
        answer = world.first(limit, number)
        assert "page" not in answer and "resultId" not in answer, f"{name}: {answer['text'][-200:]}"
        assert answer["text"] == shown(text), name
        assert compact(answer.get("data")) == compact(data), name
    assert seen > 5, seen


def check_full(world, limit):
    for number, (name, result) in enumerate(world.results):
        answer = world.first(limit, number)
        if "resultId" not in answer or number % 4:
            continue
        got = world.call(limit, options={"result": answer["resultId"], "full": True})["structuredContent"]
        assert got["status"] == "ok", got
        assert "page" not in got, f"{name}: {got['page']}"
        assert compact(got.get("data")) == compact(result.get("structuredContent")), name
        assert got["text"] == shown(text_of(result)), name


def check_select(world, limit):
    """A pointer gives the very value, in pages where it is long."""
    for number, (name, result) in enumerate(world.results):
        answer, whole = world.first(limit, number), result.get("structuredContent")
        if "resultId" not in answer or not isinstance(whole, dict):
            continue
        key = next(iter(whole))
        pointer = "/" + key.replace("~", "~0").replace("/", "~1")
        got = world.call(limit, options={"result": answer["resultId"], "select": pointer})
        assert not got.get("isError"), f"{name}: {got}"
        pages = world.pages(
            limit, {**got["structuredContent"], "resultId": answer["resultId"]}, select=pointer
        )
        found = joined([page["data"] for page in pages], whole[key])
        assert compact(found) == compact(whole[key]), f"{name}: {first_difference(found, whole[key])}"


def checks():
    results = shapes.results()

    def answer(_, arguments):
        return results[arguments["number"]][1]

    settings = {"access": {"api_keys": keys(*PEOPLE)}}
    with Replay([TOOL], answer) as upstream, Tokenizer() as tokenizer:
        described = [
            provider(f"at{limit}", upstream.url, facade={"results": {"max_tokens": limit}})
            for limit in LIMITS
        ]
        with Gateway(*described, settings=settings) as gateway:
            for limit in LIMITS:
                gateway.settled(f"at{limit}")
            world = World(gateway, tokenizer, results)
            for limit in LIMITS:
                yield (
                    f"no answer takes a tenth more than {limit} tokens, of 200 results",
                    lambda limit=limit: check_cut(world, limit),
                )
            for limit in LIMITS:
                yield (
                    f"pages of {limit} tokens, laid over one another, are what the provider sent",
                    lambda limit=limit: check_pages(world, limit),
                )
            yield "what fits comes as it is", lambda: check_fitting(world, 8000)
            yield "`full` gives all of a result that was cut", lambda: check_full(world, 2000)
            yield "a pointer selects the very value", lambda: check_select(world, 2000)
            yield (
                "handles of somebody else and made-up ones get the same answer, for each result",
                lambda: check_handles(world, 500),
            )
