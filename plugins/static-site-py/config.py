"""The policy's settings, read from the `config` table."""

import json
import re
from dataclasses import dataclass, field, fields

SECOND = 1_000
DAY = 24 * 3_600 * SECOND

# Marks that advertising and mail services add to links.
TRACKING = (
    "utm_* fbclid gclid gclsrc gbraid wbraid dclid msclkid mc_cid mc_eid igshid twclid ttclid "
    "yclid li_fat_id _ga _gl"
).split()

UNITS = {
    "ms": 1,
    "s": SECOND,
    "m": 60 * SECOND,
    "h": 3_600 * SECOND,
    "d": DAY,
    "w": 7 * DAY,
    "y": 365 * DAY,
}


@dataclass
class Config:
    """Lengths of time are in milliseconds here, and texts like "5m" in the table."""

    variants: list[str] = field(default_factory=list)
    languages: list[str] = field(default_factory=list)
    asset_lifetime: int = 365 * DAY
    static_lifetime: int = 3_600 * SECOND
    page_lifetime: int = 60 * SECOND
    stale_while_revalidate: int = 300 * SECOND
    stale_if_error: int = DAY
    ignored_query: list[str] = field(default_factory=TRACKING.copy)

    @classmethod
    def read(cls, text: str) -> "Config":
        """A ValueError says what cannot be meant."""
        config = cls()
        known = [setting.name for setting in fields(cls)]
        for key, value in json.loads(text).items():
            if key not in known:
                raise ValueError(f"unknown setting {key}: there are {', '.join(known)}")
            is_list = isinstance(getattr(config, key), list)
            setattr(config, key, texts(key, value) if is_list else span(key, value))
        config.check()
        return config

    def check(self) -> None:
        for variant in self.variants:
            if variant not in ("device", "language"):
                raise ValueError(f'variants: "{variant}" is neither "device" nor "language"')
        by_language = "language" in self.variants
        if by_language and not self.languages:
            raise ValueError(
                'variants has "language", but languages is empty: name the site\'s languages, '
                'like languages = ["en", "de"]'
            )
        if self.languages and not by_language:
            raise ValueError(
                'languages is set, but variants lacks "language": pages would not differ by it'
            )
        if "" in self.languages:
            raise ValueError(f"languages[{self.languages.index('')}] is empty")


def texts(key: str, value: object) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"{key} must be a list of texts")
    return value


def span(key: str, value: object) -> int:
    """ "1h30m" in milliseconds."""
    parts = r"([0-9]+)(ms|[smhdwy])"
    total = 100 * 365 * DAY + 1
    if isinstance(value, str) and re.fullmatch(rf"\s*({parts})+\s*", value):
        total = sum(int(number) * UNITS[unit] for number, unit in re.findall(parts, value))
    if total > 100 * 365 * DAY:
        raise ValueError(
            f"{key}: {json.dumps(value)} is not a length of time with its unit, such as "
            '"30s", "5m" or "24h"'
        )
    return total
