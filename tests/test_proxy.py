"""Which proxy is used, its URL, and the opening of a tunnel through it.

Results are those of websockets 17.4, but where a comment says why they are not.
"""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import urllib.request

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from websockets.exceptions import InvalidProxy, InvalidProxyMessage, InvalidProxyStatus
from websockets.proxy import Proxy, Tunnel, get_proxy, parse_proxy
from websockets.uri import parse_uri

# URLs


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("http://host:8080", Proxy("http", "host", 8080)),
        ("http://host", Proxy("http", "host", 80)),
        ("https://host", Proxy("https", "host", 443)),
        ("https://host/", Proxy("https", "host", 443)),
        ("HTTP://HOST:1", Proxy("http", "host", 1)),
        # 17.4 takes 80; RFC 1928 section 3 has SOCKS at 1080.
        ("socks4://host", Proxy("socks4", "host", 1080)),
        ("socks4a://host", Proxy("socks4a", "host", 1080)),
        ("socks5://host", Proxy("socks5", "host", 1080)),
        ("socks5h://host", Proxy("socks5h", "host", 1080)),
        ("socks5h://host:1", Proxy("socks5h", "host", 1)),
        ("http://[::1]:8080", Proxy("http", "::1", 8080)),
        ("http://\xe9.com:1", Proxy("http", "xn--9ca.com", 1)),
        ("http://user:pass@host:1", Proxy("http", "host", 1, "user", "pass")),
        ("http://user:@host:1", Proxy("http", "host", 1, "user", "")),
        ("http://:pass@host:1", Proxy("http", "host", 1, "", "pass")),
        ("http://%40:%3a@host:1", Proxy("http", "host", 1, "@", ":")),
        ("http://\xe9:\xe8@host:1", Proxy("http", "host", 1, "\xe9", "\xe8")),
        ("socks5://a%3ab:c@host:1", Proxy("socks5", "host", 1, "a:b", "c")),
    ],
)
def test_parse(url: str, proxy: Proxy) -> None:
    assert parse_proxy(url) == proxy


@pytest.mark.parametrize(
    ("url", "msg"),
    [
        ("host:80", "scheme host isn't supported"),
        ("host", "scheme  isn't supported"),
        ("", "scheme  isn't supported"),
        ("ftp://host", "scheme ftp isn't supported"),
        ("socks://host", "scheme socks isn't supported"),
        ("http://", "hostname isn't provided"),
        ("http:///path", "hostname isn't provided"),
        ("http://user:pass@:1", "hostname isn't provided"),
        ("http://host/path", "path is meaningless"),
        ("socks5://host/path", "path is meaningless"),
        ("http://host/?query", "query is meaningless"),
        ("http://host?query", "query is meaningless"),
        ("http://host#fragment", "fragment is meaningless"),
        ("http://user@host", "username provided without password"),
        # 17.4 raises ValueError, or takes them.
        ("http://host:port", "Port could not be cast to integer value as 'port'"),
        ("http://host:99999", "Port out of range 0-65535"),
        ("http://host:0", "port 0 can't be connected to"),
        ("http://[::1", "Invalid IPv6 URL"),
        ("http://a b:1", "hostname isn't valid: a b"),
        ("http://host/;path", "path is meaningless"),
        ("http://a%3ab:c@host:1", "username contains a colon"),
    ],
)
def test_parse_invalid(url: str, msg: str) -> None:
    with pytest.raises(InvalidProxy) as raised:
        parse_proxy(url)
    assert raised.value.proxy == url
    assert raised.value.msg == msg


def test_parse_invalid_internationalized_name() -> None:
    with pytest.raises(InvalidProxy) as raised:
        parse_proxy("http://\xe9..com/")
    assert raised.value.msg.startswith("hostname isn't valid: ")


@settings(max_examples=50)
@given(st.text() | st.from_regex(r"(https?|socks[45][ah]?)://.*", fullmatch=True))
def test_parse_anything(url: str) -> None:
    try:
        proxy = parse_proxy(url)
    except InvalidProxy:
        return
    assert proxy.host
    assert proxy.host.isascii()
    assert 0 < proxy.port < 65536
    if proxy.scheme in ("http", "https"):
        Tunnel(proxy, "example.com", 443).request.serialize()


@pytest.mark.parametrize(
    ("user_info", "expected"),
    [
        ((), None),
        (("user", "pass"), ("user", "pass")),
        (("", ""), ("", "")),
        ((None, "pass"), None),
        # 17.4 raises a bare AssertionError.
        (("user",), None),
    ],
)
def test_user_info(user_info: tuple[str, ...], expected: tuple[str, str] | None) -> None:
    assert Proxy("http", "host", 1, *user_info).user_info == expected


# Choice

ALL = {
    "ws_proxy": "http://ws:1",
    "wss_proxy": "http://wss:1",
    "socks_proxy": "http://socks:1",
    "https_proxy": "http://https:1",
    "http_proxy": "http://http:1",
    "all_proxy": "http://all:1",
}


def without(*names: str) -> dict[str, str]:
    return {name: url for name, url in ALL.items() if name not in names}


def choose(monkeypatch: pytest.MonkeyPatch, uri: str, env: dict[str, str]) -> str | None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(urllib.request, "getproxies", urllib.request.getproxies_environment)
    monkeypatch.setattr(urllib.request, "proxy_bypass", urllib.request.proxy_bypass_environment)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return get_proxy(parse_uri(uri))


@pytest.mark.parametrize(
    ("env", "for_ws", "for_wss"),
    [
        ({}, None, None),
        (ALL, "http://ws:1", "http://wss:1"),
        (without("ws_proxy", "wss_proxy"), "socks5h://socks:1", "socks5h://socks:1"),
        (
            without("ws_proxy", "wss_proxy", "socks_proxy"),
            "http://https:1",
            "http://https:1",
        ),
        ({"http_proxy": "http://http:1"}, "http://http:1", None),
        ({"all_proxy": "http://all:1"}, None, None),
        ({"socks_proxy": "socks5://socks:1"}, "socks5://socks:1", "socks5://socks:1"),
        ({"socks_proxy": "socks:1"}, "socks:1", "socks:1"),
        ({"HTTPS_PROXY": "http://upper:1"}, "http://upper:1", "http://upper:1"),
        ({"Https_Proxy": "http://mixed:1"}, "http://mixed:1", "http://mixed:1"),
        (
            {"HTTPS_PROXY": "http://upper:1", "https_proxy": "http://lower:1"},
            "http://lower:1",
            "http://lower:1",
        ),
        ({"https_proxy": ""}, None, None),
        (
            {"ws_proxy": "", "wss_proxy": "", "https_proxy": "http://https:1"},
            "http://https:1",
            "http://https:1",
        ),
        # httpoxy: in CGI, whoever sends a request sets this.
        ({"HTTP_PROXY": "http://evil:1", "REQUEST_METHOD": "GET"}, None, None),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_environment(
    monkeypatch: pytest.MonkeyPatch, env: dict[str, str], for_ws: str, for_wss: str
) -> None:
    assert choose(monkeypatch, "ws://example.com/", env) == for_ws
    assert choose(monkeypatch, "wss://example.com/", env) == for_wss


@pytest.mark.parametrize(
    ("uri", "no_proxy", "excepted"),
    [
        ("ws://example.com/", "", False),
        ("ws://example.com/", "example.com", True),
        ("ws://example.com/", "other.com, example.com", True),
        ("ws://example.com/", ".example.com", True),
        ("ws://example.com/", "ample.com", False),
        ("ws://www.example.com/", "example.com", True),
        ("ws://example.com/", "*", True),
        ("ws://example.com/", "example.com:80", True),
        ("wss://example.com/", "example.com:443", True),
        ("wss://example.com/", "example.com:80", False),
        ("ws://example.com:8080/", "example.com:8080", True),
        ("ws://127.0.0.1:8080/", "127.0.0.1", True),
        ("ws://127.0.0.1:8080/", "localhost", False),
        ("ws://\xe9.com/", "xn--9ca.com", True),
        ("ws://[::1]/", "::1", True),
        ("ws://[::1]/", "127.0.0.1", False),
        # 17.4 does not take the brackets.
        ("ws://[::1]/", "[::1]", True),
        ("ws://[::1]:8080/", "[::1]:8080", True),
    ],
)
def test_no_proxy(monkeypatch: pytest.MonkeyPatch, uri: str, no_proxy: str, excepted: bool) -> None:
    proxy = "http://proxy:1"
    chosen = choose(monkeypatch, uri, {"https_proxy": proxy, "no_proxy": no_proxy})
    assert chosen == (None if excepted else proxy)


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_settings_of_the_system(monkeypatch: pytest.MonkeyPatch, platform: str) -> None:
    """There, getproxies() and proxy_bypass() look at them, too."""
    monkeypatch.setattr(sys, "platform", platform)
    found = {"https": "http://system:1", "socks": "http://socks:2"}
    monkeypatch.setattr(urllib.request, "getproxies", lambda: found)
    monkeypatch.setattr(urllib.request, "proxy_bypass", lambda host: host == "local.example:80")
    assert get_proxy(parse_uri("ws://example.com/")) == "socks5h://socks:2"
    assert get_proxy(parse_uri("ws://local.example/")) is None
    assert get_proxy(parse_uri("ws://local.example:81/")) == "socks5h://socks:2"


def test_no_import_without_a_variable() -> None:
    """It would take longer than to connect."""
    code = (
        "import sys; from websockets.proxy import get_proxy; from websockets.uri import parse_uri; "
        "print(get_proxy(parse_uri('ws://a/')), 'urllib.request' in sys.modules)"
    )

    def run(**env: str) -> str:
        kept = {n: v for n, v in os.environ.items() if not n.lower().endswith("_proxy")}
        command = [sys.executable, "-c", code]
        return subprocess.run(
            command, env={**kept, **env}, capture_output=True, text=True, check=True
        ).stdout

    if sys.platform not in ("darwin", "win32"):
        assert run() == "None False\n"
    assert run(ws_proxy="http://proxy:1") == "http://proxy:1 True\n"


# Tunnels (RFC 9110 section 9.3.6)

PROXY = Proxy("http", "proxy.example", 3128)


def open_tunnel(*pieces: bytes) -> bool:
    tunnel = Tunnel(PROXY, "example.com", 443)
    return [tunnel.receive_data(piece) for piece in pieces][-1]


@pytest.mark.parametrize(
    ("tunnel", "lines"),
    [
        (
            Tunnel(PROXY, "example.com", 443, "Tester/1"),
            ["CONNECT example.com:443 HTTP/1.1", "Host: example.com:443", "User-Agent: Tester/1"],
        ),
        (
            # RFC 9112 section 3.2: Host is the same as the target. 17.4 leaves port 80 out of it.
            Tunnel(PROXY, "example.com", 80),
            ["CONNECT example.com:80 HTTP/1.1", "Host: example.com:80"],
        ),
        (
            Tunnel(PROXY, "::1", 8080),
            ["CONNECT [::1]:8080 HTTP/1.1", "Host: [::1]:8080"],
        ),
        (
            Tunnel(Proxy("https", "p", 1, "us@er", "p\xe9:ss"), "a", 1),
            [
                "CONNECT a:1 HTTP/1.1",
                "Host: a:1",
                "Proxy-Authorization: Basic " + base64.b64encode(b"us@er:p\xc3\xa9:ss").decode(),
            ],
        ),
    ],
    ids=["plain", "default-port", "ipv6", "credentials"],
)
def test_request(tunnel: Tunnel, lines: list[str]) -> None:
    assert tunnel.request.serialize() == "\r\n".join([*lines, "", ""]).encode()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 \r\n\r\n",
        b"HTTP/1.0 200 Connection established\r\n\r\n",
        b"HTTP/1.1 299 Whatever\r\n\r\n",
        # They must be ignored.
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        # 17.4 takes it for a refusal.
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    ],
)
def test_opened(answer: bytes) -> None:
    assert open_tunnel(answer)
    assert open_tunnel(answer[:12], answer[12:])
    pieces = [answer[i : i + 1] for i in range(len(answer))]
    tunnel = Tunnel(PROXY, "example.com", 443)
    assert [tunnel.receive_data(piece) for piece in pieces] == [False] * (len(pieces) - 1) + [True]


@pytest.mark.parametrize("status", [101, 300, 302, 403, 407, 500, 502, 503])
def test_refused(status: int) -> None:
    answer = f"HTTP/1.1 {status} No\r\nX-Why: because\r\nContent-Length: 3\r\n\r\nno!".encode()
    with pytest.raises(InvalidProxyStatus) as raised:
        open_tunnel(answer)
    assert str(raised.value) == f"proxy rejected connection: HTTP {status}"
    assert raised.value.response.status_code == status
    assert raised.value.response.headers["X-Why"] == "because"
    assert raised.value.response.body == b""


@pytest.mark.parametrize(
    ("pieces", "cause"),
    [
        ([b"junk\r\n\r\n"], "invalid HTTP status line: junk"),
        ([b"HTTP/1.1 200\r\n\r\n"], "invalid HTTP status line: HTTP/1.1 200"),
        (
            [b"HTTP/2 200 OK\r\n\r\n"],
            "unsupported protocol; expected HTTP/1.1 or HTTP/1.0: HTTP/2 200 OK",
        ),
        ([b"HTTP/1.1 600 No\r\n\r\n"], "invalid status code; expected 100–599; got 600"),
        ([b"HTTP/1.1 200 OK\r\nbad\r\n\r\n"], "invalid HTTP header line: bad"),
        ([b"HTTP/1.1 200 OK\n\n"], "line without CRLF"),
        ([b""], "connection closed while reading HTTP status line"),
        ([b"HTTP/1.1 200", b""], "connection closed while reading HTTP status line"),
        ([b"HTTP/1.1 200 OK\r\n", b""], "connection closed while reading HTTP headers"),
    ],
    ids=repr,
)
def test_malformed(pieces: list[bytes], cause: str) -> None:
    with pytest.raises(InvalidProxyMessage) as raised:
        open_tunnel(*pieces)
    assert str(raised.value) == "did not receive a valid HTTP response from proxy"
    assert str(raised.value.__cause__) == cause


@pytest.mark.parametrize("early", [b"x", b"HTTP/1.1 101 Switching Protocols\r\n\r\n"])
def test_proxy_speaks_for_the_server(early: bytes) -> None:
    """What is said before TLS begins must not count as said within it. 17.4 drops it."""
    with pytest.raises(InvalidProxyMessage) as raised:
        open_tunnel(b"HTTP/1.1 200 OK\r\n\r\n" + early)
    assert str(raised.value) == "received data from proxy behind its HTTP response"
