"""The runbook, as it is written in ``docs/operations.md``: what to do about each trouble, one click from its name."""

from __future__ import annotations

from functools import cached_property
from itertools import pairwise
from pathlib import Path

from flask_admin import expose
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

from mutt.web.admin.page import Page

#: It stands beside the package, as alembic/ does: in a clone, in the image.
FILE = Path(__file__).parents[3] / "docs" / "operations.md"


class Runbook(Page):
    @expose("/")
    def index(self) -> str:
        return self.render("runbook.html", text=self._text)

    @cached_property
    def _text(self) -> Markup | None:
        """None: it is not there."""
        try:
            return written(FILE.read_text())
        except FileNotFoundError:
            return None


def written(source: str) -> Markup:
    """The pages' Markdown as HTML. Headings have their names as ids; HTML in it stays text."""
    reader = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    tokens = reader.parse(source)
    for opens, text in pairwise(tokens):
        if opens.type == "heading_open":
            opens.attrSet("id", name_of(text.content))
    for token in tokens:
        for child in token.children or ():
            _lead(child)
    return Markup(reader.renderer.render(tokens, reader.options, {}))  # noqa: S704 ours, and it lets no HTML through


def name_of(heading: str) -> str:
    """The id of a heading, as GitHub makes it: in small letters, joined by hyphens."""
    kept = "".join(one for one in heading.lower() if one.isalnum() or one in " -_")
    return kept.strip().replace(" ", "-")


def _lead(token: Token) -> None:
    """Links to other files of the docs lead nowhere here: what they name stays to be read."""
    address = str(token.attrs.get("href", ""))
    if token.type == "link_open" and address and not address.startswith(("#", "http://", "https://")):
        token.attrs = {"title": address}
