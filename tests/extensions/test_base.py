"""What applications derive their extensions from (RFC 6455 section 9)."""

from __future__ import annotations

from typing import Any

import pytest

from websockets import extensions
from websockets.extensions import base
from websockets.extensions.base import ClientExtensionFactory, Extension, ServerExtensionFactory
from websockets.frames import TEXT, Frame


def test_names() -> None:
    for name in ("Extension", "ClientExtensionFactory", "ServerExtensionFactory"):
        assert getattr(extensions, name) is getattr(base, name)


@pytest.mark.parametrize(
    ("cls", "method", "args"),
    [
        (Extension, "decode", [Frame(TEXT, b"")]),
        (Extension, "encode", [Frame(TEXT, b"")]),
        (ClientExtensionFactory, "get_request_params", []),
        (ClientExtensionFactory, "process_response_params", [[], []]),
        (ServerExtensionFactory, "process_request_params", [[], []]),
    ],
)
def test_methods_are_to_be_overridden(cls: Any, method: str, args: list[Any]) -> None:
    with pytest.raises(NotImplementedError):
        getattr(cls(), method)(*args)


def test_a_subclass_may_have_attributes() -> None:
    class Custom(Extension):
        pass

    custom = Custom()
    custom.anything = 1  # type: ignore[attr-defined]
    assert vars(custom) == {"anything": 1}
