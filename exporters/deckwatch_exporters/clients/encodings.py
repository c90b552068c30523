"""The encodings of PostgreSQL databases (https://www.postgresql.org/docs/current/multibyte.html)."""

from __future__ import annotations

#: Python's codecs by PostgreSQL's names: encodings of one byte per character, and of several.
_ONE_BYTE_CODECS = {
    **{f"LATIN{n}": f"iso8859-{part}" for n, part in enumerate((1, 2, 3, 4, 9, 10, 13, 14, 15, 16), 1)},
    **{f"ISO_8859_{part}": f"iso8859-{part}" for part in (5, 6, 7, 8)},
    **{f"WIN{page}": f"cp{page}" for page in (866, 874, *range(1250, 1259))},
    "KOI8R": "koi8-r",
    "KOI8U": "koi8-u",
}
_SEVERAL_BYTES_CODECS = {
    "EUC_JP": "euc_jp", "EUC_JIS_2004": "euc_jis_2004", "EUC_CN": "gb2312", "EUC_KR": "euc_kr",
}  # fmt: skip


def codec_of(encoding: str) -> str:
    """Python's codec for an encoding of PostgreSQL; UTF-8 for SQL_ASCII, which has none."""
    return _ONE_BYTE_CODECS.get(encoding) or _SEVERAL_BYTES_CODECS.get(encoding, "utf-8")


def as_utf8(value: bytes | None, codec: str) -> bytes | None:
    """Text of a database that is not in UTF8.

    The names of databases and roles are shared: each is in the encoding of the database that it was created from. Text
    that is valid UTF-8 is hardly ever anything else in an encoding of one byte per character.
    """
    if value is None or value.isascii():
        return value
    codecs = (codec, "utf-8") if codec in _SEVERAL_BYTES_CODECS.values() else ("utf-8", codec)
    for candidate in codecs:
        try:
            return value.decode(candidate).encode()
        except UnicodeDecodeError:
            continue
    return value
