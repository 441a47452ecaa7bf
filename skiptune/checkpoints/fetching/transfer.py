"""One file over HTTP(S): goes on where it broke off, tries again with patience, never mixes two versions.

Proxies come from the usual environment variables (HTTP_PROXY, HTTPS_PROXY, NO_PROXY). HTTP semantics of
ranges and conditional requests: RFC 9110, sections 10.2.3 (Retry-After), 13.1.5 (If-Range), 14 (Range).
"""

from __future__ import annotations

import email.utils
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from http.client import HTTPException, HTTPResponse
from http.cookiejar import CookieJar
from urllib.error import HTTPError, URLError
from urllib.request import HTTPCookieProcessor, OpenerDirector, Request, build_opener

from skiptune.checkpoints.fetching.confirmation import confirmed_address
from skiptune.checkpoints.fetching.part import Part
from skiptune.errors import SkiptuneError
from skiptune.runtime.progress import Progress

BLOCK = 1 << 18  # bytes read at a time
LEAST = 0.9  # of the estimated size, below which a file of which no server said the length is a broken one
PAGE = 1 << 20  # a web page is read no further than this
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
REFUSALS = {
    401: "the server wants a login (401)",
    403: "the server refuses access (403): it may be gated or want a browser",
    404: "there is no such file any more (404)",
    407: "the proxy wants a login (407): write http://user:password@host:port in HTTPS_PROXY",
    410: "there is no such file any more (410)",
}


class Unavailable(SkiptuneError):
    """This address does not give the file; another one may."""


class Passing(Exception):
    """Trying again may help; ``wait`` seconds where the server said how long, else None."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


@dataclass(frozen=True)
class Patience:
    """How long to go on.

    Attributes:
        retries: failures in a row, without the file growing, before it is given up.
        backoff: seconds before the first retry, doubled with each, at most ``longest``.
        longest: a Retry-After above this many seconds is not waited for.
        timeout: seconds without a byte that count as a dropped connection.
    """

    retries: int = 5
    backoff: float = 1.0
    longest: float = 120.0
    timeout: float = 60.0

    def __post_init__(self) -> None:
        """Raises SkiptuneError for what is no such number."""
        for name, value in asdict(self).items():
            kinds = (int,) if name == "retries" else (int, float)
            if type(value) not in kinds or not value >= 0:
                raise SkiptuneError(f"{name} is {value!r}, it must be a number from 0")


def fetch(
    url: str,
    part: Part,
    label: str,
    size: int | None,
    about: int | None,
    checked: bool,
    patience: Patience,
    say: Callable[[str], None],
) -> None:
    """Complete ``part`` from ``url``.

    Args:
        label: what progress and waits are reported of.
        size: what the file must have, in bytes, if that is known.
        about: an estimate of it, which counts where neither ``size`` nor the server says the length: without
            one, a connection that breaks off looks like the end of the file.
        checked: a published checksum will tell a wrong mixture, so that a server without ETag and
            Last-Modified may be resumed too.
        say: takes a line for each wait.

    Raises:
        Unavailable: the address does not give the file, or not within our patience.
        SkiptuneError: the disk does not take it.
    """
    opener = build_opener(HTTPCookieProcessor(CookieJar()))
    opener.addheaders = [("User-Agent", "skiptune"), ("Accept-Encoding", "identity")]
    failures, furthest = 0, part.length
    while True:
        try:
            _attempt(opener, url, part, label, size, about, checked, patience.timeout)
            return
        except Passing as obstacle:
            failures = 1 if part.length > furthest else failures + 1
            furthest = max(furthest, part.length)
            wait = min(patience.backoff * 2 ** (failures - 1), patience.longest)
            if obstacle.wait is not None:
                wait = obstacle.wait
            if failures > patience.retries or wait > patience.longest:
                asked = f", which asks to wait {wait:.0f} s" if wait > patience.longest else ""
                raise Unavailable(
                    f"{obstacle} from {url}{asked}; given up after {failures} tries, run it again later"
                ) from None
            say(f"{label}: {obstacle}; again in {wait:.3g} s (retry {failures} of {patience.retries})")
            time.sleep(wait)


def _attempt(
    opener: OpenerDirector,
    url: str,
    part: Part,
    label: str,
    size: int | None,
    about: int | None,
    checked: bool,
    timeout: float,
) -> None:
    mark = part.mark() if part.length else {}
    validator = mark.get("validator")
    if mark.get("url") != url or not (validator or checked):
        part.restart()
    elif part.length == mark.get("total"):
        return
    request = Request(url)
    if part.length:
        request.add_header("Range", f"bytes={part.length}-")
        if validator:
            request.add_header("If-Range", str(validator))
    with _answer(opener, request, part, timeout) as response:
        given = response.headers.get("ETag")
        changed = bool(given and validator and given not in (validator, mark.get("etag")))
        start, total = _range(response)
        if response.status == 206 and (
            start != part.length or changed or mark.get("total") not in (None, total)
        ):
            part.restart()
            raise Passing("the file changed on the server", 0.0)
        if response.status != 206:
            part.restart()
        if size is not None and total not in (None, size):
            raise Unavailable(f"{url} has {total} bytes instead of {size}: that is another file")
        part.check_space(total if total is not None else size)
        _note(part, url, response, total)
        _copy(response, part, label, total if total is not None else size)
    if total is not None and part.length != total:
        raise Passing(f"the connection broke off at {part.length} of {total} bytes")
    if total is None and size is None and not checked and part.length < LEAST * (about or 0):
        raise Passing(f"the connection ended at {part.length} of about {about} bytes, no length was given")


def _answer(opener: OpenerDirector, request: Request, part: Part, timeout: float) -> HTTPResponse:
    """The response with the file's bytes, behind Google Drive's question if it asks one."""
    response = _open(opener, request, part, timeout)
    if response.headers.get_content_type() == "text/html":
        with response:
            address = confirmed_address(response.read(PAGE), response.url)
        if address is not None:
            follow = Request(address, headers=dict(request.headers))
            response = _open(opener, follow, part, timeout)
        if address is None or response.headers.get_content_type() == "text/html":
            response.close()
            raise Unavailable(
                f"{request.full_url} gives a web page instead of the file (sign-in, quota or a portal)"
            )
    return response


def _open(opener: OpenerDirector, request: Request, part: Part, timeout: float) -> HTTPResponse:
    url = request.full_url
    try:
        response: HTTPResponse = opener.open(request, timeout=timeout)
        return response
    except HTTPError as error:
        with error:
            if error.code == 416:
                part.restart()
                raise Passing("the server has no such range") from None
            if error.code in PASSING:
                raise Passing(f"HTTP {error.code}", retry_after(error.headers.get("Retry-After"))) from None
            reason = REFUSALS.get(error.code, f"the server answers {error.code} {error.reason}")
            raise Unavailable(f"{reason}: {url}") from None
    except URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise Unavailable(
                f"the certificate of {url} is not trusted; behind a proxy that opens TLS, "
                "name its certificate in SSL_CERT_FILE"
            ) from error
        if "Tunnel connection failed" in str(error.reason):
            raise Unavailable(f"the proxy lets nothing through to {url} ({error.reason})") from error
        raise Passing(f"no connection ({error.reason})") from None
    except (HTTPException, OSError) as error:
        raise Passing(f"no connection ({str(error) or type(error).__name__})") from None
    except ValueError as error:
        raise Unavailable(f"{url} is no address ({error})") from error


def retry_after(value: str | None) -> float | None:
    """Seconds to wait by a Retry-After header, which holds seconds or a date."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    with suppress(TypeError, ValueError):
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    return None


def _range(response: HTTPResponse) -> tuple[int, int | None]:
    """First byte of the body and size of the whole file, None where the server does not say."""
    length = response.headers.get("Content-Length", "")
    if response.status != 206:
        return 0, int(length) if length.isdecimal() else None
    unit, _, rest = response.headers.get("Content-Range", "").partition(" ")
    first, _, total = rest.partition("-")[0], None, rest.rpartition("/")[2]
    if unit != "bytes" or not first.isdecimal():
        return -1, None
    return int(first), int(total) if total.isdecimal() else None


def _note(part: Part, url: str, response: HTTPResponse, total: int | None) -> None:
    """Which version the part belongs to. A weak ETag cannot stand in If-Range, a date can."""
    etag = response.headers.get("ETag")
    strong = etag if etag and not etag.startswith("W/") else None
    validator = strong or response.headers.get("Last-Modified")
    part.note({"url": url, "validator": validator, "etag": etag, "total": total})


def _copy(response: HTTPResponse, part: Part, label: str, total: int | None) -> None:
    unit, scale = ("MB", 10**6) if (total or 10**9) >= 10**7 else ("kB", 10**3)
    have = part.length
    with Progress((total or 0) // scale, unit, label, initial=have // scale) as progress:
        while True:
            try:
                block = response.read1(BLOCK)
            except (HTTPException, OSError) as error:
                raise Passing(f"the connection broke off ({str(error) or type(error).__name__})") from None
            if not block:
                return
            part.append(block)
            have += len(block)
            if have // scale > progress.done:
                progress.advance(have // scale - progress.done)
