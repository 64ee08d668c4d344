"""HTTP header fields."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import Protocol

from .exceptions import InvalidHeader, InvalidHeaderValue

__all__ = ["Headers", "HeadersLike", "MultipleValuesError"]


class MultipleValuesError(LookupError):
    """A header that was asked for as one value has several."""

    def __str__(self) -> str:
        # As KeyError does: a bare "k" would not read as a key.
        return repr(self.args[0]) if len(self.args) == 1 else super().__str__()


# RFC 9110 section 5.6.2: token.
_is_token = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch

#: RFC 9110 section 5.5: visible characters, obs-text, space and tab; above all no CR, LF or NUL,
#: with which a value could end its line and begin another.
is_valid_header_value = re.compile(r"[\t\x20-\x7e\x80-\xff]*").fullmatch


# Strings that nearly every handshake has: connections have them in common.
_COMMON_NAMES = """
    Accept-Encoding Accept-Language Authorization Cache-Control Connection Cookie Date Host Origin
    Pragma Sec-WebSocket-Accept Sec-WebSocket-Extensions Sec-WebSocket-Key Sec-WebSocket-Protocol
    Sec-WebSocket-Version Server Upgrade User-Agent
"""
_COMMON = [
    *_COMMON_NAMES.split(),
    *_COMMON_NAMES.lower().split(),
    "GET",
    "HTTP/1.1",
    "13",
    "websocket",
    "no-cache",
    "permessage-deflate; client_max_window_bits",
]
share = {text: text for text in _COMMON}.get


class Headers(MutableMapping[str, str]):
    """
    HTTP headers: a mapping whose keys ignore case and may have several values.

    Order, repetition and the case of names are kept for sending (RFC 9110 section 5.1 to 5.3).
    Setting a key **adds** a value; delete the key first to replace its values. Reading a key that
    has several values raises :exc:`MultipleValuesError`; :meth:`get_all` reads them.

    It is created like a :class:`dict`.

    Args:
        *args: a mapping, or pairs of names and values.
        **kwargs: values by their names.

    Raises:
        InvalidHeader: if a name is not a token (RFC 9110 section 5.1).
        InvalidHeaderValue: if a value has characters that no header can have (RFC 9110
            section 5.5).
    """

    __slots__ = ["_keys", "_names", "_values"]

    # Side by side, in order: names as given, the same in lower case, and values. Connections keep
    # their headers, so they are kept small; lines are few, and to search them is as fast as to
    # build an index.
    _names: list[str]
    _keys: list[str]
    _values: list[str]

    def __init__(self, *args: HeadersLike, **kwargs: str) -> None:
        self._names = []
        self._keys = []
        self._values = []
        if args or kwargs:
            self.update(*args, **kwargs)

    def __str__(self) -> str:
        lines = [
            f"{name}: {value}\r\n" for name, value in zip(self._names, self._values, strict=True)
        ]
        return "".join(lines) + "\r\n"

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({list(self.raw_items())!r})"

    def copy(self) -> Headers:
        """Return an independent copy."""
        copy = self.__class__()
        copy._names = self._names.copy()
        copy._keys = self._keys.copy()
        copy._values = self._values.copy()
        return copy

    def serialize(self) -> bytes:
        """Return the header lines and the empty line after them, as they are sent."""
        # RFC 9110 section 5.5: octets above 127 are opaque; ISO-8859-1 carries each as it is.
        return str(self).encode("iso-8859-1")

    # Collection methods

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and key.lower() in self._keys

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(self._keys))

    def __len__(self) -> int:
        return len(set(self._keys))

    # MutableMapping methods

    def __getitem__(self, key: str) -> str:
        key_lower = key.lower()
        count = self._keys.count(key_lower)
        if count == 1:
            return self._values[self._keys.index(key_lower)]
        raise MultipleValuesError(key) if count else KeyError(key_lower)

    def __setitem__(self, key: str, value: str) -> None:
        if not _is_token(key):
            raise InvalidHeader(key, str(value))
        # str: numbers were always let through; what is checked is what will be sent.
        if not is_valid_header_value(str(value)):
            raise InvalidHeaderValue(key, value)
        self.set_insecure(key, value)

    def set_insecure(self, key: str, value: str) -> None:
        """
        Add a value without checking it.

        Args:
            key: name of the header.
            value: its value. If it came from outside, it must have been checked already.
        """
        self._names.append(key)
        self._keys.append(key.lower())
        self._values.append(value)

    def extend_insecure(self, items: list[tuple[str, str]]) -> None:
        """
        Add several values without checking them.

        Args:
            items: names and values; see :meth:`set_insecure`.
        """
        names, keys, values = self._names, self._keys, self._values
        for name, value in items:
            key = name.lower()
            names.append(share(name, name))
            keys.append(share(key, key))
            values.append(share(value, value))

    def count_lines(self) -> int:
        """Return the number of header lines; :func:`len` is the number of names."""
        return len(self._names)

    def __delitem__(self, key: str) -> None:
        key_lower = key.lower()
        left = [i for i, other in enumerate(self._keys) if other != key_lower]
        if len(left) == len(self._keys):
            raise KeyError(key_lower)
        self._names = [self._names[i] for i in left]
        self._keys = [self._keys[i] for i in left]
        self._values = [self._values[i] for i in left]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Headers):
            return NotImplemented
        return self._group() == other._group()

    def _group(self) -> dict[str, list[str]]:
        """Return the values by lower-case name."""
        groups: dict[str, list[str]] = {}
        for key, value in zip(self._keys, self._values, strict=True):
            groups.setdefault(key, []).append(value)
        return groups

    def clear(self) -> None:
        """Remove all headers."""
        self._names = []
        self._keys = []
        self._values = []

    def update(self, *args: HeadersLike, **kwargs: str) -> None:
        """
        Add values from a mapping or from pairs, and from keyword arguments.

        From another :class:`Headers` all values of a name are added.

        Args:
            *args: a mapping, or pairs of names and values.
            **kwargs: values by their names.
        """
        if args and isinstance(args[0], Headers):
            args = (list(args[0].raw_items()), *args[1:])
        super().update(*args, **kwargs)

    # Several values

    def get_all(self, key: str) -> list[str]:
        """
        Return all values of a header, in order.

        Args:
            key: name of the header.

        Returns:
            The values; an empty list if there is no such header.
        """
        key = key.lower()
        keys, values = self._keys, self._values
        count = keys.count(key)
        if count == 1:
            return [values[keys.index(key)]]
        return [value for k, value in zip(keys, values, strict=True) if k == key] if count else []

    def raw_items(self) -> Iterator[tuple[str, str]]:
        """Return an iterator over all names and values, as they were given and in their order."""
        return zip(self._names, self._values, strict=True)


class SupportsKeysAndGetItem(Protocol):
    """What :class:`dict` accepts besides mappings and pairs."""

    def keys(self) -> Iterable[str]: ...

    def __getitem__(self, key: str, /) -> str: ...


#: What :class:`Headers` can be made of.
HeadersLike = Headers | Mapping[str, str] | Iterable[tuple[str, str]] | SupportsKeysAndGetItem
