"""A provider on stdin and stdout for the tests; the first argument says how it behaves."""

import json
import os
import signal
import subprocess
import sys

KIND = sys.argv[1]
LEGACY = "2024-11-05" if KIND == "old" else "2025-11-25"
CAPABILITIES = {"tools": {"listChanged": True}}
parked, done, cancelled = {}, set(), []


def send(message):
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def answer(request, result):
    send({"id": request["id"], "result": result})


def refuse(request):
    send({"id": request["id"], "error": {"code": -32601, "message": "no such method"}})


def act(request):
    arguments = request["params"].get("arguments", {})
    token = request["params"].get("_meta", {}).get("progressToken")
    result = {"pid": os.getpid(), "env": dict(os.environ), "cwd": os.getcwd(), "cancelled": cancelled}
    result["echo"] = arguments.get("echo")
    if "exit" in arguments:
        with open("exits", "a") as file:
            file.write("exit\n")
        os._exit(arguments["exit"])
    if "fork" in arguments:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen(["sleep", "1000"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        result["grandchild"] = child.pid
    if "escape" in arguments:
        loop = "trap '' PIPE; for i in $(seq 600); do echo x || { touch closed; exit; }; sleep 0.05; done"
        subprocess.Popen(["sh", "-c", loop], stdin=subprocess.DEVNULL, start_new_session=True)
    if "progress" in arguments:
        send({"method": "notifications/progress", "params": {"progressToken": token, "progress": 1}})
    if "changed" in arguments:
        send({"method": "notifications/tools/list_changed"})
    after = arguments.get("after")
    if after and after not in done:
        parked[after] = (request, result)
        return
    answer(request, result)
    if "last" in arguments:
        os._exit(0)
    name = arguments.get("name")
    if name:
        done.add(name)
        if name in parked:
            answer(*parked.pop(name))


print("a line that is not JSON-RPC", flush=True)
print("a line of the log", file=sys.stderr, flush=True)
for line in iter(sys.stdin.readline, ""):
    message = json.loads(line)
    method = message.get("method")
    if method == "server/discover":
        if KIND == "modern":
            answer(message, {"supportedVersions": ["2026-07-28"], "capabilities": CAPABILITIES})
        elif KIND == "dies":
            sys.exit(1)
        elif KIND != "deaf":
            refuse(message)
    elif method == "initialize":
        answer(message, {"protocolVersion": LEGACY, "capabilities": CAPABILITIES})
    elif method == "tools/call":
        act(message)
    elif method == "notifications/cancelled":
        cancelled.append(message["params"]["requestId"])
    elif "id" in message and method not in (None, "subscriptions/listen"):
        refuse(message)
