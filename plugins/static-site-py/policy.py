"""The policy static-site, in Python: the same settings, keys, tags and lifetimes."""

import json

from componentize_py_types import Err
from wit_world.imports.http import (
    Decision_Lookup,
    Decision_Pass,
    Event,
    Lookup,
    Part,
    Pass,
    Request,
    Response,
    Selector,
)

import file
from config import Config
from file import Kind
from freshness import Said

# Milliseconds that an error answer which may be stored is kept at most.
ERROR_LIFETIME = 10_000
# Milliseconds for which nodes remember that a failing origin's answer is not stored.
NOT_STORED_FOR = 1_000
SAFE = ("GET", "HEAD", "OPTIONS", "TRACE", "QUERY")


class Hooks:
    """What the host calls."""

    def configure(self, text: str) -> None:
        global config
        try:
            config = Config.read(text)
        except ValueError as error:
            # Refuses the policy with this text.
            raise Err(str(error)) from None

    # Path, query and variants are named, not read: whatever the size of the site, there are
    # two decisions to remember, one for files and one for pages.
    def on_request(self, request: Request) -> Decision_Lookup | Decision_Pass:
        if request.method() not in ("GET", "HEAD"):
            return Decision_Pass(Pass("method"))
        lookup = Lookup("site")
        lookup.key(Part.path())
        lookup.key(Part.query(config.ignored_query))
        # What no key contains must not reach the origin, which may read more out of it.
        lookup.origin_target([Part.path(), Part.text("?"), Part.query(config.ignored_query)])
        if config.variants and not request.path_matches(file.GLOB):
            for variant in config.variants:
                lookup.key(
                    Part.device() if variant == "device" else Part.language(config.languages)
                )
        lookup.tag([Part.text("site:path:"), Part.path()])
        return Decision_Lookup(lookup)

    # What is read here is not recorded, so the path may be.
    def on_response(self, request: Request, response: Response) -> None:
        status = response.status()
        if status >= 500:
            response.do_not_store(NOT_STORED_FOR)
        elif status >= 400:
            suggested = response.suggested_lifetime()
            if suggested is not None:
                response.set_lifetime(min(suggested, ERROR_LIFETIME))
        elif status == 200 and request.method() in SAFE:
            adjust(request.path(), response)

    def on_event(self, event: Event) -> list[Selector]:
        match event.kind():
            # Hashed assets of the old site are still asked for by pages that are open.
            case "site.deployed":
                selectors = [Selector.tag("site:page"), Selector.tag("site:static")]
                for selector in selectors:
                    selector.soft()
                return selectors
            case "page.updated":
                return [Selector.tag(f"site:path:{text_of(event, 'path')}")]
            case _:
                return []


def adjust(path: str, response: Response) -> None:
    said = Said.by(response)
    kind = Kind.of(path)
    if kind is not Kind.PAGE and not file.fits(path, content_type(response)):
        # A page, and perhaps somebody's own, whatever the client wrote behind its path.
        if said is Said.NOTHING:
            response.do_not_store(NOT_STORED_FOR)
        response.tag("site:page")
        return
    response.tag(kind.value)
    lifetime = None
    if kind is Kind.HASHED:
        # The name changes with the content, so a longer life than the origin says is right;
        # but not against a wish that it be asked each time.
        if said is not Said.ALWAYS:
            lifetime = config.asset_lifetime
    elif said is Said.NOTHING:
        lifetime = config.static_lifetime if kind is Kind.STATIC else config.page_lifetime
        if kind is Kind.PAGE:
            response.set_stale_while_revalidate(config.stale_while_revalidate)
    if lifetime is not None:
        response.set_lifetime(lifetime)
        response.set_stale_if_error(config.stale_if_error)


def content_type(response: Response) -> str | None:
    """The field, if it came once and is UTF-8."""
    lines = response.header("content-type")
    try:
        return lines[0].decode() if len(lines) == 1 else None
    except UnicodeDecodeError:
        return None


def text_of(event: Event, field: str) -> str:
    data = json.loads(event.data())
    value = data.get(field) if isinstance(data, dict) else None
    if isinstance(value, str) and value:
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return json.dumps(value)
    raise Err(
        f'the event {event.kind()} needs "{field}" in its data, a string or a number: '
        f'{{"{field}": …}}'
    )
