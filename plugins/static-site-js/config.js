// The policy's settings, read from the `config` table.

const SECOND = 1_000;
const DAY = 24 * 3_600 * SECOND;

const DEFAULTS = {
  variants: [],
  languages: [],
  asset_lifetime: 365 * DAY,
  static_lifetime: 3_600 * SECOND,
  page_lifetime: 60 * SECOND,
  stale_while_revalidate: 300 * SECOND,
  stale_if_error: DAY,
  // Marks that advertising and mail services add to links.
  ignored_query: [
    "utm_*", "fbclid", "gclid", "gclsrc", "gbraid", "wbraid", "dclid", "msclkid", "mc_cid",
    "mc_eid", "igshid", "twclid", "ttclid", "yclid", "li_fat_id", "_ga", "_gl",
  ],
};

const LISTS = ["variants", "languages", "ignored_query"];

// What is thrown as text refuses the policy with that text; an Error would be a failure of
// the policy itself.
export function readConfig(text) {
  const given = JSON.parse(text);
  const config = { ...DEFAULTS };
  for (const [key, value] of Object.entries(given)) {
    if (!(key in DEFAULTS)) {
      throw `unknown setting ${key}: there are ${Object.keys(DEFAULTS).join(", ")}`;
    }
    config[key] = LISTS.includes(key) ? texts(key, value) : span(key, value);
  }
  check(config);
  return config;
}

function texts(key, value) {
  if (!Array.isArray(value) || !value.every((item) => typeof item === "string")) {
    throw `${key} must be a list of texts`;
  }
  return value;
}

const UNITS = {
  ms: 1, s: SECOND, m: 60 * SECOND, h: 3_600 * SECOND, d: DAY, w: 7 * DAY, y: 365 * DAY,
};

// "1h30m" in milliseconds.
function span(key, value) {
  const hint = `${key}: ${JSON.stringify(value)} is not a length of time with its unit, such as "30s", "5m" or "24h"`;
  if (typeof value !== "string" || !/^\s*(\d+(ms|[smhdwy]))+\s*$/.test(value)) throw hint;
  let total = 0;
  for (const [, number, unit] of value.matchAll(/(\d+)(ms|[smhdwy])/g)) {
    total += Number(number) * UNITS[unit];
  }
  if (total > 100 * 365 * DAY) throw hint;
  return total;
}

function check(config) {
  for (const variant of config.variants) {
    if (variant !== "device" && variant !== "language") {
      throw `variants: "${variant}" is neither "device" nor "language"`;
    }
  }
  const byLanguage = config.variants.includes("language");
  if (byLanguage && config.languages.length === 0) {
    throw 'variants has "language", but languages is empty: name the site\'s languages, like languages = ["en", "de"]';
  }
  if (!byLanguage && config.languages.length > 0) {
    throw 'languages is set, but variants lacks "language": pages would not differ by it';
  }
  const empty = config.languages.indexOf("");
  if (empty >= 0) throw `languages[${empty}] is empty`;
}
