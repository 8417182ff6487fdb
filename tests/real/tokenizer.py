"""Counts tokens of o200k_base with a real tokenizer (`tests/peers/tokenizer`)."""

import json
import os
import subprocess

from world import ROOT


class Tokenizer:
    def __init__(self):
        assert "PLEIADES_TOKENIZER" in os.environ, "run `scripts/peers` first"
        self.popen = subprocess.Popen(
            ["node", ROOT / "tests/peers/tokenizer/count.mjs"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def counts(self, texts):
        """The tokens of each text."""
        self.popen.stdin.write(json.dumps(texts).encode() + b"\n")
        self.popen.stdin.flush()
        line = self.popen.stdout.readline()
        assert line, "the tokenizer ended"
        return json.loads(line)

    def count(self, *texts):
        return sum(self.counts(list(texts)))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.popen.stdin.close()
        self.popen.wait()


def compact(value):
    """JSON as it costs least, with every character as itself."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
