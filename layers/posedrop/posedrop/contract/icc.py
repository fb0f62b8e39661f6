"""Find out whether a colour profile is sRGB, from its primaries and its tone curve. Its name does not matter."""

import struct

PRIMARIES = {b"rXYZ": (0.4361, 0.2225, 0.0139), b"gXYZ": (0.3851, 0.7169, 0.0971), b"bXYZ": (0.1431, 0.0606, 0.7141)}
"""The primaries of sRGB, adapted to D50 as in every profile (IEC 61966-2-1; ICC.1:2022, annex E)."""
CURVES = {"RGB ": (b"rTRC", b"gTRC", b"bTRC"), "GRAY": (b"kTRC",)}
NEAR = 0.003
"""The allowed difference of a primary's coordinate: sRGB profiles are rounded differently."""
HALF, NEAR_HALF = 0.2140, 0.006
"""The linear light of sRGB's middle value, and the largest difference from it that nobody can see."""
MOST_TAGS = 100


def is_srgb(profile: bytes) -> bool:
    """Return whether colours look the same without the profile. A broken profile counts as not sRGB."""
    try:
        space = profile[16:20].decode("latin-1")
        tags = _tags(profile)
        primaries = PRIMARIES.items() if space == "RGB " else ()
        return (
            space in CURVES
            and not any(tag.startswith(b"A2B") for tag in tags)
            and all(_is_near(_xyz(tags[tag]), wanted) for tag, wanted in primaries)
            and all(abs(_middle(tags[tag]) - HALF) < NEAR_HALF for tag in CURVES[space])
        )
    except (ArithmeticError, LookupError, TypeError, ValueError, struct.error):  # TypeError: a power of a negative
        return False


def _tags(profile: bytes) -> dict[bytes, bytes]:
    """Return the tags of a profile (ICC.1:2022, 7.3)."""
    (count,) = struct.unpack(">I", profile[128:132])
    found = {}
    for number in range(min(count, MOST_TAGS)):
        name, at, size = struct.unpack(">4sII", profile[132 + 12 * number : 144 + 12 * number])
        found[name] = profile[at : at + size]
    return found


def _is_near(found: tuple[float, ...], wanted: tuple[float, ...]) -> bool:
    return all(abs(one - other) < NEAR for one, other in zip(found, wanted, strict=True))


def _xyz(tag: bytes) -> tuple[float, ...]:
    if tag[:4] != b"XYZ ":
        raise ValueError("no XYZ")
    return tuple(_fixed(tag[8:20]))


def _middle(tag: bytes) -> float:
    """Return the middle value of a tone curve (ICC.1:2022, 10.6 and 10.18)."""
    if tag[:4] == b"curv":
        (count,) = struct.unpack(">I", tag[8:12])
        if count == 0:
            return 0.5
        if count == 1:
            return float(0.5 ** (struct.unpack(">H", tag[12:14])[0] / 256))
        values: tuple[int, ...] = struct.unpack(f">{count}H", tag[12 : 12 + 2 * count])
        place = (count - 1) / 2
        return (values[int(place)] + values[int(place + 0.5)]) / 2 / 65535
    if tag[:4] != b"para":
        raise ValueError("no curve")
    (kind,) = struct.unpack(">H", tag[8:10])
    gamma, *rest = _fixed(tag[12 : 12 + 4 * (1, 3, 4, 5, 7)[kind]])
    a, b = [*rest, 1.0, 0.0][:2] if kind else (1.0, 0.0)
    offset = {2: 2, 4: 4}.get(kind)
    return float((a * 0.5 + b) ** gamma + (rest[offset] if offset is not None else 0.0))


def _fixed(data: bytes) -> list[float]:
    """Decode fixed-point numbers of 16.16 bits."""
    return [value / 65536 for value in struct.unpack(f">{len(data) // 4}i", data)]
