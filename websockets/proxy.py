"""Proxies: which one to use, and how HTTP proxies open a tunnel, without I/O."""

from __future__ import annotations

import dataclasses
import os
import sys

from .datastructures import Headers
from .exceptions import InvalidProxy, InvalidProxyMessage, InvalidProxyStatus
from .headers import build_authorization_basic, build_host
from .http11 import PARSE_ERRORS, Request, ResponseParser
from .uri import WebSocketURI, read_authority, split_url

__all__ = ["Proxy", "get_proxy", "parse_proxy"]

#: Schemes of proxies, with their default ports; that of SOCKS is in RFC 1928 section 3.
DEFAULT_PORTS = {
    "http": 80,
    "https": 443,
    "socks4": 1080,
    "socks4a": 1080,
    "socks5": 1080,
    "socks5h": 1080,
}


@dataclasses.dataclass
class Proxy:
    """
    The address of a proxy.

    Attributes:
        scheme: ``http`` or ``https``, which is spoken with the proxy itself; ``socks4``,
            ``socks4a``, ``socks5`` or ``socks5h``. With ``socks4a`` and ``socks5h`` the proxy
            resolves host names, with the other two this side does.
        host: name or IP address; an IPv6 address has no brackets.
        port: port; if the URL has none, 80, 443, or 1080 for SOCKS.
        username: user name if the URL has user information, else :obj:`None`.
        password: password if the URL has user information, else :obj:`None`.
    """

    scheme: str
    host: str
    port: int
    username: str | None = None
    password: str | None = None

    @property
    def user_info(self) -> tuple[str, str] | None:
        """User name and password; :obj:`None` if there are none."""
        if self.username is None or self.password is None:
            return None
        return self.username, self.password


def parse_proxy(proxy: str) -> Proxy:
    """
    Parse the URL of a proxy.

    Args:
        proxy: an ``http``, ``https``, ``socks4``, ``socks4a``, ``socks5`` or ``socks5h`` URL.

    Raises:
        InvalidProxy: if it is not a valid one.
    """
    parts, port = split_url(proxy, InvalidProxy)
    if parts.scheme not in DEFAULT_PORTS:
        raise InvalidProxy(proxy, f"scheme {parts.scheme} isn't supported")
    if not parts.hostname:
        raise InvalidProxy(proxy, "hostname isn't provided")
    if parts.path not in ("", "/"):
        raise InvalidProxy(proxy, "path is meaningless")
    if parts.query:
        raise InvalidProxy(proxy, "query is meaningless")
    if parts.fragment:
        raise InvalidProxy(proxy, "fragment is meaningless")
    host, username, password = read_authority(parts, port, lambda msg: InvalidProxy(proxy, msg))
    # RFC 7617 section 2: the recipient splits at the first colon. SOCKS has fields.
    if username is not None and ":" in username and parts.scheme in ("http", "https"):
        raise InvalidProxy(proxy, "username contains a colon")
    return Proxy(parts.scheme, host, port or DEFAULT_PORTS[parts.scheme], username, password)


def get_proxy(uri: WebSocketURI) -> str | None:
    """
    Find the proxy for a connection in the environment, or in the settings of macOS and Windows.

    Of the variables, upper or lower case, ``wss_proxy``, ``socks_proxy`` and ``https_proxy`` count
    for ``wss`` URIs, the first that is there; ``ws_proxy``, ``socks_proxy``, ``https_proxy`` and
    ``http_proxy`` for ``ws`` URIs. Hosts in ``no_proxy`` are connected to directly.

    Args:
        uri: what to connect to.

    Returns:
        URL of the proxy; :obj:`None` to connect directly.
    """
    # Nearly always there is no such variable, and to connect takes less time than this import.
    if sys.platform not in ("darwin", "win32"):
        if b"_proxy" not in b" ".join(os.environb).lower():
            return None
    import urllib.request

    proxies = urllib.request.getproxies()
    schemes = ["wss", "socks", "https"] if uri.secure else ["ws", "socks", "https", "http"]
    for scheme in schemes:
        proxy = proxies.get(scheme)
        if not proxy:
            continue
        # An IPv6 address may be excepted with brackets or without.
        host = build_host(uri.host, uri.port, uri.secure, always_include_port=True)
        if any(map(urllib.request.proxy_bypass, {host, f"{uri.host}:{uri.port}"})):
            return None
        # That is how macOS has it.
        if scheme == "socks" and proxy.startswith("http://"):
            proxy = "socks5h://" + proxy.removeprefix("http://")
        return proxy
    return None


class Tunnel:
    """
    The opening of a tunnel through an HTTP proxy (RFC 9110 section 9.3.6).

    Args:
        proxy: the proxy.
        host: where the tunnel leads.
        port: its port.
        user_agent_header: value of the ``User-Agent`` header; :obj:`None` for none.
    """

    def __init__(
        self, proxy: Proxy, host: str, port: int, user_agent_header: str | None = None
    ) -> None:
        # RFC 9112 sections 3.2 and 3.2.3: Host and target are the same, with the port.
        target = build_host(host, port, False, always_include_port=True)
        headers = Headers()
        headers["Host"] = target
        if user_agent_header is not None:
            headers["User-Agent"] = user_agent_header
        if proxy.user_info is not None:
            headers["Proxy-Authorization"] = build_authorization_basic(*proxy.user_info)
        self.request = Request(target, headers, "CONNECT")
        self._parser = ResponseParser(from_proxy=True)

    def receive_data(self, data: bytes) -> bool:
        """
        Take what the proxy has sent.

        Args:
            data: bytes; empty for the end of the stream.

        Returns:
            Whether the tunnel is open.

        Raises:
            InvalidProxyMessage: if the response is malformed.
            InvalidProxyStatus: if the proxy refuses.
        """
        if data:
            self._parser.feed(data)
        else:
            self._parser.feed_eof()
        try:
            response = self._parser.parse()
        except PARSE_ERRORS as exc:
            raise InvalidProxyMessage("did not receive a valid HTTP response from proxy") from exc
        if response is None:
            return False
        if not 200 <= response.status_code < 300:
            raise InvalidProxyStatus(response)
        # The client speaks first, be it TLS or a handshake: this is not from the server. To take it
        # for what the server says would let the proxy speak in its name, before TLS has begun.
        if self._parser.take_rest():
            raise InvalidProxyMessage("received data from proxy behind its HTTP response")
        return True
