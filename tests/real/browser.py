"""A browser without script: cookies by host, forms, redirects followed one at a time.

It does what a person does with a connect link: opens the page, sends its form, lets the provider send it
back. Every page that was seen is kept.
"""

import html.parser
import http.client
import ssl
from urllib.parse import urlencode, urljoin, urlsplit

from mcp import GUARD

# A provider that sends a person around in circles is an error of its own.
HOPS = 20
REDIRECTS = (301, 302, 303, 307, 308)


class Page:
    """An answer as a person sees it."""

    def __init__(self, url, status, headers, text):
        self.url, self.status, self.headers, self.text = url, status, headers, text
        parser = Forms()
        if headers.get("content-type", "").startswith("text/html"):
            parser.feed(text)
        self.forms = parser.forms

    def __str__(self):
        return f"{self.status} {self.url}: {self.text[:2000]}"


class Forms(html.parser.HTMLParser):
    """The forms of a page: action, method, fields by name with their type and value."""

    def __init__(self):
        super().__init__()
        self.forms = []

    def handle_starttag(self, tag, attrs):
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(
                {"action": given.get("action"), "method": given.get("method", "get"), "fields": {}}
            )
        elif tag in ("input", "button") and self.forms and given.get("name"):
            field = (given.get("type", "text"), given.get("value", ""))
            self.forms[-1]["fields"].setdefault(given["name"], field)


class Browser:
    """Cookies and history of one person."""

    def __init__(self, tls=None):
        self.cookies = {}
        self.seen = []
        self.tls = tls or ssl.create_default_context()

    def send(self, method, url, fields=None, headers=None):
        """One request; no redirect is followed."""
        parts = urlsplit(url)
        if parts.scheme == "https":
            connection = http.client.HTTPSConnection(parts.netloc, timeout=GUARD, context=self.tls)
        else:
            connection = http.client.HTTPConnection(parts.netloc, timeout=GUARD)
        sent = {"accept": "text/html", "user-agent": "a browser of the tests", **(headers or {})}
        jar = self.cookies.setdefault(parts.hostname, {})
        matching = {
            name: value
            for name, (value, path) in jar.items()
            if (parts.path or "/").startswith(path)
        }
        if matching:
            sent["cookie"] = "; ".join(f"{name}={value}" for name, value in matching.items())
        body = None
        if fields is not None:
            body = urlencode(fields).encode()
            sent["content-type"] = "application/x-www-form-urlencoded"
            sent.setdefault("origin", f"{parts.scheme}://{parts.netloc}")
        try:
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request(method, target, body, sent)
            response = connection.getresponse()
            for name, value in response.getheaders():
                if name.lower() == "set-cookie":
                    self.keep(jar, value)
            got = {name.lower(): value for name, value in response.getheaders()}
            page = Page(url, response.status, got, response.read().decode(errors="replace"))
        finally:
            connection.close()
        self.seen.append(page)
        return page

    @staticmethod
    def keep(jar, line):
        pair, *attributes = [part.strip() for part in line.split(";")]
        name, _, value = pair.partition("=")
        said = {key.lower(): text for key, _, text in (attribute.partition("=") for attribute in attributes)}
        if said.get("max-age") == "0" or not value:
            jar.pop(name, None)
        else:
            jar[name] = (value, said.get("path", "/"))

    def follow(self, page):
        """Where a page leads, to the first that is no redirect."""
        for _ in range(HOPS):
            if page.status not in REDIRECTS:
                return page
            page = self.send("GET", urljoin(page.url, page.headers["location"]))
        raise AssertionError(f"redirected without end: {page}")

    def open(self, url):
        return self.follow(self.send("GET", url))

    def submit(self, page, number=0, **given):
        """Sends a form of a page with what it holds and what is given; stays where it leads to."""
        form = page.forms[number]
        fields = {name: value for name, (_, value) in form["fields"].items()}
        target = urljoin(page.url, form["action"] or page.url)
        return self.send(form["method"].upper(), target, {**fields, **given})

    def connect(self, link, **given):
        """Opens a connect link, agrees, and comes back from the provider."""
        page = self.open(link)
        assert page.status == 200 and page.forms, f"no form to connect with: {page}"
        return self.follow(self.submit(page, **given))
