"""What kind of thing a path names, from its last segment. As `file.rs` of static-site."""

import re
from enum import Enum
from itertools import pairwise

# Files that are the same for every client. HTML is not among them, nor is what is often
# made for each request (JSON, XML, text).
EXTENSIONS = (
    "css js mjs map wasm woff woff2 ttf otf eot svg png jpg jpeg gif webp avif ico bmp mp3 mp4 "
    "ogg webm pdf"
).split()

GLOB = f"**/*.{{{','.join(EXTENSIONS)}}}"


class Kind(Enum):
    """Its value is the tag."""

    HASHED = "site:asset"
    STATIC = "site:static"
    PAGE = "site:page"

    @classmethod
    def of(cls, path: str) -> "Kind":
        """From the path as sent. Percent-encoded names are no hashes."""
        stem, dot, extension = path.rpartition("/")[2].rpartition(".")
        if not dot or extension not in EXTENSIONS:
            return cls.PAGE
        return cls.HASHED if any(map(is_hash, re.split(r"[.\-_]", stem))) else cls.STATIC


def is_hash(token: str) -> bool:
    """Hexadecimal with a letter and a digit, or base 36 with letters and digits changing at
    least twice; never in mixed case: words, dates and versions must not pass."""
    if not re.fullmatch(r"[0-9A-Za-z]{8,}", token):
        return False
    if re.search("[a-z]", token) and re.search("[A-Z]", token):
        return False
    changes = sum(a.isdigit() != b.isdigit() for a, b in pairwise(token))
    return changes >= (1 if re.fullmatch("[0-9A-Fa-f]+", token) else 2)


def fits(path: str, content_type: str | None) -> bool:
    """Is the Content-Type one that the path's extension promises? Servers answer
    `/account/x.css` with the page of `/account`, which must not be kept as a style sheet."""
    if content_type is None:
        return False
    kind = content_type.split(";")[0].strip().lower()
    group, slash, name = kind.partition("/")
    if not slash:
        group = ""
    match path.rpartition(".")[2]:
        case "css":
            return kind == "text/css"
        case "js" | "mjs":
            return "javascript" in name or "ecmascript" in name
        case "map":
            return "json" in name or name == "octet-stream"
        case "wasm":
            return kind == "application/wasm"
        case "pdf":
            return kind == "application/pdf"
        case "mp3" | "mp4" | "ogg" | "webm":
            return group in ("audio", "video") or name in ("ogg", "octet-stream")
        case "woff" | "woff2" | "ttf" | "otf" | "eot":
            return group == "font" or "font" in name or name == "octet-stream"
        case _:
            return group == "image"
