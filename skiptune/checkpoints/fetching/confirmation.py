"""Google Drive asks before it gives a file too large for its virus scan: the address behind that question."""

from __future__ import annotations

from html.parser import HTMLParser
from urllib.parse import urlencode, urljoin


class _Form(HTMLParser):
    """The target and the hidden fields of the form ``download-form``."""

    def __init__(self) -> None:
        super().__init__()
        self.target: str | None = None
        self.fields: dict[str, str] = {}
        self._inside = False

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attributes}
        if tag == "form" and values.get("id") == "download-form":
            self.target, self._inside = values.get("action", ""), True
        elif self._inside and tag == "input" and values.get("type") == "hidden" and "name" in values:
            self.fields[values["name"]] = values.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._inside = False


def confirmed_address(page: bytes, url: str) -> str | None:
    """The address that the form of a page found at ``url`` leads to; None if it has no such form."""
    form = _Form()
    form.feed(page.decode(errors="replace"))
    if form.target is None:
        return None
    target = urljoin(url, form.target)
    return target + ("&" if "?" in target else "?") + urlencode(form.fields)
