"""A raw MCP client of one exact revision, for tests: what goes over the wire is what is written here.

Standard library only. `J`, `L` and `M` name the revisions 2025-06-18, 2025-11-25 and 2026-07-28.
"""

import http.client
import itertools
import json
import queue
import threading
from urllib.parse import urlsplit

J, L, M = "2025-06-18", "2025-11-25", "2026-07-28"
NAMES = {J: "J", L: "L", M: "M"}
# A guard against hanging, never an expectation about speed.
GUARD = 60
META = "io.modelcontextprotocol/"
NAMED_BY = {
    "tools/call": "name",
    "prompts/get": "name",
    "resources/read": "uri",
    **dict.fromkeys(("tasks/get", "tasks/update", "tasks/cancel"), "taskId"),
}


class RpcError(Exception):
    """A JSON-RPC error, with the HTTP status it came with."""

    def __init__(self, status, error):
        super().__init__(f"HTTP {status}: {error}")
        self.status = status
        self.code = (error or {}).get("code")
        self.message = (error or {}).get("message", "")
        self.data = (error or {}).get("data")


class Reply:
    """An HTTP answer: status, headers by lower-case name, and the JSON-RPC messages in its body."""

    def __init__(self, status, headers, messages, text):
        self.status, self.headers, self.messages, self.text = status, headers, messages, text


def events(lines):
    """The data of each event of an SSE stream, as it arrives."""
    data = []
    for raw in lines:
        line = raw.decode().rstrip("\r\n")
        if line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
        elif not line and data:
            text, data = "\n".join(data), []
            if text:
                yield text


def lines_of(response):
    while line := response.readline():
        yield line


class Client:
    """One client of one revision at one URL. `connect` shakes hands as its revision does."""

    def __init__(self, url, revision=M, headers=None, capabilities=None):
        self.url, self.revision = url, revision
        self.headers = dict(headers or {})
        self.capabilities = capabilities or {}
        self.session = None
        self.server = None
        self.ids = itertools.count(1)
        self.notifications = []
        parts = urlsplit(url)
        self.host, self.path = parts.netloc, parts.path or "/"

    def connect(self):
        if self.revision == M:
            self.server = self.request("server/discover")
            return self
        self.server = self.request(
            "initialize",
            {
                "protocolVersion": self.revision,
                "capabilities": self.capabilities,
                "clientInfo": {"name": "raw", "version": "1"},
            },
        )
        self.notify("notifications/initialized")
        return self

    def envelope(self, method, params):
        """Params and headers of a request, as the revision wants them."""
        params = dict(params or {})
        headers = {
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            **self.headers,
        }
        if self.revision == M:
            meta = dict(params.get("_meta", {}))
            meta.setdefault(META + "protocolVersion", self.revision)
            meta.setdefault(META + "clientCapabilities", self.capabilities)
            meta.setdefault(META + "clientInfo", {"name": "raw", "version": "1"})
            params["_meta"] = meta
            headers["mcp-protocol-version"] = self.revision
            headers["mcp-method"] = method
            if method in NAMED_BY:
                headers["mcp-name"] = str(params.get(NAMED_BY[method], ""))
        elif method != "initialize":
            headers["mcp-protocol-version"] = self.revision
        if self.session:
            headers["mcp-session-id"] = self.session
        return params, headers

    def post(self, message, headers):
        """Sends one body and reads the whole answer."""
        connection = http.client.HTTPConnection(self.host, timeout=GUARD)
        try:
            connection.request("POST", self.path, json.dumps(message).encode(), headers)
            response = connection.getresponse()
            got = {name.lower(): value for name, value in response.getheaders()}
            if got.get("content-type", "").startswith("text/event-stream"):
                messages, wanted = [], message.get("id")
                for text in events(lines_of(response)):
                    messages.append(json.loads(text))
                    self.heard(messages[-1])
                    if wanted is not None and messages[-1].get("id") == wanted:
                        break
                return Reply(response.status, got, messages, "")
            text = response.read().decode()
            try:
                messages = [json.loads(text)] if text else []
            except ValueError:
                messages = []
            return Reply(response.status, got, messages, text)
        finally:
            connection.close()

    def heard(self, message):
        """A message of a stream, as it arrives; for clients that can be asked."""

    def request(self, method, params=None, extra_headers=None):
        """The result of a request. Notifications that came with it are kept in `notifications`."""
        number = next(self.ids)
        params, headers = self.envelope(method, params)
        headers.update(extra_headers or {})
        message = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        reply = self.post(message, headers)
        self.last = reply
        if method == "initialize" and "mcp-session-id" in reply.headers:
            self.session = reply.headers["mcp-session-id"]
        for answer in reply.messages:
            if not isinstance(answer, dict):
                continue
            if "method" in answer:
                self.notifications.append(answer)
            elif "error" in answer:
                raise RpcError(reply.status, answer["error"])
            elif answer.get("id") == number:
                return answer["result"]
        raise RpcError(reply.status, {"message": f"no answer: {reply.text[:300]!r}"})

    def begin(self, method, params):
        """Sends a request and waits for nothing."""
        number = next(self.ids)
        params, headers = self.envelope(method, params)
        message = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        connection = http.client.HTTPConnection(self.host, timeout=GUARD)
        connection.request("POST", self.path, json.dumps(message).encode(), headers)
        connection.number = number
        return connection

    def notify(self, method, params=None):
        params, headers = self.envelope(method, params)
        reply = self.post({"jsonrpc": "2.0", "method": method, "params": params}, headers)
        if reply.status != 202:
            raise RpcError(reply.status, {"message": f"a notification was answered: {reply.text}"})

    def every(self, method, key):
        """A list to its last page."""
        items, cursor, pages = [], None, 0
        while True:
            page = self.request(method, {"cursor": cursor} if cursor else {})
            items += page[key]
            cursor, pages = page.get("nextCursor"), pages + 1
            if not cursor:
                return items
            if pages > 1000:
                raise RpcError(200, {"message": f"{method} never ends"})

    def tools(self):
        return self.every("tools/list", "tools")

    def call(self, name, arguments=None, meta=None):
        params = {"name": name, "arguments": arguments or {}}
        if meta:
            params["_meta"] = meta
        return self.request("tools/call", params)

    def listen(self, kinds=("toolsListChanged",), resources=()):
        """Opens the stream on which this revision hears of changes; M names resources here."""
        return Stream(self, kinds, resources)


class Stream:
    """Notifications of a GET stream (J, L) or of `subscriptions/listen` (M), in a queue."""

    def __init__(self, client, kinds, resources=()):
        self.client = client
        self.connection = http.client.HTTPConnection(client.host, timeout=GUARD)
        self.heard = queue.Queue()
        if client.revision == M:
            wanted = {"notifications": {kind: True for kind in kinds}}
            if resources:
                wanted["notifications"]["resourceSubscriptions"] = list(resources)
            params, headers = client.envelope("subscriptions/listen", wanted)
            message = {
                "jsonrpc": "2.0",
                "id": f"listen-{next(client.ids)}",
                "method": "subscriptions/listen",
                "params": params,
            }
            self.connection.request("POST", client.path, json.dumps(message).encode(), headers)
        else:
            _, headers = client.envelope("", {})
            headers.pop("content-type")
            headers["accept"] = "text/event-stream"
            self.connection.request("GET", client.path, headers=headers)
        self.response = self.connection.getresponse()
        if self.response.status != 200:
            raise RpcError(self.response.status, {"message": self.response.read().decode()[:300]})
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        try:
            for text in events(lines_of(self.response)):
                message = json.loads(text)
                self.heard.put(message)
                self.client.heard(message)
        except (OSError, ValueError, http.client.HTTPException, AttributeError):
            pass
        self.heard.put(None)

    def wait_for(self, method):
        """The next notification of this method; a stream that ended raises."""
        while True:
            message = self.heard.get(timeout=GUARD)
            if message is None:
                raise RpcError(200, {"message": f"the stream ended before `{method}`"})
            if message.get("method") == method:
                return message

    def soon(self, method):
        """The next notification of this method that comes within moments, or nothing."""
        try:
            while message := self.heard.get(timeout=0.1):
                if message.get("method") == method:
                    return message
        except queue.Empty:
            return None
        raise RpcError(200, {"message": f"the stream ended before `{method}`"})

    def ended(self):
        """Waits until the server has ended the stream."""
        while self.heard.get(timeout=GUARD) is not None:
            pass
        return True

    def close(self):
        sock = self.connection.sock
        if sock:
            try:
                sock.shutdown(2)
            except OSError:
                pass
        self.connection.close()


def fetch_events(client, headers):
    """The events of a GET stream to its end."""
    connection = http.client.HTTPConnection(client.host, timeout=GUARD)
    try:
        connection.request("GET", client.path, headers=headers)
        response = connection.getresponse()
        if response.status != 200:
            raise RpcError(response.status, {"message": response.read().decode()[:300]})
        return list(events(lines_of(response)))
    finally:
        connection.close()


def fetch(url, method="GET", headers=None, body=None):
    """One plain HTTP request."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=GUARD)
    try:
        path = parts.path or "/"
        connection.request(method, path + (f"?{parts.query}" if parts.query else ""), body, headers or {})
        response = connection.getresponse()
        got = {name.lower(): value for name, value in response.getheaders()}
        return Reply(response.status, got, [], response.read().decode())
    finally:
        connection.close()
