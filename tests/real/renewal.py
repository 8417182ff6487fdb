"""Renewal under attack: processes killed at random points, replicas that want the same, a lost answer.

`PLEIADES_ROUNDS` and `PLEIADES_CREDENTIALS` say how much of it (10 and 40; the figures of a release are of
200 and 500).
"""

import concurrent.futures
import json
import os
import random
import signal
import time

from connecting import digest
from mcp import J, fetch
from oauth import Oidc, asked, caller, protected
from world import Everything, Gateway, until

CLIENT = {
    "client_id": "app",
    "client_secret": "a secret of the tests, long enough for any policy",
    "redirect_uris": ["http://127.0.0.1/oauth/callback"],
    "grant_types": ["authorization_code", "refresh_token"],
    "response_types": ["code"],
}
AUTH = {key: CLIENT[key] for key in ("client_id", "client_secret")}
# A lease is dead one ttl after a process first saw it; then what it guarded is tried once more.
LEASE = 60
CALL = {"tool": "echo", "arguments": {"message": "hi"}}
PER_ROUND = 4
# The accounts belong to several users, each with a key.
USERS = {f"user{number}": f"key-of-user-{number}-0123456789abcdef" for number in range(20)}
ACCESS = {
    "api_keys": [
        {"name": user, "tenant": "acme", "user": user, "sha256": digest(key)} for user, key in USERS.items()
    ]
}


def amount(name, usual):
    return int(os.environ.get(f"PLEIADES_{name}", usual))


def checks():
    yield "killed at random points of a renewal, nothing is lost but within the window of its answer", killed
    yield "three replicas redeem each refresh token once, however many expire together", replicas
    yield "an answer that is lost is asked for once more, and refused is said as interrupted", lost


def notes(server):
    """The provider; who waits for a renewal does so for moments."""
    descriptor = protected("notes", server, AUTH)
    descriptor["upstream"]["timeouts"] = {"call": "10s"}
    return descriptor


def owner(account):
    """Whose an account is: the same whenever it is asked."""
    return list(USERS)[sum(account.encode()) % len(USERS)]


def put(gateway, account, tokens):
    url = f"{gateway.admin}/v1/accounts/acme/{owner(account)}/notes/{account}"
    reply = fetch(url, "PUT", {"content-type": "application/json"}, json.dumps(tokens).encode())
    assert reply.status in (200, 201, 204), (reply.status, reply.text)


def status_of(gateway, account):
    client = caller(gateway, "/mcp/notes", J, USERS[owner(account)])
    return asked(client, "use_notes", {**CALL, "accountId": account})["structuredContent"]


def killed():
    rounds, dice = amount("ROUNDS", 10), random.Random(7)
    with Everything() as upstream, Oidc(upstream.url, clients=[CLIENT]) as server:
        gateway = Gateway(notes(server), settings={"access": ACCESS})
        try:
            accounts, kills = [], {}
            for number in range(rounds):
                fresh = [f"a{number}-{one}" for one in range(PER_ROUND)]
                for account in fresh:
                    put(gateway, account, server.mint(account, "app", 1) | {"expires_in": 0})
                accounts += fresh
                server.set(delay=dice.choice([0, 0, 20, 60]))
                with concurrent.futures.ThreadPoolExecutor(PER_ROUND) as pool:
                    for account in fresh:
                        pool.submit(quietly, gateway, account)
                    time.sleep(dice.uniform(0, 0.25))
                    gateway.popen.send_signal(signal.SIGKILL)
                    gateway.popen.wait()
                for account in fresh:
                    kills[account] = time.time() * 1000
                gateway.again()
            server.set(delay=0)
            judged(gateway, server, accounts, kills)
        finally:
            gateway.stop()


def quietly(gateway, account):
    try:
        status_of(gateway, account)
    except Exception:
        pass


def judged(gateway, server, accounts, kills):
    """Every account serves, or was caught between its answer and the store; nothing else."""

    def settled(account):
        def ended():
            said = status_of(gateway, account)
            return said if said["status"] in ("ok", "token_expired", "needs_auth") else None

        return account, until(f"{account} to be decided", ended, guard=3 * LEASE)

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        outcomes = dict(pool.map(settled, accounts))
    facts = server.facts()
    caught = {}
    for account, said in outcomes.items():
        if said["status"] == "ok":
            continue
        assert said["status"] == "token_expired", (account, said)
        assert said["data"]["reason"] == "interrupted", (account, said)
        # It had been redeemed, and the process was killed within moments of that.
        caught[account] = kills[account] - facts["last"][account]
    listed = []
    for key in USERS.values():
        reply = fetch(f"{gateway.url}/v1/accounts", headers={"x-api-key": key})
        listed += json.loads(reply.text)["accounts"]
    assert {row["accountId"] for row in listed} == set(accounts), "an account was lost"
    for row in listed:
        expected = "needs_reauth" if row["accountId"] in caught else "ok"
        assert row["state"] in (expected, "expiring"), row
    widths = sorted(round(width) for width in caught.values())
    print(f"      {len(accounts)} accounts, {len(caught)} caught in the window, after {widths} ms", flush=True)


def replicas():
    amounts = amount("CREDENTIALS", 40)
    with Everything() as upstream, Oidc(upstream.url, clients=[CLIENT]) as server:
        first = Gateway(notes(server), settings={"access": ACCESS})
        others = []
        try:
            shared = {"file": {"path": str(first.home / "data/pleiades/vault")}}
            settings = {"vault": shared, "access": ACCESS}
            for _ in range(2):
                others.append(Gateway(notes(server), settings=settings))
            every = [first, *others]
            names = [f"c{number}" for number in range(amounts)]
            for name in names:
                put(first, name, server.mint(name, "app", 3600) | {"expires_in": 8})

            def used(job):
                name, at = job
                return status_of(every[at], name)["status"]

            end = time.monotonic() + 25
            with concurrent.futures.ThreadPoolExecutor(12) as pool:
                while time.monotonic() < end:
                    jobs = [(name, at) for name in names for at in range(3)]
                    wrong = [said for said in pool.map(used, jobs) if said != "ok"]
                    assert not wrong, wrong[:5]
            redeemed = server.facts()["redeemed"]
            assert len(redeemed) >= amounts, len(redeemed)
            twice = {token: count for token, count in redeemed.items() if count != 1}
            assert not twice, twice
            print(f"      {len(redeemed)} refresh tokens of {amounts} accounts, each redeemed once", flush=True)
        finally:
            for gateway in [*others, first]:
                gateway.stop()


def lost():
    with Everything() as upstream, Oidc(upstream.url, clients=[CLIENT]) as server:
        with Gateway(notes(server), settings={"access": ACCESS}) as gateway:
            server.set(drop=1)
            put(gateway, "zoe", server.mint("zoe", "app", 1) | {"expires_in": 0})
            said = status_of(gateway, "zoe")
            assert said["status"] in ("timeout", "unavailable", "upstream_error"), said
            server.set(drop=0)

            def decided():
                said = status_of(gateway, "zoe")
                return said if said["status"] in ("token_expired", "ok") else None

            said = until("the replay to be refused", decided, guard=3 * LEASE)
            assert said["status"] == "token_expired" and said["data"]["reason"] == "interrupted", said
