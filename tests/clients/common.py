"""The command line that every client shares; the same as in `common.cjs`."""

import asyncio
import json
import sys
import traceback


class Wanted:
    def __init__(self, words):
        self.headers, self.call, self.args, self.url, self.command = {}, None, {}, None, None
        words = list(words)
        while words:
            word = words.pop(0)
            if word == "--header":
                name, value = words.pop(0).split(":", 1)
                self.headers[name] = value.strip()
            elif word == "--call":
                self.call = words.pop(0)
            elif word == "--args":
                self.args = json.loads(words.pop(0))
            elif word == "--stdio":
                self.command, words = words, []
            else:
                self.url = word


async def every(page, key):
    """A list to its last page; `page` takes a cursor."""
    items, cursor = [], None
    while True:
        result = await page(cursor)
        items += getattr(result, key)
        cursor = getattr(result, "next_cursor", None) or getattr(result, "nextCursor", None)
        if not cursor:
            return items


def plain(result):
    return json.loads(result.model_dump_json(by_alias=True, exclude_none=True))


def main(name, walk):
    """Runs `walk(wanted)`, which returns what it saw, and prints that."""
    try:
        seen = asyncio.run(walk(Wanted(sys.argv[1:])))
    except BaseException:  # an exception group of a task group is no Exception
        traceback.print_exc()
        sys.exit(1)
    print(json.dumps({"client": name, **seen}))
