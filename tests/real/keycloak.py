"""A real Keycloak with its default policies: somebody connects by itself, and a client that Keycloak forgot."""

import json
import os
import pathlib
import shutil
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from browser import Browser
from hashicorp import Refused, request
from mcp import J, fetch
from oauth import asked, caller, data_of
from world import Gateway, Process, free_port, provider, until

ADMIN, PASSWORD = "operator", "of-the-tests-alone"
ANN, ANNS = "ann", "anns-password"
RESOURCE, SECRET = "notes-server", "of-the-notes-server"
# Everything that the server shows and asks for in one sign-in.
PAGES = 6


class Keycloak(Process):
    """Keycloak in dev mode on loopback, with a realm that has all its defaults but one: anonymous registration
    is for the hosts that are trusted, and by default there is none."""

    def __init__(self):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.issuer = f"{self.url}/realms/mcp"
        home = pathlib.Path(os.environ["PLEIADES_KEYCLOAK"])
        self.home = pathlib.Path(f"{home}.{os.getpid()}")
        shutil.copytree(home, self.home)
        java = {"JAVA_OPTS_KC_HEAP": "-Xms64m -Xmx512m", "KC_BOOTSTRAP_ADMIN_USERNAME": ADMIN}
        java["KC_BOOTSTRAP_ADMIN_PASSWORD"] = PASSWORD
        start = ["start-dev", "--http-host=127.0.0.1", f"--http-port={self.port}", "--cache=local"]
        super().__init__("keycloak", [self.home / "bin/kc.sh", *start], java)
        until("keycloak to answer", self.is_up, guard=300)
        self.realm()

    def is_up(self):
        self.check_alive()
        try:
            return request("GET", f"{self.url}/realms/master/.well-known/openid-configuration")
        except (OSError, Refused):
            return None

    def admin(self, method, path, body=None):
        form = {"grant_type": "password", "client_id": "admin-cli", "username": ADMIN, "password": PASSWORD}
        said = fetch(
            f"{self.url}/realms/master/protocol/openid-connect/token",
            "POST",
            {"content-type": "application/x-www-form-urlencoded"},
            urllib.parse.urlencode(form).encode(),
        )
        token = json.loads(said.text)["access_token"]
        headers = {"authorization": f"Bearer {token}"}
        return request(method, f"{self.url}/admin{path}", body, headers)

    def realm(self):
        self.admin("POST", "/realms", {"realm": "mcp", "enabled": True})
        policies = "org.keycloak.services.clientregistration.policy.ClientRegistrationPolicy"
        for policy in self.admin("GET", f"/realms/mcp/components?type={policies}"):
            if (policy["providerId"], policy["subType"]) == ("trusted-hosts", "anonymous"):
                policy["config"]["trusted-hosts"] = ["127.0.0.1"]
                self.admin("PUT", f"/realms/mcp/components/{policy['id']}", policy)
        person = {"username": ANN, "enabled": True, "emailVerified": True, "email": "ann@example.com"}
        person |= {"firstName": "Ann", "lastName": "Other"}
        person["credentials"] = [{"type": "password", "value": ANNS, "temporary": False}]
        self.admin("POST", "/realms/mcp/users", person)
        resource = {"clientId": RESOURCE, "secret": SECRET, "standardFlowEnabled": False}
        self.admin("POST", "/realms/mcp/clients", resource)

    def clients(self):
        all_of_them = self.admin("GET", "/realms/mcp/clients")
        return {client["clientId"]: client["id"] for client in all_of_them if client.get("consentRequired")}

    def forget(self):
        """Every client that registered itself is gone."""
        for identity in self.clients().values():
            self.admin("DELETE", f"/realms/mcp/clients/{identity}")

    def knows(self, token):
        """Whether a token is its own, and good: as a resource asks."""
        form = {"client_id": RESOURCE, "client_secret": SECRET, "token": token}
        said = fetch(
            f"{self.issuer}/protocol/openid-connect/token/introspect",
            "POST",
            {"content-type": "application/x-www-form-urlencoded"},
            urllib.parse.urlencode(form).encode(),
        )
        return said.status == 200 and json.loads(said.text)["active"]

    def stop(self):
        super().stop()
        shutil.rmtree(self.home, ignore_errors=True)


class Resource:
    """An MCP server that lets in whom Keycloak knows, and names Keycloak in its metadata."""

    def __init__(self, keycloak, scopes):
        self.keycloak = keycloak
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler(self))
        self.origin = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.url = f"{self.origin}/mcp"
        self.metadata = {"resource": self.url, "authorization_servers": [keycloak.issuer]}
        if scopes:
            self.metadata["scopes_supported"] = scopes
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def answer(self, message):
        if message["method"] == "initialize":
            capabilities = {"tools": {}}
            server = {"name": "notes", "version": "1"}
            return {"protocolVersion": "2025-06-18", "capabilities": capabilities, "serverInfo": server}
        if message["method"] == "tools/list":
            return {"tools": [{"name": "whoami", "description": "Who", "inputSchema": {"type": "object"}}]}
        if message["method"] == "tools/call":
            return {"content": [{"type": "text", "text": "it is you"}], "isError": False}
        return None


def handler(resource):
    place = "/.well-known/oauth-protected-resource/mcp"

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def reply(self, status, body=None, **headers):
            text = b"" if body is None else json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"content-type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def do_GET(self):
            if self.path == place:
                self.reply(200, resource.metadata)
            else:
                self.reply(405 if self.path == "/mcp" else 404)

        def do_POST(self):
            text = self.rfile.read(int(self.headers.get("content-length") or 0))
            token = (self.headers.get("authorization") or "").removeprefix("Bearer ")
            if self.path != "/mcp" or not token or not resource.keycloak.knows(token):
                named = f'Bearer resource_metadata="{resource.origin}{place}"'
                self.reply(401, {}, **{"www-authenticate": named})
                return
            message = json.loads(text)
            if "id" not in message:
                self.reply(202)
                return
            result = resource.answer(message)
            refusal = {"error": {"code": -32601, "message": "no such method"}}
            outcome = refusal if result is None else {"result": result}
            self.reply(200, {"jsonrpc": "2.0", "id": message["id"], **outcome})

    return Handler


def agree(link):
    """Opens a connect link, signs in at Keycloak and says yes to what it asks; the page at the end."""
    person = Browser()
    page = person.follow(person.submit(person.open(link)))
    for _ in range(PAGES):
        form = next((it for it in page.forms if {"username", "accept"} & set(it["fields"])), None)
        if form is None:
            return page
        form["fields"].pop("cancel", None)
        said = {"username": ANN, "password": ANNS} if "username" in form["fields"] else {"accept": "Yes"}
        page = person.follow(person.submit(page, page.forms.index(form), **said))
    return page


def checks():
    with Keycloak() as keycloak:
        for scopes in (None, ["openid", "profile"], ["notes:read"]):
            named = "no scopes are named" if scopes is None else f"{' '.join(scopes)} is named"
            claim = f"somebody connects by itself at a Keycloak with its default policies, where {named}"
            yield claim, lambda scopes=scopes: connects(keycloak, scopes)
        yield "a client that Keycloak has forgotten is registered anew", lambda: forgotten(keycloak)


def call(gateway):
    return asked(caller(gateway, "/mcp/notes", J), "use_notes", {"tool": "whoami", "arguments": {}})


def connects(keycloak, scopes):
    with Resource(keycloak, scopes) as resource:
        descriptor = {**provider("notes", resource.url), "auth": {"oauth": {}}}
        with Gateway(descriptor) as gateway:
            page = agree(data_of(call(gateway))["connect_url"])
            assert page.status == 200 and "is connected" in page.text, f"{page}\n{gateway.output()[-3000:]}"
            said = call(gateway)["structuredContent"]
            # Without `openid`, which nobody asks for there, Keycloak names nobody.
            name = ANN if scopes else "default"
            assert (said["status"], said.get("accountId")) == ("ok", name), said
            assert said["text"] == "it is you", said


def forgotten(keycloak):
    with Resource(keycloak, None) as resource:
        descriptor = {**provider("notes", resource.url), "auth": {"oauth": {}}}
        with Gateway(descriptor) as gateway:
            link = data_of(call(gateway))["connect_url"]
            assert agree(link).status == 200
            keycloak.forget()
            # Keycloak shows an error of its own, and nobody comes back.
            assert [agree(link).status for _ in range(2)] == [400, 400]
            page = agree(link)
            assert page.status in (200, 409), f"{page}\n{gateway.output()[-3000:]}"
