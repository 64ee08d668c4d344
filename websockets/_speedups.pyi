from typing import Self, final

from .typing import BytesLike, DataLike, Inflater

__all__ = [
    "FrameReader",
    "Utf8Validator",
    "apply_mask",
    "encode_frame",
    "encode_header",
    "text_buffer",
]

IMPLEMENTATION: str
KEY_BLOCK_SIZE: int
PAYLOAD_RESERVE: int
DIRECT_RECEIVE: int
READ_SIZE: int
TEXT_CONTEXT: int
EXPANSION_PART: int
EXPANSION: int
LARGEST: int

def apply_mask(data: BytesLike, mask: BytesLike) -> bytes: ...

@final
class Utf8Validator:
    def __new__(cls) -> Self: ...
    def feed(self, data: BytesLike, final: bool = False) -> None: ...

def encode_header(
    opcode: int, length: int, masked: bool, fin: bool = True, rsv: int = 0
) -> bytes: ...
def encode_frame(
    opcode: int, payload: DataLike, masked: bool, fin: bool = True, rsv: int = 0
) -> bytes: ...
def text_buffer(text: str) -> bytes | memoryview: ...

@final
class FrameReader:
    extended: bool
    inflater: Inflater | None
    message_size: int
    @property
    def starved(self) -> bool: ...
    @property
    def in_frame(self) -> bool: ...
    @property
    def frames(self) -> int: ...
    def __new__(
        cls,
        masked: bool,
        max_message: int | None = None,
        max_fragment: int | None = None,
        extended: bool = False,
    ) -> Self: ...
    def limit(self, max_message: int | None, max_fragment: int | None) -> None: ...
    def feed(self, data: BytesLike) -> None: ...
    def get_buffer(self, shared: memoryview) -> memoryview: ...
    def buffer_updated(self, shared: memoryview, nbytes: int) -> None: ...
    def keep(self) -> None: ...
    def read_messages(self, limit: int) -> list[str | bytes]: ...
    def read_frame(self) -> tuple[int, bytes, bool, int] | None: ...
    def eof_error(self) -> EOFError: ...
