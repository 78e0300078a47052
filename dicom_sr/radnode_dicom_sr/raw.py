"""A finished object as raw values, without a DICOM library between: quick enough to look at every result before it leaves."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from radnode_inference.findings import Code
from radnode_inference.header import UNDEFINED, Header, walk

CONTENT, NAME, VALUE_TYPE, CODE_VALUE = 0x0040A730, 0x0040A043, 0x0040A040, 0x0040A168


@dataclass(frozen=True, kw_only=True)
class Raw:
    """The elements of a data set or item in Explicit VR Little Endian: tag -> (VR, value). Text is UTF-8."""

    elements: dict[int, tuple[bytes, bytes]]

    def raw(self, tag: int) -> bytes:
        return self.elements[tag][1] if tag in self.elements else b""

    def text(self, tag: int) -> str:
        """The value without padding; "" when absent."""
        return self.raw(tag).decode("utf-8", "replace").rstrip("\0 ")

    def numbers(self, tag: int, kind: str) -> tuple[float, ...]:
        """Binary numbers of a `struct` kind."""
        value = self.raw(tag)
        return struct.unpack(f"<{len(value) // struct.calcsize(kind)}{kind}", value)

    def items(self, tag: int) -> list["Raw"]:
        """The items of a sequence; [] when absent or empty."""
        return [Raw(elements=walk(item, 0, big=False, implicit=False)[0]) for item in item_bytes(self.raw(tag))]

    def code(self, tag: int) -> Code | None:
        """The first item of a code sequence."""
        for item in self.items(tag)[:1]:
            value = item.text(0x00080100) or item.text(0x00080119)
            return Code(value=value, scheme=item.text(0x00080102), meaning=item.text(0x00080104))
        return None

    @cached_property
    def content(self) -> tuple["Raw", ...]:
        """The content items directly below this one."""
        return tuple(self.items(CONTENT))

    @cached_property
    def name(self) -> str:
        """The value of the concept name, "" without one."""
        code = self.code(NAME)
        return code.value if code else ""

    @cached_property
    def kind(self) -> str:
        return self.text(VALUE_TYPE)

    def below(self) -> Iterator["Raw"]:
        """Every content item below this one, depth first."""
        for item in self.content:
            yield item
            yield from item.below()


def item_bytes(value: bytes) -> Iterator[bytes]:
    """The items of a sequence's value. Raises ValueError for items of undefined length, which the writers never make."""
    at = 0
    while at < len(value):
        group, element, length = struct.unpack_from("<HHL", value, at)
        if (group, element) != (0xFFFE, 0xE000) or length == UNDEFINED:
            raise ValueError("a sequence has an item of undefined length")
        yield value[at + 8 : at + 8 + length]
        at += 8 + length


def parsed(body: bytes) -> tuple[Raw, Header]:
    """The data set of a file, and its header (which knows where the pixels are). Raises NotDicomError or struct.error."""
    header = Header.parse(body)
    return Raw(elements=header.elements), header
