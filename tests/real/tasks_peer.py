"""A server whose one tool only runs as a task: in 2025-11-25 by the `task` parameter, in 2026-07-28 by
the extension. It notes every request, so that a test sees what the gateway does for a task.

`research` takes `ask` (it elicits a topic before it ends), `endless` (it ends when it is cancelled) and
`held` (the answer that names it waits until the test lets it go).
Standard library only.
"""

import http.server
import itertools
import json
import threading

from mcp import L, M, META

EXTENSION = META + "tasks"
RELATED = META + "related-task"
POLL = 100
FORM = {"type": "object", "properties": {"topic": {"type": "string"}}, "required": ["topic"]}
QUESTION = {"message": "Which topic?", "requestedSchema": FORM}
STAMP = "2026-01-01T00:00:00Z"


class Fault(Exception):
    def __init__(self, code, message, data=None):
        super().__init__(message)
        self.error = {"code": code, "message": message, **({"data": data} if data else {})}


class Task:
    """Looked at twice while it works; then it asks, or ends."""

    def __init__(self, name, arguments, token):
        self.name, self.token = name, token
        self.asks, self.endless = arguments.get("ask", False), arguments.get("endless", False)
        self.looks, self.cancelled, self.answer = 0, False, None
        self.named = threading.Event()
        if not arguments.get("held", False):
            self.named.set()
        self.answered = threading.Event()

    def status(self):
        if self.cancelled:
            return "cancelled"
        if self.endless or self.looks < 2:
            return "working"
        return "input_required" if self.asks and self.answer is None else "completed"

    def result(self):
        topic = (self.answer or {}).get("content", {}).get("topic") if self.asks else "anything"
        return {"content": [{"type": "text", "text": f"researched {topic}"}], "isError": False}


class Peer:
    """One server of one revision, on a port of its own."""

    def __init__(self, revision, listener=True):
        self.revision = revision
        self.tasks, self.seen, self.waiting = {}, [], {}
        self.numbers, self.lock = itertools.count(1), threading.Lock()
        peer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                peer.post(self)

            def do_GET(self):
                peer.plain(self, 405)

            def do_DELETE(self):
                peer.plain(self, 204)

            def log_message(self, *_):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}/mcp"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.http.shutdown()
        self.http.server_close()

    def count(self, method):
        with self.lock:
            return sum(seen["method"] == method for seen in self.seen)

    def named(self, method):
        """The tasks that requests of a method named."""
        with self.lock:
            return [seen["params"].get("taskId") for seen in self.seen if seen["method"] == method]

    def post(self, handler):
        message = json.loads(handler.rfile.read(int(handler.headers["content-length"])))
        method, params = message.get("method"), message.get("params") or {}
        if method is None:
            self.waiting.pop(message["id"]).set_result(message)
            return self.plain(handler, 202)
        if "id" not in message:
            return self.plain(handler, 202)
        with self.lock:
            self.seen.append({"method": method, "params": params, "headers": handler.headers})
        try:
            result = self.answer(handler, message, method, params)
        except Fault as fault:
            status = 400 if fault.error["code"] == -32021 else 200
            return self.write(handler, status, {"id": message["id"], "error": fault.error})
        if result is not None:
            self.write(handler, 200, {"id": message["id"], "result": result})

    def answer(self, handler, message, method, params):
        modern = META + "protocolVersion" in params.get("_meta", {})
        if modern != (self.revision == M):
            raise Fault(-32022 if self.revision == M else -32600, "wrong generation", {"supported": [M]})
        if method in ("initialize", "server/discover"):
            return self.identity()
        if method == "tools/list":
            tool = {"name": "research", "inputSchema": {"type": "object", "properties": {
                "ask": {"type": "boolean"}, "endless": {"type": "boolean"}, "held": {"type": "boolean"}}}}
            if not modern:
                tool["execution"] = {"taskSupport": "required"}
            return self.complete({"tools": [tool], "ttlMs": 0, "cacheScope": "private"} if modern else {"tools": [tool]})
        if method == "tools/call":
            return self.make(params)
        if method.startswith("tasks/"):
            return self.task(handler, message, method, params)
        raise Fault(-32601, f"no method {method}")

    def identity(self):
        about = {"serverInfo": {"name": "tasks", "version": "1"}}
        if self.revision == M:
            capabilities = {"tools": {}, "extensions": {EXTENSION: {}, META + "ui": {"mimeTypes": ["a/b"]}}}
            return self.complete({**about, "supportedVersions": [M], "capabilities": capabilities,
                                  "ttlMs": 0, "cacheScope": "private"})
        tasks = {"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}}
        return {**about, "protocolVersion": L, "capabilities": {"tools": {}, "tasks": tasks}}

    def complete(self, result):
        return {"resultType": "complete", **result} if self.revision == M else result

    def make(self, params):
        if self.revision == M:
            declared = params["_meta"][META + "clientCapabilities"].get("extensions", {})
            if EXTENSION not in declared:
                required = {"requiredCapabilities": {"extensions": {EXTENSION: {}}}}
                raise Fault(-32021, "only as a task", required)
        elif "task" not in params:
            raise Fault(-32601, "only as a task")
        name = f"task-{next(self.numbers)}"
        token = params.get("_meta", {}).get("progressToken")
        task = self.tasks[name] = Task(name, params.get("arguments", {}), token)
        told = self.told(task)
        assert task.named.wait(60), "nobody lets the task go"
        return {"resultType": "task", **told} if self.revision == M else {"task": told}

    def told(self, task):
        status = task.status()
        told = {"taskId": task.name, "status": status, "createdAt": STAMP, "lastUpdatedAt": STAMP}
        if self.revision == L:
            return {**told, "ttl": 60000, "pollInterval": POLL}
        told.update({"ttlMs": 60000, "pollIntervalMs": POLL, "statusMessage": f"look {task.looks}"})
        if status == "input_required":
            told["inputRequests"] = {"topic": {"method": "elicitation/create", "params": {"mode": "form", **QUESTION}}}
        if status == "completed":
            told["result"] = {"resultType": "complete", **task.result()}
        return told

    def task(self, handler, message, method, params):
        task = self.tasks.get(params.get("taskId"))
        if task is None:
            raise Fault(-32602, "no such task")
        if self.revision == M and handler.headers["mcp-name"] != task.name:
            raise Fault(-32020, "`Mcp-Name` is not the task's own")
        if method == "tasks/get":
            task.looks += 1
            return self.complete(self.told(task))
        if method == "tasks/cancel":
            task.cancelled = True
            return self.complete({} if self.revision == M else self.told(task))
        if method == "tasks/update" and self.revision == M:
            task.answer = params["inputResponses"].get("topic", task.answer)
            return self.complete({})
        if method == "tasks/result" and self.revision == L:
            return self.result(handler, message, task)
        raise Fault(-32601, f"no method {method}")

    def result(self, handler, message, task):
        """The stream on which a task of 2025-11-25 asks, and ends."""
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream")
        handler.send_header("connection", "close")
        handler.end_headers()
        mark = {RELATED: {"taskId": task.name}}
        if task.status() == "input_required":
            number = f"ask-{task.name}"
            answered = self.waiting[number] = Slot()
            asked = {"mode": "form", **QUESTION, "_meta": mark}
            self.event(handler, {"id": number, "method": "elicitation/create", "params": asked})
            answer = answered.result()
            assert answer["result"]["_meta"][RELATED]["taskId"] == task.name, answer
            task.answer = answer["result"]
        if task.token is not None:
            told = {"progressToken": task.token, "progress": 1, "total": 1, "_meta": mark}
            self.event(handler, {"method": "notifications/progress", "params": told})
        self.event(handler, {"id": message["id"], "result": {**task.result(), "_meta": mark}})
        handler.close_connection = True

    def event(self, handler, message):
        text = json.dumps({"jsonrpc": "2.0", **message})
        handler.wfile.write(f"event: message\ndata: {text}\n\n".encode())
        handler.wfile.flush()

    def write(self, handler, status, message):
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        handler.send_response(status)
        handler.send_header("content-type", "application/json")
        handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def plain(self, handler, status):
        handler.send_response(status)
        handler.send_header("content-length", "0")
        handler.end_headers()


class Slot:
    """A value that is waited for."""

    def __init__(self):
        self.event, self.value = threading.Event(), None

    def set_result(self, value):
        self.value = value
        self.event.set()

    def result(self):
        assert self.event.wait(60), "no answer came"
        return self.value
