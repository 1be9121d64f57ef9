"""Pages in a real browser, and all that they do beyond showing themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "</script><script>alert(3)</script>",
    "<!--<script>",
    "javascript:alert(4)",
    "{{ 7 * 7 }}{% raw %}",
    "]]></svg><svg onload=alert(5)>",
    "$x^2$ & \\u003c \u2028 ' ` \x00",
    "http://example.invalid/a.png",
    "<style>*{display:none}</style><base href='http://example.invalid/'>",
    "' onmouseover=alert(6) onfocus=alert(6) autofocus x='",
    "<a href='java\tscript:alert(7)'>\u202egnp.exe\u2066</a>\u2029",
    "--><iframe srcdoc='<script>parent.alert(8)</script>'></iframe>",
    "<template><math><mtext></template><img src=//example.invalid onload=alert(9)>",
]


class Watched:
    """A page and everything that it did beyond showing itself."""

    def __init__(self, browser: Browser, path: Path, **options: Any) -> None:
        self.page: Page = browser.new_page(**options)
        self.events: list[str] = []
        self.page.on("console", lambda message: self.events.append(f"console: {message.text}"))
        self.page.on("pageerror", lambda error: self.events.append(f"error: {error}"))
        self.page.on("dialog", lambda dialog: (self.events.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        self.page.on("request", lambda request: self.events.append(f"request: {request.url}"))
        self.address = path.as_uri()
        self.page.goto(self.address)

    def quiet(self) -> bool:
        """Whether it asked for nothing but its own file, and said nothing."""
        return self.events == [f"request: {self.address}"]
