"""Three conversations of ten calls, as `tokens.py` plays them: for each call a goal in plain words, the operation,
and its arguments. Results of recorded servers are made by `tests/real/shapes.py`, in the sizes that such servers
answer by default."""

import json

from shapes import Maker, as_text, written

OWN = {"owner": "acme", "repo": "web"}
GITHUB = [
    ("list the open issues of acme/web", "list_issues", {**OWN, "state": "OPEN"}),
    ("read issue 66 of acme/web", "issue_read", {**OWN, "method": "get", "issue_number": 66}),
    (
        "read the comments of issue 66 of acme/web",
        "issue_read",
        {**OWN, "method": "get_comments", "issue_number": 66},
    ),
    ("find code that mentions retry_after", "search_code", {"query": "retry_after repo:acme/web"}),
    ("read src/retry.rs of acme/web", "get_file_contents", {**OWN, "path": "src/retry.rs"}),
    ("list commits of acme/web on main", "list_commits", {**OWN, "sha": "main"}),
    ("list open pull requests of acme/web", "list_pull_requests", {**OWN, "state": "open"}),
    (
        "read the difference of pull request 71",
        "pull_request_read",
        {**OWN, "method": "get_diff", "pullNumber": 71},
    ),
    (
        "comment on issue 66",
        "add_issue_comment",
        {**OWN, "issue_number": 66, "body": "Fixed by 71, in the next release."},
    ),
    (
        "close issue 66 as completed",
        "issue_write",
        {**OWN, "method": "update", "issue_number": 66, "state": "closed", "state_reason": "completed"},
    ),
]
MINIMAL = (
    "number",
    "title",
    "body",
    "state",
    "html_url",
    "user",
    "labels",
    "comments",
    "created_at",
    "closed_at",
)
PAGE, SOURCE = "59833787-2cf9-4fdf-8782-e53db20768a5", "1a44be12-0953-4631-b498-9e5817518db8"
LINE = {"rich_text": [{"text": {"content": "Ships on Friday."}}]}
NOTION = [
    ("search pages about the release", "API-post-search", {"query": "release"}),
    ("read the release page", "API-retrieve-a-page", {"page_id": PAGE}),
    ("read the text of the release page", "API-get-block-children", {"block_id": PAGE}),
    ("read the columns of the tasks database", "API-retrieve-a-data-source", {"data_source_id": SOURCE}),
    (
        "find open tasks",
        "API-query-data-source",
        {"data_source_id": SOURCE, "filter": {"property": "Done", "checkbox": {"equals": False}}},
    ),
    ("who are the users", "API-get-users", {}),
    (
        "add a paragraph to the release page",
        "API-patch-block-children",
        {"block_id": PAGE, "children": [{"type": "paragraph", "paragraph": LINE}]},
    ),
    ("read the comments of the release page", "API-retrieve-a-comment", {"block_id": PAGE}),
    ("comment on the release page", "API-create-a-comment", {"parent": {"page_id": PAGE}, **LINE}),
    ("mark a task as done", "API-patch-page", {"page_id": PAGE, "properties": {"Done": {"checkbox": True}}}),
]


def files(folder):
    """Ten calls to the official filesystem server, in a folder made by `fill`; anew: the last one moves a file."""
    (folder / "report.md").unlink(missing_ok=True)
    at = lambda name: f"{folder}/{name}"
    return [
        ("list the files of the project", "list_directory", {"path": str(folder)}),
        ("show the folders as a tree", "directory_tree", {"path": str(folder)}),
        ("read the notes", "read_text_file", {"path": at("notes.md")}),
        ("find files of logs", "search_files", {"path": str(folder), "pattern": "**/*.log"}),
        ("read the log of today", "read_text_file", {"path": at("logs/today.log")}),
        (
            "read the three configuration files",
            "read_multiple_files",
            {"paths": [at(f"config/{n}.json") for n in range(3)]},
        ),
        ("when was the log changed", "get_file_info", {"path": at("logs/today.log")}),
        (
            "write a summary",
            "write_file",
            {"path": at("summary.md"), "content": "# Summary\n\nNothing is lost.\n"},
        ),
        (
            "change a word of the summary",
            "edit_file",
            {"path": at("summary.md"), "edits": [{"oldText": "Nothing", "newText": "Not a line"}]},
        ),
        ("rename the summary", "move_file", {"source": at("summary.md"), "destination": at("report.md")}),
    ]


def fill(folder):
    make = Maker(1)
    for name in ("logs", "config"):
        (folder / name).mkdir()
    (folder / "notes.md").write_text("\n\n".join(make.text(5) for _ in range(12)))
    (folder / "logs/today.log").write_text("\n".join(make.line() for _ in range(150)))
    for number in range(3):
        (folder / f"config/{number}.json").write_text(json.dumps(make.manifest(), indent=2))


def github(name, arguments):
    """What GitHub's server answers to a call of its conversation: pages of 30, cut down by it to what matters."""
    make = Maker(f"{name} {arguments}")
    thirty = lambda one: [one() for _ in range(30)]

    def issue(*fields):
        whole = make.issue()
        user = {"login": whole["user"]["login"], "html_url": whole["user"]["html_url"]}
        short = {"user": user, "labels": [label["name"] for label in whole["labels"]]}
        return {key: short.get(key, value) for key, value in whole.items() if key in (fields or MINIMAL)}

    comment = lambda: issue("html_url", "user", "body", "created_at")
    if name == "list_issues":
        return as_text({"issues": thirty(issue), "totalCount": 214, "pageInfo": {"hasNextPage": True}})
    if name == "list_pull_requests":
        return as_text(thirty(issue))
    if name == "list_commits":
        return as_text(thirty(make.commit))
    if name == "search_code":
        return as_text({"total_count": 41, "incomplete_results": False, "items": thirty(make.fragment)})
    if name == "get_file_contents":
        return written("\n".join(make.fragment()["fragment"] for _ in range(20)))
    if arguments.get("method") == "get_diff":
        return written("\n".join(make.random.choice("+- ") + make.words(3, 9) for _ in range(120)))
    if arguments.get("method") == "get_comments":
        return as_text([comment() for _ in range(12)])
    return as_text(issue() if name != "add_issue_comment" else comment())


def notion(name, arguments):
    """What Notion's server answers: objects with all their properties, as JSON in a text."""
    make = Maker(f"{name} {arguments}")
    identity = lambda: f"{make.hexadecimal(8)}-{make.hexadecimal(4)}-{make.hexadecimal(12)}"
    rich = lambda text: [
        {
            "type": "text",
            "text": {"content": text, "link": None},
            "annotations": {
                "bold": False,
                "italic": False,
                "strikethrough": False,
                "underline": False,
                "code": False,
                "color": "default",
            },
            "plain_text": text,
            "href": None,
        }
    ]
    user = lambda: {
        "object": "user",
        "id": identity(),
        "name": make.name(),
        "avatar_url": None,
        "type": "person",
        "person": {"email": f"{make.name()}@example.com"},
    }
    stamps = lambda: {
        "created_time": make.time(),
        "last_edited_time": make.time(),
        "created_by": {"object": "user", "id": identity()},
        "archived": False,
        "in_trash": False,
    }
    page = lambda: {
        "object": "page",
        "id": identity(),
        **stamps(),
        "cover": None,
        "icon": None,
        "parent": {"type": "database_id", "database_id": identity()},
        "properties": {
            "Name": {"id": "title", "type": "title", "title": rich(make.sentence(6))},
            "Done": {"id": "a%3Bb", "type": "checkbox", "checkbox": False},
            "Owner": {"id": "c", "type": "people", "people": [user()]},
        },
        "url": f"https://notes.example.com/{identity()}",
        "public_url": None,
    }
    block = lambda: {
        "object": "block",
        "id": identity(),
        **stamps(),
        "has_children": False,
        "type": "paragraph",
        "paragraph": {"rich_text": rich(make.text(3)), "color": "default"},
    }
    listed = lambda one, many: as_text(
        {"object": "list", "results": [one() for _ in range(many)], "next_cursor": None, "has_more": False}
    )
    if name in ("API-post-search", "API-query-data-source"):
        return listed(page, 25)
    if name == "API-get-block-children":
        return listed(block, 30)
    if name == "API-get-users":
        return listed(user, 15)
    if name == "API-retrieve-a-comment":
        return listed(
            lambda: {"object": "comment", "id": identity(), **stamps(), "rich_text": rich(make.sentence())}, 4
        )
    if name == "API-retrieve-a-data-source":
        return as_text(
            {
                "object": "data_source",
                "id": SOURCE,
                **stamps(),
                "properties": {
                    make.name(): {
                        "id": make.hexadecimal(4),
                        "type": "select",
                        "select": {
                            "options": [
                                {"id": identity(), "name": make.name(), "color": "blue"} for _ in range(5)
                            ]
                        },
                    }
                    for _ in range(9)
                },
            }
        )
    return as_text(page() if "page" in name else block())
