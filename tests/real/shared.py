"""Replicas that meet at a Redis: what they hand over, what they know of ended sessions, and that a
Redis that is away, frozen, empty or hostile harms nothing else."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import tempfile

from mcp import GUARD, J, L, NAMES, Client, RpcError, fetch
from oauth import asked, caller
from world import PLEIADES, ROOT, SEAL, Gateway, Modern, Redis, free_port, metric, provider, until

REPLICA = PLEIADES.parent / "examples/replica"
TLS = ROOT / "crates/pleiades-upstream/src/tests/tls"


class Replica:
    """A process that does nothing but hand over: `tests/peers/replica.rs`."""

    def __init__(self, redis, name="gate", key="one key of all", env=None):
        self.popen = subprocess.Popen(
            [REPLICA, redis, name, key],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **(env or {})},
        )
        self.name = self.answer()["replica"]

    def answer(self):
        line = self.popen.stdout.readline()
        assert line, "the replica has ended"
        return json.loads(line)

    def ask(self, **order):
        self.popen.stdin.write(json.dumps(order).encode() + b"\n")
        self.popen.stdin.flush()
        return self.answer()

    def hand(self, text, to, **order):
        """What came of it: an answer, or the reason that there is none."""
        got = self.ask(hand=text, to=to.name if isinstance(to, Replica) else to, **order)
        return got.get("answer") or got["refused"]

    def is_up(self):
        return self.ask(up=0)["up"]

    def put(self, name, tenant, size, ttl_ms=60_000, share=10_000):
        self.ask(put=name, tenant=tenant, bytes=size, share=share, ttl_ms=ttl_ms)

    def has(self, *names):
        """Which of these values are there."""
        return [name for name in names if self.ask(get=name).get("bytes") is not None]

    def knows(self, end):
        return self.ask(has_ended=end)["has_ended"]

    def stop(self):
        self.popen.kill()
        self.popen.wait()
        self.popen.stdin.close()
        self.popen.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def handing():
    with Redis() as redis, Replica(redis.url) as one, Replica(redis.url) as two:
        until("the replicas to meet", lambda: one.is_up() and two.is_up())

        def there_and_back():
            assert one.hand("hello", two) == "echo hello"
            assert two.hand("x" * 1_000_000, one) == "echo " + "x" * 1_000_000
            assert one.hand("to myself", one) == "echo to myself"

        def gone():
            assert one.hand("hello", "nobody") == "Gone"
            with Replica(redis.url) as third:
                until("the third to come", third.is_up)
                assert one.hand("hello", third) == "echo hello"
            until("the third to be gone", lambda: one.hand("hello", third) == "Gone")

        def late():
            assert one.hand("never", two, within_ms=100) == "Late"

        def large():
            assert one.hand("too large", two) == "TooLarge"
            assert one.hand("large", two) == "TooLarge"

        def busy():
            def is_full():
                # What was refused while another message was being handled leaves its room free.
                one.ask(hand="hold", to=two.name, times=100, within_ms=1000 * GUARD)
                return one.hand("hello", two) == "Busy"

            until("the replica to be busy", is_full)
            two.ask(release=0)
            until("it to have time again", lambda: one.hand("hello", two) == "echo hello")

        def unreadable():
            line = redis.connect()
            line.ask("PSUBSCRIBE", "*")
            assert one.hand("a canary", two) == "echo a canary"
            one.ask(end=77)
            seen = [line.read() for _ in range(3)]
            line.close()
            digest = (77).to_bytes(8, "big") + bytes(24)
            with_keys = redis.connect()
            kept = with_keys.ask("ZRANGE", "pleiades:gate:ended", 0, -1)
            assert 0 < with_keys.ask("TTL", "pleiades:gate:ended")
            with_keys.close()
            for payload in [message[3] for message in seen] + kept:
                assert b"canary" not in payload and digest not in payload, payload

        def hostile():
            line = redis.connect()
            overheard = redis.connect()
            overheard.ask("SUBSCRIBE", f"pleiades:gate:r:{two.name}")
            assert one.hand("hello", two) == "echo hello"
            ask = overheard.read()[2]
            for channel in (f"pleiades:gate:r:{one.name}", "pleiades:gate:ended"):
                for junk in (b"", b"\x01", os.urandom(64), os.urandom(3 << 20), ask, ask[:-1]):
                    line.ask("PUBLISH", channel, junk)
                    line.ask("ZADD", "pleiades:gate:ended", 4_000_000_000, junk[:4096] or b"-")
            line.close()
            overheard.close()
            assert two.hand("hello", one) == "echo hello"
            with Replica(redis.url) as third:
                until("the third to come", third.is_up)
                assert third.hand("hello", one) == "echo hello"

        def strangers():
            with Replica(redis.url, key="another") as keyless, Replica(redis.url, "other") as other:
                until("the strangers to come", lambda: keyless.is_up() and other.is_up())
                assert keyless.hand("hello", one, within_ms=500) == "Late"
                assert other.hand("hello", one) == "Gone"
                keyless.ask(end=5)
                other.ask(end=6)
                one.ask(end=7)
                until("the other to know", lambda: two.knows(7))
                assert not two.knows(5) and not two.knows(6)
                assert not keyless.knows(7) and not other.knows(7)

        yield "a message comes to a replica and its answer back", there_and_back
        yield "a replica that is gone is told as gone, not waited for", gone
        yield "an answer that does not come is waited for as long as was said", late
        yield "what is too large is refused as that, in both directions", large
        yield "a replica that has enough to do says so, and takes more when it can", busy
        yield "who reads Redis reads neither messages nor digests", unreadable
        yield "what others write into Redis is neither believed nor harmful", hostile
        yield "replicas of another key or name do not mix", strangers


def remembering():
    port = free_port()
    url = f"redis://:{Redis.PASSWORD}@127.0.0.1:{port}"
    with contextlib.ExitStack() as all_of_it:
        one = all_of_it.enter_context(Replica(url))
        two = all_of_it.enter_context(Replica(url))

        def away():
            assert not one.is_up()
            assert one.hand("hello", two) == "Away"
            one.ask(end=1)
            two.ask(end=2)
            assert one.knows(1) and not one.knows(2)

        def comes():
            with Redis(port):
                until("both to know both", lambda: one.knows(2) and two.knows(1))
                until("messages to pass", lambda: one.hand("hello", two) == "echo hello")
                with Replica(url) as third:
                    until("a newcomer to know both", lambda: third.knows(1) and third.knows(2))
            until("Redis to be missed", lambda: not one.is_up() and not two.is_up())

        def forgets():
            with Redis(port) as redis:
                until("the replicas to meet again", lambda: one.is_up() and two.is_up())
                line = redis.connect()
                kept = lambda: line.ask("ZCARD", "pleiades:gate:ended") >= 2
                until("Redis to know again what it forgot", kept)
                line.close()
                with Replica(url) as third:
                    until("a newcomer to know both", lambda: third.knows(1) and third.knows(2))

        def waiting():
            with Redis(port) as redis:
                until("the replicas to meet again", lambda: one.is_up() and two.is_up())
                until("nobody to be missed", lambda: one.hand("hello", two) == "echo hello")
                one.popen.stdin.write(
                    json.dumps({"hand": "never", "to": two.name, "within_ms": 1000 * GUARD}).encode() + b"\n"
                )
                one.popen.stdin.flush()
                line = redis.connect()
                line.ask("CLIENT", "KILL", "TYPE", "pubsub")
                line.close()
                assert one.answer()["refused"] == "Away"

        yield "without Redis a replica is on its own and says so", away
        yield "when Redis comes, replicas learn what they missed", comes
        yield "a Redis that lost its memory is told again", forgets
        yield "whoever waits for an answer is told when the line breaks", waiting


def doors():
    port = free_port()
    flags = ["--tls-port", port, "--tls-auth-clients", "no", "--tls-ca-cert-file", TLS / "first-ca.pem"]
    flags += ["--tls-cert-file", TLS / "server.pem", "--tls-key-file", TLS / "server.key"]
    with Redis(flags=flags) as redis:
        url = f"rediss://:{Redis.PASSWORD}@localhost:{port}"

        def trusted():
            roots = {"SSL_CERT_FILE": str(TLS / "first-ca.pem")}
            with Replica(url, env=roots) as one, Replica(url, env=roots) as two:
                until("the replicas to meet", lambda: one.is_up() and two.is_up())
                assert one.hand("hello", two) == "echo hello"

        def untrusted():
            with Gateway(settings={"shared_state": {"redis": url}}) as gateway:
                until("it to be refused", lambda: "cannot be reached" in gateway.output())
                assert up(gateway) == 0
                assert Redis.PASSWORD not in gateway.output()

        def least():
            named = allow_least(redis)
            with Replica(named) as one, Replica(named) as two:
                until("the replicas to meet", lambda: one.is_up() and two.is_up())
                assert one.hand("hello", two) == "echo hello"
                one.ask(end=1)
                until("the other to know", lambda: two.knows(1))
                with Replica(named) as third:
                    until("a newcomer to know", lambda: third.knows(1))

        yield "the least rights that the page names are enough", least
        yield "rediss:// with a certificate of a trusted authority", trusted
        yield "rediss:// with a certificate of nobody we trust is refused", untrusted


def up(gateway):
    text = fetch(f"{gateway.admin}/metrics").text
    assert "pleiades_shared_state_up" in text
    return metric(text, "pleiades_shared_state_up")


def ended(gateway, client):
    """Whether the session is unknown at a gateway."""
    there = Client(gateway.url + client.path, client.revision)
    there.session = client.session
    try:
        there.request("tools/list")
    except RpcError as error:
        assert error.status == 404, error
        return True
    return False


def end(client):
    headers = client.envelope("", {})[1]
    assert fetch(f"http://{client.host}{client.path}", "DELETE", headers=headers).status == 204


def gateways():
    with contextlib.ExitStack() as all_of_it:
        enter = all_of_it.enter_context
        upstream = enter(Modern())
        redis = enter(Redis())
        settings = {"shared_state": {"redis": redis.url}}
        first = enter(Gateway(provider("modern", upstream.url), settings=settings))
        second = enter(Gateway(provider("modern", upstream.url), settings=settings))
        both = (first, second)
        for gateway in both:
            gateway.settled("modern")
        held = {}

        def open_at(gateway, revision):
            return Client(f"{gateway.url}/tools/modern", revision).connect()

        def serving():
            for gateway in both:
                for revision in (J, L):
                    assert open_at(gateway, revision).call("echo", {"message": "hi"})

        def meet():
            until("both to be up", lambda: all(up(gateway) == 1 for gateway in both))
            serving()

        def ends(revision):
            client = open_at(first, revision)
            there = Client(f"{second.url}/tools/modern", revision)
            there.session = client.session
            assert not ended(second, client)
            stream = there.listen()
            end(client)
            stream.ended()
            stream.close()
            assert ended(first, client)
            until("the other to know", lambda: ended(second, client))

        def missing():
            held["before"] = open_at(first, L)
            held["after"] = open_at(first, L)
            end(held["before"])
            redis.stop()
            until("both to notice", lambda: all(up(gateway) == 0 for gateway in both))
            serving()
            held["away"] = open_at(second, J)
            end(held["away"])
            assert ended(second, held["away"]) and not ended(first, held["away"])
            assert not ended(second, held["after"])
            assert all(gateway.is_ready() for gateway in both)

        def back():
            held["redis"] = enter(Redis(redis.port))
            until("both to be up", lambda: all(up(gateway) == 1 for gateway in both))
            until("the end to be learnt", lambda: ended(first, held["away"]))
            end(held["after"])
            until("new ends to be learnt", lambda: ended(second, held["after"]))

        def newcomer():
            with Gateway(provider("modern", upstream.url), settings=settings) as third:
                for when in ("before", "away", "after"):
                    until(f"the end {when}", lambda w=when: ended(third, held[w]))

        def frozen():
            os.kill(pid_of(held["redis"]), signal.SIGSTOP)
            try:
                serving()
                until("both to notice", lambda: all(up(gateway) == 0 for gateway in both))
                serving()
            finally:
                os.kill(pid_of(held["redis"]), signal.SIGCONT)
            until("both to be up", lambda: all(up(gateway) == 1 for gateway in both))

        def silent():
            for gateway in both:
                assert Redis.PASSWORD not in gateway.output()

        yield "two gateways meet at their Redis", meet
        for revision in (J, L):
            yield (
                f"a session of {NAMES[revision]} ended at one is 404 at the other, and its stream ends there",
                lambda r=revision: ends(r),
            )
        yield "Redis stopped: both go on, and say so in their metrics", missing
        yield "Redis back and empty: both know again what ended meanwhile", back
        yield "a gateway that starts later knows which sessions have ended", newcomer
        yield "a Redis that hangs is noticed and keeps nobody waiting", frozen
        yield "its password is in no log", silent


def accounts():
    """Two gateways over one vault: what happens to an account at one is seen by the other at once. Without
    Redis that would take the 20 to 30 seconds for which credentials are taken from memory."""
    at_once = 10
    with contextlib.ExitStack() as all_of_it:
        enter = all_of_it.enter_context
        folder = enter(tempfile.TemporaryDirectory())
        upstream = enter(Modern())
        redis = enter(Redis())
        told = provider("modern", upstream.url, auth={"oauth": {}})
        settings = {
            "shared_state": {"redis": redis.url},
            "vault": {"file": {"path": f"{folder}/vault", "key": SEAL}},
        }
        first = enter(Gateway(told, settings=settings))
        second = enter(Gateway(told, settings=settings))
        until("both to be up", lambda: all(up(gateway) == 1 for gateway in (first, second)))
        clients = [caller(gateway, "/mcp/modern") for gateway in (first, second)]

        def status(client):
            arguments = {"tool": "echo", "arguments": {"message": "hi"}}
            return asked(client, "use_modern", arguments)["structuredContent"]["status"]

        def put(gateway):
            url = f"{gateway.admin}/v1/accounts/default/local/modern/ann"
            body = json.dumps({"access_token": "a-token"}).encode()
            reply = fetch(url, "PUT", {"content-type": "application/json"}, body)
            assert reply.status in (200, 201, 204), (reply.status, reply.text)

        def revoked():
            put(first)
            assert [status(client) for client in clients] == ["ok", "ok"]
            assert fetch(f"{first.admin}/v1/accounts/default/local/modern/ann", "DELETE").status == 204
            until("the other to see it", lambda: status(clients[1]) == "needs_auth", at_once)

        def by_command():
            put(second)
            assert [status(client) for client in clients] == ["ok", "ok"]
            command = [PLEIADES, "--config", first.home / "pleiades.yaml", "accounts", "revoke", "modern", "ann"]
            ended = subprocess.run(command, env=first.environment, cwd=first.home, capture_output=True)
            assert ended.returncode == 0, ended
            for client in clients:
                until("both to see it", lambda c=client: status(c) == "needs_auth", at_once)

        def unreadable():
            line = redis.connect()
            line.ask("SUBSCRIBE", "pleiades:pleiades:changed")
            put(first)
            message = line.read()
            line.close()
            assert message[0] == b"message" and b"modern" not in message[2] and b"ann" not in message[2]

        yield "an account that is revoked at one is revoked at the other at once", revoked
        yield "a command that revokes an account is heard by both gateways", by_command
        yield "who reads Redis does not read whose account changed", unreadable


def allow_least(redis):
    """Makes a user with the rights that the page names, and no more; its URL."""
    page = (ROOT / "docs/REPLICAS.md").read_text()
    rights = next(line for line in page.splitlines() if line.startswith("user pleiades "))
    line = redis.connect()
    line.ask("ACL", "SETUSER", *rights.split()[1:])
    line.close()
    return f"redis://pleiades:password@127.0.0.1:{redis.port}/2"


def values():
    """Values that replicas share, each tenant within its share."""
    with Redis() as redis, Replica(allow_least(redis)) as one, Replica(allow_least(redis)) as two:
        until("the replicas to meet", lambda: one.is_up() and two.is_up())

        def room():
            one.put("other", "globex", 8_000)
            for number in range(5):
                one.put(f"a{number}", "acme", 2_500, ttl_ms=60_000 + number)
            # A value counts for 512 bytes more than it has.
            assert two.has("a0", "a1", "a2", "a3", "a4", "other") == ["a2", "a3", "a4", "other"]
            two.put("early", "acme", 100, ttl_ms=30_000)
            two.put("large", "acme", 9_000)
            assert one.has("a2", "a3", "a4", "early", "large", "other") == ["large", "other"]

        def again():
            for _ in range(50):
                one.put("same", "initech", 4_000)
            one.put("beside", "initech", 4_000)
            assert two.has("same", "beside") == ["same", "beside"], "it is counted once"

        def too_large():
            one.put("beyond", "acme", 9_600)
            one.put("huge", "acme", (8 << 20) + 1, share=1 << 30)
            assert two.has("beyond", "huge", "large") == ["large"]
            one.put("largest", "hooli", 8 << 20, share=1 << 30)
            until("it to arrive", lambda: two.has("largest") == ["largest"])

        def expires():
            one.put("short", "umbrella", 100, ttl_ms=50)
            until("it to expire", lambda: not two.has("short"))
            for _ in range(3):
                one.put("next", "umbrella", 9_000)
            assert two.has("next") == ["next"], "what has expired takes no room"

        def forgotten():
            line = redis.connect()
            line.ask("SELECT", 2)
            for name in line.ask("KEYS", "pleiades:gate:o:*") + line.ask("KEYS", "pleiades:gate:s:*"):
                assert 0 < line.ask("PTTL", name), name
                line.ask("DEL", name)
            line.close()
            for number in range(5):
                one.put(f"b{number}", "acme", 2_500, ttl_ms=60_000 + number)
            assert two.has("b0", "b1", "b2", "b3", "b4") == ["b2", "b3", "b4"]

        yield "a tenant's values make room for each other alone, the soonest to expire first", room
        yield "a value in the place of another is counted once", again
        yield "what is larger than a share or than 8 MiB is not stored, and takes nothing away", too_large
        yield "what has expired takes no room", expires
        yield "bookkeeping that Redis lost begins anew", forgotten


def results():
    """What is kept of results between calls, over two gateways."""
    lines = [f"canary line {number}" for number in range(3000)]
    with contextlib.ExitStack() as all_of_it:
        enter = all_of_it.enter_context
        upstream = enter(Modern())
        redis = enter(Redis())
        told = provider(
            "modern", upstream.url, tools={"reads": ["echo"]}, facade={"cache": {"ttl": "10m"}}
        )
        settings = {"shared_state": {"redis": allow_least(redis)}}
        both = [enter(Gateway(told, settings=settings)) for _ in range(2)]
        for gateway in both:
            gateway.settled("modern")
        until("both to be up", lambda: all(up(gateway) == 1 for gateway in both))
        clients = [caller(gateway, "/mcp/modern") for gateway in both]
        first, second = clients
        held = {}

        def ask(client, **arguments):
            return asked(client, "use_modern", arguments)["structuredContent"]

        def echo(client, message, **options):
            answer = ask(client, tool="echo", arguments={"message": message}, options=options)
            assert answer["status"] == "ok", answer
            return answer

        def cut(client):
            answer = echo(client, "\n".join(lines))
            assert answer["page"]["next"] == 2, answer["page"]
            return answer

        def read(client, handle, **options):
            return ask(client, options={"result": handle, **options})

        def is_cached(client, message):
            return any(note.startswith("from the cache, ") for note in echo(client, message).get("notes", []))

        def elsewhere():
            answer = cut(first)
            held["shared"] = answer["resultId"]
            shown = answer["text"]
            while "next" in answer:
                # Each page from the other of the two.
                clients.reverse()
                answer = ask(clients[0], **answer["next"])
                assert answer["status"] == "ok", answer
                shown += answer["text"]
            assert all(line in shown for line in lines)

        def unknown():
            made_up = read(second, "r_" + "A" * 22)
            assert made_up["status"] == "invalid_arguments", made_up
            assert read(first, "r_" + "A" * 22)["text"] == made_up["text"]

        def given_again():
            assert not is_cached(first, "canary")
            assert is_cached(second, "canary") and is_cached(first, "canary")
            ask(second, tool="add", arguments={"a": 1, "b": 2})
            assert not is_cached(first, "canary"), "a write at the other"
            assert is_cached(second, "canary")

        def unreadable():
            line = redis.connect()
            line.ask("SELECT", 2)
            names = line.ask("KEYS", "*")
            kinds = {line.ask("TYPE", name) for name in names}
            assert kinds == {b"string", b"zset", b"hash"}, kinds
            for name in names:
                read_by = {
                    b"string": ("GET", name),
                    b"zset": ("ZRANGE", name, 0, -1),
                    b"hash": ("HGETALL", name),
                }
                value = line.ask(*read_by[line.ask("TYPE", name)])
                whole = name + (b"".join(value) if isinstance(value, list) else value)
                for word in (b"canary", b"modern", b"local", b"default", held["shared"].encode()):
                    assert word not in whole, (name, word)
                assert line.ask("PTTL", name) > 0, name
            line.close()

        def forged():
            """Values put in the place of others, or cut, are as if they were not there."""
            answer = cut(first)
            line = redis.connect()
            line.ask("SELECT", 2)
            for name in line.ask("KEYS", "pleiades:pleiades:e:*"):
                line.ask("SET", name, line.ask("GET", name)[:-1] + b"!")
            line.close()
            assert read(second, answer["resultId"])["status"] == "invalid_arguments"
            assert read(first, answer["resultId"])["status"] == "ok"
            is_cached(second, "forged")

        def frozen():
            held["frozen"] = cut(first)["resultId"]
            os.kill(pid_of(redis), signal.SIGSTOP)
            try:
                for client in (first, second):
                    echo(client, "hi")
                assert read(first, held["frozen"])["status"] == "ok"
                assert read(second, held["frozen"])["status"] == "invalid_arguments"
                assert not is_cached(first, "canary"), "writes elsewhere are not known"
            finally:
                os.kill(pid_of(redis), signal.SIGCONT)
            until("the other to find it", lambda: read(second, held["frozen"])["status"] == "ok")

        def killed():
            held["last"] = cut(first)["resultId"]
            redis.stop()
            until("both to notice", lambda: all(up(gateway) == 0 for gateway in both))
            assert read(first, held["last"])["status"] == "ok"
            assert read(second, held["shared"])["status"] == "ok", "it was read here before"
            assert read(second, held["last"])["status"] == "invalid_arguments"
            own = cut(second)["resultId"]
            assert read(second, own, page=2)["status"] == "ok"
            assert not is_cached(first, "canary") and not is_cached(first, "canary")

        def back():
            allow_least(enter(Redis(redis.port)))
            until("both to be up", lambda: all(up(gateway) == 1 for gateway in both))
            until("answers to be shared", lambda: is_cached(first, "back") and is_cached(second, "back"))
            assert read(second, cut(first)["resultId"])["status"] == "ok"

        yield "a result that was cut at one is read on at either", elsewhere
        yield "a handle that nobody has is answered alike at both", unknown
        yield "an answer of one is given again at the other until there is a write at either", given_again
        yield "who reads Redis reads no value, name or handle, and all of it expires", unreadable
        yield "what others write into Redis is no result", forged
        yield "a Redis that hangs keeps nobody waiting, and what it has is found when it goes on", frozen
        yield "Redis killed: each reads its own, and nothing comes from the cache", killed
        yield "Redis back and empty: results and answers are shared again", back


def pid_of(process):
    """The server itself: a script that starts it replaces itself."""
    assert pathlib.Path(f"/proc/{process.pid}/comm").read_text().startswith("redis-server")
    return process.pid


def checks():
    yield from handing()
    yield from remembering()
    yield from doors()
    yield from gateways()
    yield from accounts()
    yield from values()
    yield from results()
