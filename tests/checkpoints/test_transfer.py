"""Downloads from a server that drops, ignores, changes and refuses; through a proxy; from Google Drive."""

from __future__ import annotations

import email.utils
import os
import re
import time
from collections.abc import Callable

import pytest
from downloads import CONTENT, SHA256, Client
from file_server import Answer, FileServer, Proxy

from skiptune.checkpoints.fetching.part import open_part
from skiptune.checkpoints.fetching.transfer import Patience, retry_after
from skiptune.errors import SkiptuneError

HALF = 1_500_000


def test_dropped_connections_are_resumed(client: Client, server: FileServer) -> None:
    server.script = [Answer(drop_after=HALF), Answer(drop_after=HALF // 2)]
    outcome = client.get()
    assert client.target.read_bytes() == CONTENT and outcome.sha256 == SHA256
    first, second, third = server.ranges
    assert first is None
    # Each goes on exactly where the one before it broke off, if it is still the same file.
    assert (second, third) == (f"bytes={HALF}-", f"bytes={HALF + HALF // 2}-")
    assert [headers.get("If-Range") for _, headers in server.requests] == [None, '"one"', '"one"']
    assert [re.search(r"broke off at (\d+) of", line)[1] for line in client.said] == ["1500000", "2250000"]  # type: ignore[index]
    assert client.left() == {"net.pkl", "net.pkl.download.json"}


def test_drops_without_end_are_given_up_and_what_came_is_kept(client: Client, server: FileServer) -> None:
    server.usual = Answer(drop_after=0)
    server.script = [Answer(drop_after=HALF)]
    with pytest.raises(
        SkiptuneError, match=r"net: .*broke off at 1500000 of 3000001 .* after 4 tries"
    ) as caught:
        client.get()
    assert "\n" not in str(caught.value)
    assert client.part.stat().st_size == HALF and not client.target.exists()
    server.usual = Answer()
    client.get()  # another day, another process
    assert server.ranges[-1] == f"bytes={HALF}-" and client.target.read_bytes() == CONTENT


def test_any_number_of_drops_is_survived_while_it_grows(client: Client, server: FileServer) -> None:
    server.usual = Answer(drop_after=300_000)
    client.get(patience=Patience(retries=1, backoff=0.0, timeout=2.0))
    assert client.target.read_bytes() == CONTENT and len(server.requests) == 11


def test_server_that_ignores_ranges_is_read_from_the_start(client: Client, server: FileServer) -> None:
    server.usual = Answer(ranges=False)
    server.script = [Answer(drop_after=HALF)]
    client.get()
    assert server.ranges == [None, f"bytes={HALF}-"]
    assert client.target.read_bytes() == CONTENT


def test_server_that_ignores_ranges_and_always_drops_is_given_up(client: Client, server: FileServer) -> None:
    server.usual = Answer(ranges=False, drop_after=HALF)
    with pytest.raises(SkiptuneError, match="after 4 tries"):
        client.get()
    assert len(server.requests) == 4


@pytest.mark.parametrize("conditional", [True, False], ids=["If-Range heeded", "If-Range ignored"])
def test_file_that_changes_between_attempts_is_not_mixed(
    client: Client, server: FileServer, conditional: bool
) -> None:
    server.script = [Answer(drop_after=HALF)]
    with pytest.raises(SkiptuneError):
        client.get(patience=Patience(retries=0))
    server.content = b"\x80" + bytes(3_000_000)
    server.validators = {"ETag": '"two"'}
    server.usual = Answer(conditional=conditional)
    client.get()
    assert client.target.read_bytes() == server.content


@pytest.mark.parametrize(
    ("validators", "expected"),
    [
        ({"Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}, f"bytes={HALF}-"),
        ({"ETag": 'W/"weak"', "Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}, f"bytes={HALF}-"),
        ({"ETag": 'W/"weak"'}, None),
        ({}, None),
    ],
)
def test_without_validator_nothing_is_continued_on_trust(
    client: Client, server: FileServer, validators: dict[str, str], expected: str | None
) -> None:
    server.validators, server.script = validators, [Answer(drop_after=HALF)]
    client.get()
    assert server.ranges == [None, expected] and client.target.read_bytes() == CONTENT


def test_without_validator_a_published_checksum_is_enough(client: Client, server: FileServer) -> None:
    server.validators, server.script = {}, [Answer(drop_after=HALF)]
    client.get(sha256=SHA256)
    assert server.ranges == [None, f"bytes={HALF}-"] and client.target.read_bytes() == CONTENT


def test_part_longer_than_the_file_starts_over(client: Client, server: FileServer) -> None:
    server.script = [Answer(drop_after=HALF)]
    with pytest.raises(SkiptuneError):
        client.get(patience=Patience(retries=0))
    with open(client.part, "ab") as part:
        part.write(bytes(2 * len(CONTENT)))
    client.get()
    assert client.target.read_bytes() == CONTENT


def test_chunked_body_that_breaks_off_is_noticed(client: Client, server: FileServer) -> None:
    # The length is not announced and the body is not chunked as it says: only the size tells.
    server.usual = Answer(length=False, drop_after=HALF)
    with pytest.raises(SkiptuneError, match=f"has {HALF} bytes instead of {len(CONTENT)}"):
        client.get(size=len(CONTENT))
    assert client.left() == set()


def test_without_any_length_the_estimate_tells_a_broken_file(client: Client, server: FileServer) -> None:
    # Neither a length nor a checksum: the end of the connection looks like the end of the file.
    broken = Answer(length=False, drop_after=HALF)
    server.usual, validators, server.validators = broken, server.validators, {}
    with pytest.raises(SkiptuneError, match=f"ended at {HALF} of about {len(CONTENT)} bytes, no length was"):
        client.get(about=len(CONTENT), patience=Patience(retries=1, backoff=0.0))
    assert not client.target.exists()
    server.script, server.usual = [broken], Answer(length=False)
    outcome = client.get(about=int(len(CONTENT) * 1.05))  # an estimate is not exact
    assert server.ranges[-1] is None and "recorded now" in outcome.trust
    client.target.unlink()
    server.script, server.validators = [broken], validators
    outcome = client.get(about=len(CONTENT))
    assert server.ranges[-1] == f"bytes={HALF}-"
    assert client.target.read_bytes() == CONTENT and "as recorded on" in outcome.trust


def test_a_length_that_was_given_counts_more_than_the_estimate(client: Client, server: FileServer) -> None:
    client.get(about=10 * len(CONTENT))
    assert client.target.read_bytes() == CONTENT and client.said == []


@pytest.mark.parametrize(
    ("answer", "least", "line"),
    [
        (Answer(429, {"Retry-After": "1"}), 1.0, "HTTP 429; again in 1 s"),
        (Answer(429), 0.0, "HTTP 429; again in 0.01 s"),
        (Answer(503), 0.0, "HTTP 503"),
        (Answer(500), 0.0, "HTTP 500"),
    ],
)
def test_passing_refusals_are_waited_for(
    client: Client, server: FileServer, answer: Answer, least: float, line: str
) -> None:
    server.script = [answer]
    started = time.monotonic()
    client.get()
    assert least <= time.monotonic() - started < least + 3
    assert line in client.said[0] and client.target.read_bytes() == CONTENT


def test_patience_ends(client: Client, server: FileServer) -> None:
    server.usual = Answer(429)
    with pytest.raises(SkiptuneError, match=r"HTTP 429 .*given up after 4 tries, run it again later"):
        client.get()
    assert len(server.requests) == 4
    server.usual = Answer(429, {"Retry-After": "3600"})
    with pytest.raises(SkiptuneError, match="HTTP 429 .*asks to wait 3600 s"):
        client.get()
    assert len(server.requests) == 5


def test_retry_after_is_seconds_or_a_date() -> None:
    assert retry_after("7") == 7 and retry_after(None) is None and retry_after("soon") is None
    assert 25 < (retry_after(email.utils.formatdate(time.time() + 30, usegmt=True)) or 0) <= 30
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0


@pytest.mark.parametrize(
    ("status", "line"),
    [(404, "no such file any more (404)"), (403, "refuses access (403)"), (401, "login (401)"), (418, "418")],
)
def test_final_refusals_are_one_line_at_once(
    client: Client, server: FileServer, status: int, line: str
) -> None:
    server.usual = Answer(status)
    with pytest.raises(SkiptuneError) as caught:
        client.get()
    text = str(caught.value)
    assert line in text and server.url in text and str(client.target) in text and "\n" not in text
    assert len(server.requests) == 1 and client.left() == set()


def test_next_address_is_tried(client: Client, server: FileServer) -> None:
    server.script = [Answer(404)]
    client.get(urls=(f"{server.url}/gone", f"{server.url}/here"))
    assert [path for path, _ in server.requests] == ["/gone", "/here"]


def test_silence_counts_as_a_drop(client: Client, server: FileServer) -> None:
    server.script = [Answer(pause=0.6)]
    client.get(patience=Patience(retries=1, backoff=0.0, timeout=0.3))
    assert "timed out" in client.said[0] and client.target.read_bytes() == CONTENT


def test_nobody_listens(client: Client, server: FileServer) -> None:
    with pytest.raises(SkiptuneError, match=r"net: no connection \(.*refused.*after 4 tries"):
        client.get(urls=("http://127.0.0.1:9/net.pkl",))


def test_other_size_is_refused_before_a_byte(client: Client, server: FileServer) -> None:
    with pytest.raises(SkiptuneError, match="has 3000001 bytes instead of 5: that is another file"):
        client.get(size=5)
    assert client.left() == set()


def test_web_page_is_no_file(client: Client, server: FileServer) -> None:
    server.usual = Answer(
        headers={"Content-Type": "text/html; charset=utf-8"}, body=b"<h1>Please log in</h1>"
    )
    with pytest.raises(SkiptuneError, match="gives a web page instead of the file"):
        client.get()
    assert client.left() == set()


def test_question_of_google_drive_is_answered(client: Client, server: FileServer) -> None:
    page = b"""<form id="download-form" action="/download" method="get"><input type="submit" value="Yes">
        <input type="hidden" name="id" value="1&amp;2">
        <input type="hidden" name="confirm" value="t"></form><input type="hidden" name="no" value="no">"""
    question = Answer(headers={"Content-Type": "text/html"}, body=page, ranges=False)
    server.script = [question, Answer(drop_after=HALF), question]
    client.get()
    asked = "/download?id=1%262&confirm=t"
    assert [path for path, _ in server.requests] == ["/a/net.pkl", asked, "/a/net.pkl", asked]
    assert server.ranges[3] == f"bytes={HALF}-" and client.target.read_bytes() == CONTENT
    client.target.unlink()
    server.usual = question  # over quota: the answer is another page
    with pytest.raises(
        SkiptuneError, match="web page .* with a browser from https://drive.example/view, place"
    ):
        client.get(page="https://drive.example/view")


def test_proxy_of_the_environment(
    client: Client, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Proxy(server.url) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("https_proxy", proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        server.script = [Answer(503), Answer()]
        client.get(urls=("http://official.example/net.pkl",))
        assert proxy.asked == ["http://official.example/net.pkl"] * 2
        assert client.target.read_bytes() == CONTENT
        client.target.unlink()
        with pytest.raises(
            SkiptuneError, match="the proxy lets nothing through to https://official.example/"
        ):
            client.get(urls=("https://official.example/net.pkl",))


def test_plain_http_where_tls_is_expected(client: Client, server: FileServer) -> None:
    with pytest.raises(SkiptuneError, match="net: no connection"):
        client.get(urls=(server.url.replace("http:", "https:"),), patience=Patience(retries=0))


def test_two_processes_do_not_write_one_file(client: Client) -> None:
    with open_part(client.target), pytest.raises(SkiptuneError, match="another process is downloading"):
        client.get()
    assert client.get().sha256 == SHA256


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_full_disk(client: Client) -> None:
    client.folder.mkdir()
    client.part.symlink_to("/dev/full")
    with pytest.raises(SkiptuneError, match="No space left on device.*free space"):
        client.get()
    assert not client.target.exists()


def test_too_large_for_the_disk_is_said_before(client: Client, server: FileServer) -> None:
    server.usual = Answer(headers={"Content-Length": str(10**17)})
    with pytest.raises(SkiptuneError, match="GB free, 100000000.0 GB are needed"):
        client.get()


def test_folder_that_cannot_be_written(client: Client, make_official: Callable[..., object]) -> None:
    client.folder.write_text("a file")
    with pytest.raises(SkiptuneError, match="cannot write .*net.pkl"):
        client.get()
