"""Results as real tools answer them, made from shapes by a seed: issues, commits, logs, tables, search results,
manifests, pages, texts of several scripts, and what is awkward to cut.

`results(count)` is the same list on every machine. Each row is a name and the result of a `tools/call`.
"""

import base64
import json
import random

WORDS = (
    "access add after agent alert api archive auth backup batch block branch bucket build bump cache cancel chart "
    "check client close cluster column commit config connect copy crash cursor data deploy disk drop editor email "
    "empty endpoint error event export fail fetch field file filter fix flag flaky folder format graph group handle "
    "header health import index input invoice issue job key label leak limit link list load lock log login merge "
    "message metric migrate missing model module move network node null offline order owner page panic parse patch "
    "path pipeline plan pod policy pool port profile proxy pull push query queue quota race rate read record region "
    "release remove render replica report request reset response restart result retry review role rollback route "
    "row scale schema scope script search secret server service session shard sign size slow snapshot socket sort "
    "source stage stale state store stream string sync table tag task team tenant test thread timeout token trace "
    "type update upload user value version view volume webhook window worker write zone"
).split()
CHINESE = "数据库连接超时请检查网络配置后重试用户权限不足无法访问该资源订单状态已更新发布版本回滚失败日志文件过大缓存命中率下降"
JAPANESE = "サーバーの応答が遅延しています。設定を確認してください。検索結果は見つかりませんでした。"
KOREAN = "서버 응답이 지연되고 있습니다 설정을 확인하고 다시 시도하세요 검색 결과가 없습니다 "
RUSSIAN = "ошибка соединения с базой данных повторите попытку позже доступ запрещён "
FACES = "🚀🔥✅❌👩‍💻🇩🇪🧪⚠️"


class Maker:
    """One result's worth of chance."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def words(self, least, most):
        return " ".join(self.random.choices(WORDS, k=self.random.randint(least, most)))

    def sentence(self, most=16):
        return self.words(4, most).capitalize() + "."

    def text(self, sentences):
        return " ".join(self.sentence() for _ in range(sentences))

    def hexadecimal(self, digits):
        return f"{self.random.getrandbits(4 * digits):0{digits}x}"

    def time(self):
        pick = self.random.randint
        return f"20{pick(19, 26)}-{pick(1, 12):02}-{pick(1, 28):02}T{pick(0, 23):02}:{pick(0, 59):02}:{pick(0, 59):02}Z"

    def name(self):
        return "-".join(self.random.choices(WORDS, k=2))

    def of(self, alphabet, length):
        return "".join(self.random.choices(alphabet, k=length))

    def many(self, least, most, make):
        return [make() for _ in range(self.random.randint(least, most))]

    def person(self):
        login, number = self.name(), self.random.randint(1, 10**8)
        api = f"https://api.example.com/users/{login}"
        return {
            "login": login,
            "id": number,
            "node_id": base64.b64encode(f"User:{number}".encode()).decode(),
            "avatar_url": f"https://avatars.example.com/u/{number}?v=4",
            "gravatar_id": "",
            "url": api,
            "html_url": f"https://example.com/{login}",
            "followers_url": f"{api}/followers",
            "following_url": f"{api}/following{{/other_user}}",
            "events_url": f"{api}/events{{/privacy}}",
            "type": "User",
            "site_admin": False,
        }

    def issue(self):
        number = self.random.randint(1, 99999)
        api = f"https://api.example.com/repos/acme/web/issues/{number}"
        is_closed = self.random.random() < 0.4
        return {
            "url": api,
            "repository_url": "https://api.example.com/repos/acme/web",
            "labels_url": f"{api}/labels{{/name}}",
            "comments_url": f"{api}/comments",
            "html_url": f"https://example.com/acme/web/issues/{number}",
            "id": self.random.randint(10**9, 10**10),
            "node_id": "I_" + self.hexadecimal(16),
            "number": number,
            "title": self.sentence(10),
            "user": self.person(),
            "labels": self.many(
                0,
                3,
                lambda: {
                    "id": self.random.randint(1, 10**9),
                    "name": self.name(),
                    "color": self.hexadecimal(6),
                    "description": None,
                },
            ),
            "state": "closed" if is_closed else "open",
            "locked": False,
            "assignee": None,
            "assignees": self.many(0, 2, self.person),
            "milestone": None,
            "comments": self.random.randint(0, 40),
            "created_at": self.time(),
            "closed_at": self.time() if is_closed else None,
            "active_lock_reason": None,
            "body": self.text(self.random.randint(1, 12)),
            "reactions": {"url": f"{api}/reactions", "total_count": 0, "+1": 0, "-1": 0},
            "performed_via_github_app": None,
        }

    def commit(self):
        sha = self.hexadecimal(40)
        return {
            "sha": sha,
            "html_url": f"https://example.com/acme/web/commit/{sha}",
            "commit": {
                "message": self.sentence() + "\n\n" + self.text(2),
                "author": {"name": self.name(), "date": self.time()},
            },
            "parents": [{"sha": self.hexadecimal(40)}],
            "stats": {"additions": self.random.randint(0, 900), "deletions": self.random.randint(0, 900)},
        }

    def fragment(self):
        path = "/".join(self.random.choices(WORDS, k=3)) + ".rs"
        code = "\n".join(
            f"    let {self.random.choice(WORDS)} = {self.name().replace('-', '_')}({self.random.randint(0, 99)});"
            for _ in range(self.random.randint(2, 9))
        )
        return {
            "path": path,
            "score": round(self.random.random() * 30, 4),
            "fragment": code,
            "matches": [{"indices": [3, 9]}],
        }

    def row(self):
        return {
            "id": self.random.randint(1, 10**6),
            "customer": self.name(),
            "total": round(self.random.random() * 1000, 2),
            "paid": self.random.random() < 0.7,
            "due": self.time()[:10],
            "note": self.random.choice([None, "", self.sentence(6)]),
        }

    def line(self):
        level = self.random.choice(["INFO", "INFO", "DEBUG", "WARN", "ERROR"])
        return f"{self.time()} {level} [{self.name()}] {self.words(4, 18)} id={self.hexadecimal(8)} took={self.random.randint(1, 4000)}ms"

    def manifest(self):
        name = self.name()
        container = lambda: {
            "name": self.name(),
            "image": f"registry.example.com/{self.name()}:{self.random.randint(1, 9)}.{self.random.randint(0, 20)}",
            "env": self.many(
                1, 12, lambda: {"name": self.random.choice(WORDS).upper(), "value": self.words(1, 3)}
            ),
            "resources": {"limits": {"cpu": "500m", "memory": "256Mi"}, "requests": {}},
        }
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {
                "name": name,
                "labels": {f"example.com/{word}": word for word in self.random.sample(WORDS, 5)},
                "annotations": {},
                "managedFields": self.many(
                    1, 4, lambda: {"fieldsV1": {f"f:{word}": {} for word in self.random.sample(WORDS, 9)}}
                ),
            },
            "spec": {
                "replicas": self.random.randint(1, 9),
                "template": {"spec": {"containers": self.many(1, 4, container)}},
            },
            "status": {
                "conditions": self.many(
                    1, 4, lambda: {"type": "Available", "status": "True", "message": self.sentence()}
                )
            },
        }


def structured(value, text=None):
    """A result with structured content, and its JSON as the text unless another is given."""
    return {
        "content": [
            {"type": "text", "text": text if text is not None else json.dumps(value, ensure_ascii=False)}
        ],
        "structuredContent": value,
    }


def written(text):
    return {"content": [{"type": "text", "text": text}]}


def as_text(value, indent=None):
    """JSON as most servers answer it: in the text alone."""
    return written(json.dumps(value, ensure_ascii=False, indent=indent))


def table(make, rows):
    lines = ["| id | name | state | owner | updated |", "|---|---|---|---|---|"]
    lines += [
        f"| {number} | {make.name()} | {make.random.choice(['open', 'closed'])} | {make.name()} | {make.time()} |"
        for number in range(rows)
    ]
    return "\n".join(lines)


def nested(make, depth):
    value = {"value": make.text(2)}
    for _ in range(depth):
        value = {make.random.choice(WORDS): value, "id": make.hexadecimal(12)}
    return value


def odd_numbers(make):
    """Numbers that a reader in floating point would change."""
    numbers = [
        0,
        -0.0,
        1.0,
        12345678901234567890,
        9007199254740993,
        1e-7,
        1.5e300,
        0.1,
        -1,
        3.141592653589793,
    ]
    return [
        {"n": make.random.choice(numbers), "when": make.time()} for _ in range(make.random.randint(200, 900))
    ]


def odd_keys(make):
    keys = ["a/b", "c~d", "", " ", "*", "é", "数据", "a.b", "0", "null"]
    return {
        "items": [
            {key + str(number % 3): make.sentence(5) for key in keys}
            for number in range(make.random.randint(20, 80))
        ]
    }


SHAPES = {
    "issues, structured": lambda m: structured(
        {"total_count": 500, "incomplete_results": False, "items": m.many(10, 60, m.issue)}
    ),
    "issues, as text": lambda m: as_text(m.many(10, 60, m.issue)),
    "issues, as indented text": lambda m: as_text(
        {"issues": m.many(5, 30, m.issue), "pageInfo": {"hasNextPage": True, "endCursor": m.hexadecimal(20)}},
        2,
    ),
    "one issue": lambda m: structured(m.issue()),
    "commits": lambda m: as_text(m.many(20, 100, m.commit)),
    "code search": lambda m: structured({"total_count": 90, "items": m.many(10, 80, m.fragment)}),
    "web search, as text": lambda m: written(
        "\n\n".join(
            f"Title: {m.sentence(8)}\nURL: https://example.com/{m.name()}\nText: {m.text(8)}"
            for _ in range(m.random.randint(8, 40))
        )
    ),
    "rows of a database": lambda m: structured({"columns": list(m.row()), "rows": m.many(50, 400, m.row)}),
    "rows as arrays": lambda m: structured(
        {
            "fields": ["id", "name", "total"],
            "rows": m.many(
                100, 900, lambda: [m.random.randint(1, 10**6), m.name(), round(m.random.random() * 100, 2)]
            ),
        }
    ),
    "a table of Markdown": lambda m: written(table(m, m.random.randint(40, 400))),
    "a table of commas": lambda m: written(
        "id,name,amount\n"
        + "\n".join(
            f"{n},{m.name()},{m.random.random() * 100:.2f}" for n in range(m.random.randint(200, 1500))
        )
    ),
    "a log": lambda m: written("\n".join(m.many(80, 800, m.line))),
    "lines of a log, structured": lambda m: structured(
        {"lines": m.many(80, 500, m.line), "truncated": False}
    ),
    "a log of one line": lambda m: written(" ".join(m.many(50, 300, m.line))),
    "manifests": lambda m: as_text(
        {"apiVersion": "v1", "kind": "List", "items": m.many(2, 14, m.manifest)}, 2
    ),
    "one manifest": lambda m: structured(m.manifest()),
    "a map by id": lambda m: structured(
        {
            m.hexadecimal(12): {
                "name": m.name(),
                "size": m.random.randint(1, 10**9),
                "tags": m.many(0, 4, m.name),
            }
            for _ in range(m.random.randint(60, 500))
        }
    ),
    "deep": lambda m: structured(nested(m, m.random.randint(20, 60))),
    "numbers": lambda m: structured(
        {"points": [round(m.random.gauss(0, 100), 3) for _ in range(m.random.randint(1000, 6000))]}
    ),
    "numbers that floats change": lambda m: structured(odd_numbers(m) and {"samples": odd_numbers(m)}),
    "odd keys": lambda m: structured(odd_keys(m)),
    "Chinese rows": lambda m: structured(
        {
            "列表": m.many(
                30,
                200,
                lambda: {"标题": m.of(CHINESE, 18), "内容": m.of(CHINESE, 90), "id": m.hexadecimal(8)},
            )
        }
    ),
    "Japanese text": lambda m: written(
        "\n".join(m.of(JAPANESE, 120) for _ in range(m.random.randint(40, 150)))
    ),
    "Korean and Russian rows": lambda m: as_text(
        m.many(
            30, 150, lambda: {"ko": KOREAN * m.random.randint(1, 4), "ru": RUSSIAN * m.random.randint(1, 4)}
        )
    ),
    "emoji": lambda m: structured(
        {"messages": m.many(50, 300, lambda: {"from": m.name(), "text": m.sentence() + m.of(FACES, 3)})}
    ),
    "one long string": lambda m: structured(
        {"path": "README.md", "content": "\n".join(m.text(5) for _ in range(m.random.randint(40, 200)))}
    ),
    "a page of HTML": lambda m: written(
        "<html><body>"
        + "".join(
            f'<div class="{m.name()}"><a href="/{m.name()}">{m.sentence()}</a></div>'
            for _ in range(m.random.randint(100, 600))
        )
        + "</body></html>"
    ),
    "base64 in JSON": lambda m: structured(
        {
            "name": "logo.png",
            "encoding": "base64",
            "content": base64.b64encode(m.random.randbytes(m.random.randint(5000, 60000))).decode(),
        }
    ),
    "a row that is large alone": lambda m: structured(
        {
            "items": [
                m.row(),
                {"id": 1, "body": m.text(600)},
                m.row(),
                {"id": 2, "inner": {"list": m.many(100, 300, m.row)}},
            ]
        }
    ),
    "several texts": lambda m: {
        "content": [
            {"type": "text", "text": m.text(m.random.randint(20, 120))} for _ in range(m.random.randint(2, 5))
        ]
    },
    "a difference": lambda m: written(
        "\n".join(
            m.random.choice(["+", "-", " "]) + "    " + m.words(2, 12)
            for _ in range(m.random.randint(200, 1500))
        )
    ),
    "a list of names": lambda m: structured({"names": m.many(300, 3000, m.name)}),
    "mixed": lambda m: structured(
        {
            "a": m.many(
                40, 200, lambda: m.random.choice([None, True, 7, m.sentence(), [], {}, [m.name()], m.row()])
            )
        }
    ),
    "two lists": lambda m: structured(
        {"open": m.many(10, 40, m.issue), "closed": m.many(10, 40, m.issue), "summary": m.text(3)}
    ),
    "small, structured": lambda m: structured(m.row()),
    "small, as text": lambda m: written(m.sentence()),
    "a text beside other data": lambda m: structured({"rows": m.many(60, 200, m.row)}, f"{m.sentence()}"),
    "spaces": lambda m: written(
        "\n".join(" " * m.random.randint(0, 60) + m.words(1, 3) for _ in range(m.random.randint(300, 1200)))
    ),
    "control characters": lambda m: written(
        "".join(
            f"\x1b[3{m.random.randint(1, 7)}m{m.line()}\x1b[0m\r\n" for _ in range(m.random.randint(60, 300))
        )
    ),
    "escapes": lambda m: structured(
        {
            "entries": m.many(
                80,
                400,
                lambda: {
                    "path": "C:\\" + "\\".join(m.random.choices(WORDS, k=4)),
                    "quote": '"' + m.words(2, 6) + '"\t\n',
                },
            )
        }
    ),
}


def results(count=200):
    """Names and results: each shape in turn, each time by another seed."""
    names = list(SHAPES)
    return [(f"{names[n % len(names)]} ({n})", SHAPES[names[n % len(names)]](Maker(n))) for n in range(count)]
