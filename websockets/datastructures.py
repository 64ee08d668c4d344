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


class Headers(MutableMapping[str, str]):
    """
    HTTP headers: a mapping whose keys ignore case and may have several values.

    Order, repetition and the case of names are kept for sending (RFC 9110 section 5.1 to 5.3).
    Setting a key **adds** a value; delete the key first to replace its values. Reading a key that
    has several values raises :exc:`MultipleValuesError`; :meth:`get_all` reads them.

    It is created like a :class:`dict`: from a mapping, from pairs, from keyword arguments.

    Raises:
        InvalidHeader: if a name is not a token (RFC 9110 section 5.1).
        InvalidHeaderValue: if a value has characters that no header can have (RFC 9110
            section 5.5).
    """

    __slots__ = ["_dict", "_list"]

    # Two views of the same thing: values by lower-case name, and pairs in order as given.
    _dict: dict[str, list[str]]
    _list: list[tuple[str, str]]

    def __init__(self, *args: HeadersLike, **kwargs: str) -> None:
        self._dict = {}
        self._list = []
        if args or kwargs:
            self.update(*args, **kwargs)

    def __str__(self) -> str:
        return "".join([f"{key}: {value}\r\n" for key, value in self._list]) + "\r\n"

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({self._list!r})"

    def copy(self) -> Headers:
        """Return an independent copy."""
        copy = self.__class__()
        copy._dict = {key: values.copy() for key, values in self._dict.items()}
        copy._list = self._list.copy()
        return copy

    def serialize(self) -> bytes:
        """Return the header lines and the empty line after them, as they are sent."""
        # RFC 9110 section 5.5: octets above 127 are opaque; ISO-8859-1 carries each as it is.
        return str(self).encode("iso-8859-1")

    # Collection methods

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and key.lower() in self._dict

    def __iter__(self) -> Iterator[str]:
        return iter(self._dict)

    def __len__(self) -> int:
        return len(self._dict)

    # MutableMapping methods

    def __getitem__(self, key: str) -> str:
        values = self._dict[key.lower()]
        if len(values) == 1:
            return values[0]
        raise MultipleValuesError(key)

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
        self._dict.setdefault(key.lower(), []).append(value)
        self._list.append((key, value))

    def extend_insecure(self, items: list[tuple[str, str]]) -> None:
        """
        Add several values without checking them.

        Args:
            items: names and values; see :meth:`set_insecure`.
        """
        self._list += items
        values_by_key = self._dict
        for key, value in items:
            key = key.lower()
            if key in values_by_key:
                values_by_key[key].append(value)
            else:
                values_by_key[key] = [value]

    def count_lines(self) -> int:
        """Return the number of header lines; :func:`len` is the number of names."""
        return len(self._list)

    def __delitem__(self, key: str) -> None:
        key_lower = key.lower()
        del self._dict[key_lower]
        self._list = [item for item in self._list if item[0].lower() != key_lower]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Headers):
            return NotImplemented
        return self._dict == other._dict

    def clear(self) -> None:
        """Remove all headers."""
        self._dict = {}
        self._list = []

    def update(self, *args: HeadersLike, **kwargs: str) -> None:
        """
        Add values from a mapping or from pairs, and from keyword arguments.

        From another :class:`Headers` all values of a name are added.
        """
        if args and isinstance(args[0], Headers):
            args = (args[0]._list.copy(), *args[1:])
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
        return list(self._dict.get(key.lower(), ()))

    def raw_items(self) -> Iterator[tuple[str, str]]:
        """Return an iterator over all names and values, as they were given and in their order."""
        return iter(self._list)


class SupportsKeysAndGetItem(Protocol):
    """What :class:`dict` accepts besides mappings and pairs."""

    def keys(self) -> Iterable[str]: ...

    def __getitem__(self, key: str, /) -> str: ...


#: What :class:`Headers` can be made of.
HeadersLike = Headers | Mapping[str, str] | Iterable[tuple[str, str]] | SupportsKeysAndGetItem
