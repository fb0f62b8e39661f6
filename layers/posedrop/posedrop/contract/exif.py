"""Read the orientation from EXIF. Nothing else in EXIF is needed."""

from typing import Literal

ORIENTATION = 0x0112
_SHORT, _LONG = 3, 4


def read_orientation(exif: bytes) -> int:
    """Return the orientation in EXIF, 1 (upright) to 8, or 1 if there is none.

    `exif` begins with the byte order (CIPA DC-008, 4.5.2; 4.6.4 A for the tag). Invalid EXIF counts as no orientation,
    because decoders then show the picture as it is.
    """
    orders: dict[bytes, Literal["little", "big"]] = {b"II": "little", b"MM": "big"}
    order = orders.get(exif[:2])
    if order is None:
        return 1
    at = int.from_bytes(exif[4:8], order)
    count = int.from_bytes(exif[at : at + 2], order)
    for entry in range(at + 2, min(at + 2 + 12 * count, len(exif) - 11), 12):
        if int.from_bytes(exif[entry : entry + 2], order) == ORIENTATION:
            kind = int.from_bytes(exif[entry + 2 : entry + 4], order)
            size = {_SHORT: 2, _LONG: 4}.get(kind, 0)
            value = int.from_bytes(exif[entry + 8 : entry + 8 + size], order)
            return value if 1 <= value <= 8 else 1
    return 1
