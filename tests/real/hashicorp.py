"""HashiCorp Vault, the Kubernetes API server and etcd, as processes of the tests."""

import json
import os
import pathlib
import ssl
import subprocess
import urllib.error
import urllib.request

from mcp import GUARD
from world import PLEIADES, ROOT, Process, free_port, listens, until

POLICIES = ROOT / "tests/peers/vault"
CERTIFICATES = ROOT / "crates/pleiades-upstream/src/tests/tls"
TELLER = PLEIADES.parent / "examples/vault_teller"


class Refused(Exception):
    """An answer that is no success."""

    def __init__(self, status, body):
        super().__init__(f"HTTP {status}: {body}")
        self.status, self.body = status, body


def request(method, url, body=None, headers=None, context=None):
    """The JSON that a server answers; `Refused` when that is no success."""
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(url, data, headers or {}, method=method)
    if data is not None:
        asked.add_header("Content-Type", "application/json")
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    try:
        with opener.open(asked, timeout=GUARD) as answer:
            text = answer.read()
    except urllib.error.HTTPError as error:
        raise Refused(error.code, error.read().decode(errors="replace")) from None
    return json.loads(text) if text else None


class Vault(Process):
    """HashiCorp Vault with a KV engine of version 2 at `secret/` and the policies `pleiades`, `transit`
    and `references`, which are those of docs/VAULT.md.

    In dev mode it keeps nothing; with `folder` it keeps everything in files there, speaks TLS when
    `tls` says so, and can be sealed, stopped and started again; with `raft` others can stand by."""

    ROOT_TOKEN = "root-canary-of-vault"

    def __init__(self, folder=None, tls=False, port=None, raft=False):
        self.port = port or free_port()
        self.tls, self.raft = tls, raft
        host = "localhost" if tls else "127.0.0.1"
        self.url = f"{'https' if tls else 'http'}://{host}:{self.port}"
        self.context = ssl.create_default_context(cafile=CERTIFICATES / "first-ca.pem") if tls else None
        self.kept = pathlib.Path(folder) if folder else None
        self.root = self.ROOT_TOKEN
        super().__init__("vault", self.command())
        until("Vault to listen", lambda: self.check_alive() or listens(self.port))
        until("Vault to answer", self.health)
        if self.kept is None or not (self.kept / "keys.json").exists():
            self.prepare()
        else:
            self.remember()
            self.unseal()

    def command(self):
        program = os.environ["PLEIADES_VAULT"]
        if self.kept is None:
            flags = [f"-dev-root-token-id={self.root}", f"-dev-listen-address=127.0.0.1:{self.port}"]
            return [program, "server", "-dev", "-dev-no-store-token", *flags]
        self.kept.mkdir(parents=True, exist_ok=True)
        tls = {"tls_disable": True}
        if self.tls:
            tls = {
                "tls_cert_file": str(CERTIFICATES / "server.pem"),
                "tls_key_file": str(CERTIFICATES / "server.key"),
            }
        config = {
            "disable_mlock": True,
            "storage": {"file": {"path": str(self.kept / "data")}},
            "listener": {"tcp": {"address": f"127.0.0.1:{self.port}", **tls}},
        }
        if self.raft:
            (self.kept / "raft").mkdir(exist_ok=True)
            cluster = f"127.0.0.1:{free_port()}"
            config["storage"] = {"raft": {"path": str(self.kept / "raft"), "node_id": str(self.port)}}
            config["listener"]["tcp"]["cluster_address"] = cluster
            config |= {"cluster_addr": f"https://{cluster}", "api_addr": self.url}
        (self.kept / "vault.json").write_text(json.dumps(config))
        return [program, "server", f"-config={self.kept / 'vault.json'}"]

    def ask(self, method, path, body=None, token=None):
        """What the API answers, as the root unless another token is given."""
        headers = {"X-Vault-Token": token or self.root}
        return request(method, f"{self.url}/v1/{path}", body, headers, self.context)

    def health(self):
        self.check_alive()
        try:
            codes = "standbyok=true&sealedcode=200&uninitcode=200"
            return self.ask("GET", f"sys/health?{codes}")
        except (OSError, Refused):
            return None

    def prepare(self):
        if self.kept is not None:
            made = self.ask("PUT", "sys/init", {"secret_shares": 1, "secret_threshold": 1})
            (self.kept / "keys.json").write_text(json.dumps(made))
            self.remember()
            self.unseal()
            mount = {"type": "kv", "options": {"version": "2"}}
            until("Vault to lead", lambda: self.does("POST", "sys/mounts/secret", mount))
            # A new KV engine of version 2 is made ready in the background.
            until("the KV engine", lambda: self.does("POST", "secret/config", {"max_versions": 10}))
        for policy in POLICIES.glob("*.hcl"):
            name = "pleiades" if policy.stem == "policy" else policy.stem
            self.ask("PUT", f"sys/policies/acl/{name}", {"policy": policy.read_text()})

    def does(self, *request):
        try:
            return self.ask(*request) or True
        except Refused:
            return None

    def remember(self):
        made = json.loads((self.kept / "keys.json").read_text())
        self.root, self.key = made["root_token"], made["keys"][0]

    def seal(self):
        self.ask("PUT", "sys/seal")

    def unseal(self):
        self.ask("PUT", "sys/unseal", {"key": self.key})
        until("Vault to be unsealed", lambda: (state := self.health()) and not state["sealed"])
        until("the root to be let in", lambda: self.does("GET", "auth/token/lookup-self"))

    def token(self, *policies, **rest):
        """A token that lasts, under the policy of docs/VAULT.md and these."""
        body = {"policies": ["pleiades", *policies], "ttl": "1h", **rest}
        return self.ask("POST", "auth/token/create", body)["auth"]["client_token"]

    def enable_transit(self):
        self.ask("POST", "sys/mounts/transit", {"type": "transit"})
        self.ask("POST", "transit/keys/pleiades")

    def entry(self, path, version=""):
        """An entry as it is kept; None when there is none."""
        try:
            return self.ask("GET", f"secret/data/{path}?version={version}")["data"]
        except Refused as refused:
            assert refused.status == 404, refused
            return None

    def put(self, path, **fields):
        self.ask("POST", f"secret/data/{path}", {"data": fields})

    def settings(self, auth, **rest):
        """`vault` of the settings."""
        ca = {"ca_file": str(CERTIFICATES / "first-ca.pem")} if self.tls else {}
        return {"hashicorp": {"address": self.url, "auth": auth, **ca, **rest}}


class Standby(Vault):
    """Another node of a Vault with `raft`."""

    def __init__(self, leader, folder):
        self.leader = leader
        super().__init__(folder, raft=True)

    def prepare(self):
        self.root, self.key = self.leader.root, self.leader.key
        self.ask("POST", "sys/storage/raft/join", {"leader_api_addr": self.leader.url})
        self.ask("PUT", "sys/unseal", {"key": self.key})
        until("the node to stand by", lambda: (state := self.health()) and state["standby"])
        until("it to forward", lambda: self.does("GET", "auth/token/lookup-self"))


class Teller:
    """`tests/peers/vault_teller.rs`: the gateway's own way to a Vault, told what to do. It logs at
    trace level; `log` is everything that it said."""

    logs = []

    def __init__(self, settings, folder):
        self.log = pathlib.Path(folder) / f"teller-{len(self.logs)}.log"
        self.logs.append(self.log)
        self.err = self.log.open("wb")
        self.popen = subprocess.Popen(
            [TELLER, json.dumps(settings["hashicorp"])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.err,
            env={**os.environ, "RUST_LOG": "trace"},
        )

    def ask(self, **order):
        if order:
            self.popen.stdin.write(json.dumps(order).encode() + b"\n")
            self.popen.stdin.flush()
        line = self.popen.stdout.readline()
        assert line, f"the teller has ended:\n{self.log.read_text()[-2000:]}"
        return json.loads(line)

    def read(self, *path):
        return self.ask(read=path)

    def write(self, *path, value="x", expected=0, **hint):
        return self.ask(write=path, value=value, expected=expected, hint=hint or None)

    def reads(self, *path):
        """Whether a request is answered, whatever it finds."""
        return "version" in self.read(*path)

    def stop(self):
        self.popen.stdin.close()
        try:
            self.popen.wait(GUARD)
        finally:
            self.popen.kill()
            self.popen.wait()
            self.popen.stdout.close()
            self.err.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Etcd(Process):
    """etcd, where the API server keeps its objects."""

    def __init__(self):
        self.port, peer = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = [os.environ["PLEIADES_ETCD"], "--data-dir=data", "--listen-client-urls", self.url]
        command += ["--advertise-client-urls", self.url, "--listen-peer-urls", f"http://127.0.0.1:{peer}"]
        command += ["--initial-advertise-peer-urls", f"http://127.0.0.1:{peer}"]
        command += ["--initial-cluster", f"default=http://127.0.0.1:{peer}"]
        super().__init__("etcd", command)
        until("etcd to listen", lambda: self.check_alive() or listens(self.port))


class Kubernetes(Process):
    """A real Kubernetes API server; no scheduler, no kubelet."""

    ADMIN = "admin-canary-of-kubernetes"

    def __init__(self):
        self.etcd = Etcd()
        self.port = free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        keys = self.etcd.folder
        run = ["openssl", "genrsa", "-out", str(keys / "accounts.key"), "2048"]
        subprocess.run(run, check=True, capture_output=True)
        (keys / "tokens.csv").write_text(f'{self.ADMIN},admin,admin,"system:masters"\n')
        command = [os.environ["PLEIADES_KUBE_APISERVER"], "--etcd-servers", self.etcd.url]
        command += ["--bind-address=127.0.0.1", f"--secure-port={self.port}", f"--cert-dir={keys / 'certs'}"]
        command += ["--service-account-issuer=https://kubernetes.default.svc"]
        command += [f"--service-account-key-file={keys / 'accounts.key'}"]
        command += [f"--service-account-signing-key-file={keys / 'accounts.key'}"]
        command += ["--api-audiences=https://kubernetes.default.svc,vault"]
        command += [f"--token-auth-file={keys / 'tokens.csv'}", "--authorization-mode=RBAC"]
        command += ["--service-cluster-ip-range=10.0.0.0/24", "--endpoint-reconciler-type=none"]
        super().__init__("kube-apiserver", command)
        self.context = ssl._create_unverified_context()
        until("the API server to be ready", self.is_ready, 120)
        self.ca = ssl.get_server_certificate(("127.0.0.1", self.port))
        chain = keys / "certs/apiserver.crt"
        if chain.exists():
            self.ca = chain.read_text()

    def ask(self, method, path, body=None):
        headers = {"Authorization": f"Bearer {self.ADMIN}"}
        return request(method, f"{self.url}{path}", body, headers, self.context)

    def is_ready(self):
        self.check_alive()
        try:
            headers = {"Authorization": f"Bearer {self.ADMIN}"}
            asked = urllib.request.Request(f"{self.url}/readyz", headers=headers)
            with urllib.request.urlopen(asked, timeout=GUARD, context=self.context) as answer:
                return answer.status == 200
        except OSError:
            return False

    def account(self, namespace, name):
        """Makes a service account; its name is not secret, its tokens are."""
        folder = f"/api/v1/namespaces/{namespace}/serviceaccounts"
        self.ask("POST", folder, {"metadata": {"name": name}})

    def token(self, namespace, name, audience="vault"):
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        spec = {"audiences": [audience], "expirationSeconds": 3600}
        return self.ask("POST", path, {"spec": spec})["status"]["token"]

    def stop(self):
        super().stop()
        self.etcd.stop()
