// The policy static-site, in JavaScript: the same settings, keys, tags and lifetimes.

import { Lookup, Part, Pass, Selector } from "weir:policy/http@1.0.0";
import { readConfig } from "./config.js";
import { GLOB, Hashed, Page, Static, fits, kindOf } from "./file.js";
import { Always, NotSaid, freshness } from "./freshness.js";

// Milliseconds that an error answer which may be stored is kept at most.
const ERROR_LIFETIME = 10_000n;
// Milliseconds for which nodes remember that a failing origin's answer is not stored.
const NOT_STORED_FOR = 1_000n;
const SAFE = ["GET", "HEAD", "OPTIONS", "TRACE", "QUERY"];

let config;

export const hooks = {
  configure(text) {
    config = readConfig(text);
  },

  // Path, query and variants are named, not read: whatever the size of the site, there are
  // two decisions to remember, one for files and one for pages.
  onRequest(request) {
    const method = request.method();
    if (method !== "GET" && method !== "HEAD") {
      return { tag: "pass", val: new Pass("method") };
    }
    const lookup = new Lookup("site");
    lookup.key(Part.path());
    lookup.key(Part.query(config.ignored_query));
    // What no key contains must not reach the origin, which may read more out of it.
    lookup.originTarget([Part.path(), Part.text("?"), Part.query(config.ignored_query)]);
    if (config.variants.length > 0 && !request.pathMatches(GLOB)) {
      for (const variant of config.variants) {
        lookup.key(variant === "device" ? Part.device() : Part.language(config.languages));
      }
    }
    lookup.tag([Part.text("site:path:"), Part.path()]);
    return { tag: "lookup", val: lookup };
  },

  // What is read here is not recorded, so the path may be.
  onResponse(request, response) {
    const status = response.status();
    if (status >= 500) {
      response.doNotStore(NOT_STORED_FOR);
    } else if (status >= 400) {
      const suggested = response.suggestedLifetime();
      if (suggested !== undefined) {
        response.setLifetime(suggested < ERROR_LIFETIME ? suggested : ERROR_LIFETIME);
      }
    } else if (status === 200 && SAFE.includes(request.method())) {
      adjust(request.path(), response);
    }
  },

  onEvent(event) {
    switch (event.kind()) {
      // Hashed assets of the old site are still asked for by pages that are open.
      case "site.deployed":
        return ["site:page", "site:static"].map((tag) => {
          const selector = Selector.tag(tag);
          selector.soft();
          return selector;
        });
      case "page.updated":
        return [Selector.tag(`site:path:${textOf(event, "path")}`)];
      default:
        return [];
    }
  },
};

function adjust(path, response) {
  const said = freshness(response);
  const kind = kindOf(path);
  if (kind !== Page && !fits(path, contentType(response))) {
    // A page, and perhaps somebody's own, whatever the client wrote behind its path.
    if (said === NotSaid) response.doNotStore(NOT_STORED_FOR);
    response.tag("site:page");
    return;
  }
  response.tag({ [Hashed]: "site:asset", [Static]: "site:static", [Page]: "site:page" }[kind]);
  let lifetime;
  if (kind === Hashed) {
    // The name changes with the content, so a longer life than the origin says is right;
    // but not against a wish that it be asked each time.
    if (said !== Always) lifetime = config.asset_lifetime;
  } else if (said === NotSaid) {
    lifetime = kind === Static ? config.static_lifetime : config.page_lifetime;
    if (kind === Page) response.setStaleWhileRevalidate(BigInt(config.stale_while_revalidate));
  }
  if (lifetime !== undefined) {
    response.setLifetime(BigInt(lifetime));
    response.setStaleIfError(BigInt(config.stale_if_error));
  }
}

// The field, if it came once and is UTF-8.
function contentType(response) {
  const lines = response.header("content-type");
  if (lines.length !== 1) return undefined;
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(lines[0]);
  } catch {
    return undefined;
  }
}

function textOf(event, field) {
  const value = JSON.parse(event.data())?.[field];
  if (typeof value === "string" && value !== "") return value;
  if (typeof value === "number") return String(value);
  throw `the event ${event.kind()} needs "${field}" in its data, a string or a number: {"${field}": …}`;
}
