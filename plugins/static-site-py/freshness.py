"""What the origin itself says about freshness. RFC 9111 sections 4.2.1 and 5.2.2."""

from enum import Enum

from wit_world.imports.http import Response


class Said(Enum):
    # A lifetime is the policy's to choose.
    NOTHING = 0
    LIFETIME = 1
    # It is to be asked each time, or not to be stored.
    ALWAYS = 2

    @classmethod
    def by(cls, response: Response) -> "Said":
        said = cls.LIFETIME if response.header("expires") else cls.NOTHING
        for field in ("cdn-cache-control", "cache-control"):
            for line in response.header(field):
                for directive in line.split(b","):
                    match directive.split(b"=")[0].strip().lower():
                        case b"no-cache" | b"no-store" | b"private":
                            return cls.ALWAYS
                        case b"max-age" | b"s-maxage":
                            said = cls.LIFETIME
        return said
