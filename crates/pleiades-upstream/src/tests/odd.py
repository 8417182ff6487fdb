"""A provider on stdin and stdout that writes in forms the transport does not have; the argument names the form."""

import json
import sys

FORM = sys.argv[1]
out = sys.stdout.buffer


def write(message):
    text = json.dumps(message, ensure_ascii=False)
    if FORM == "latin1":
        return out.write(text.encode("latin-1") + b"\n")
    if FORM == "pretty":
        return out.write(json.dumps(message, indent=1).encode() + b"\n")
    if FORM == "framed":
        return out.write(b"Content-Length: %d\r\n\r\n%s" % (len(text), text.encode()))
    if FORM == "array":
        text = "[" + text + "]"
    if FORM == "batch":
        text = "[" + text + "," + json.dumps({"jsonrpc": "2.0", "method": "notifications/message"}) + "]"
    out.write(text.encode() + b"\n")


def answer(request, **members):
    message = {"jsonrpc": "2.0", "id": request["id"], **members}
    if FORM == "text-id":
        message["id"] = str(request["id"])
    if FORM == "error-null":
        message.setdefault("error", None)
    if FORM == "both" and request["method"] == "tools/call":
        message["error"] = {"code": 1, "message": "x"}
    write(message)
    out.flush()


if FORM == "exits":
    print("connecting with a-secret-value to http://db.example", file=sys.stderr)
    print("npm error 404 Not Found", file=sys.stderr)
    sys.exit(3)
calls = 0
for line in sys.stdin.buffer:
    request = json.loads(line)
    method = request.get("method")
    if "id" not in request:
        continue
    if method == "initialize":
        asked = request["params"]["protocolVersion"]
        if FORM == "strict" and asked > "2025-06-18":
            answer(request, error={"code": -32602, "message": "Unsupported", "data": {"supported": ["2025-06-18"]}})
            continue
        if FORM == "ancient" and asked != "2025-03-26":
            answer(request, error={"code": -32000, "message": "no"})
            continue
        settled = "2199-01-01" if FORM == "future" else asked
        answer(request, result={"protocolVersion": settled, "capabilities": {"tools": {}}})
    elif method == "tools/call":
        calls += 1
        if FORM == "silent":
            continue
        if FORM == "chatty":
            print("thinking about it", flush=True)
            continue
        if FORM == "forgets" and calls > 1:
            answer(request, error={"code": -32002, "message": "Server not initialized"})
            continue
        answer(request, result={"said": "caf\u00e9" if FORM == "latin1" else "cafe", "calls": calls})
    elif FORM == "forgets" and calls > 1:
        answer(request, error={"code": -32002, "message": "Server not initialized"})
    elif method == "ping" and FORM in ("silent", "chatty"):
        continue
    else:
        answer(request, error={"code": -32601, "message": "no such method"})
