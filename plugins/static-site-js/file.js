// What kind of thing a path names, from its last segment. As `file.rs` of static-site.

// Files that are the same for every client. HTML is not among them, nor is what is often
// made for each request (JSON, XML, text).
const EXTENSIONS = [
  "css", "js", "mjs", "map", "wasm", "woff", "woff2", "ttf", "otf", "eot", "svg", "png", "jpg",
  "jpeg", "gif", "webp", "avif", "ico", "bmp", "mp3", "mp4", "ogg", "webm", "pdf",
];

export const GLOB = `**/*.{${EXTENSIONS.join(",")}}`;

export const Hashed = "hashed";
export const Static = "static";
export const Page = "page";

// From the path as sent. Percent-encoded names are no hashes.
export function kindOf(path) {
  const name = path.slice(path.lastIndexOf("/") + 1);
  const dot = name.lastIndexOf(".");
  if (dot < 0 || !EXTENSIONS.includes(name.slice(dot + 1))) return Page;
  return name.slice(0, dot).split(/[.\-_]/).some(isHash) ? Hashed : Static;
}

// Hexadecimal with a letter and a digit, or base 36 with letters and digits changing at
// least twice; never in mixed case: words, dates and versions must not pass.
function isHash(token) {
  if (!/^[0-9A-Za-z]{8,}$/.test(token)) return false;
  if (/[a-z]/.test(token) && /[A-Z]/.test(token)) return false;
  let changes = 0;
  for (let i = 1; i < token.length; i++) {
    if (isDigit(token[i - 1]) !== isDigit(token[i])) changes++;
  }
  return changes >= (/^[0-9A-Fa-f]+$/.test(token) ? 1 : 2);
}

const isDigit = (char) => char >= "0" && char <= "9";

// Is the Content-Type one that the path's extension promises? Servers answer
// `/account/x.css` with the page of `/account`, which must not be kept as a style sheet.
export function fits(path, contentType) {
  if (contentType === undefined) return false;
  const kind = contentType.split(";")[0].trim().toLowerCase();
  const slash = kind.indexOf("/");
  const group = slash < 0 ? "" : kind.slice(0, slash);
  const name = slash < 0 ? "" : kind.slice(slash + 1);
  switch (path.slice(path.lastIndexOf(".") + 1)) {
    case "css":
      return kind === "text/css";
    case "js":
    case "mjs":
      return name.includes("javascript") || name.includes("ecmascript");
    case "map":
      return name.includes("json") || name === "octet-stream";
    case "wasm":
      return kind === "application/wasm";
    case "pdf":
      return kind === "application/pdf";
    case "mp3":
    case "mp4":
    case "ogg":
    case "webm":
      return group === "audio" || group === "video" || name === "ogg" || name === "octet-stream";
    case "woff":
    case "woff2":
    case "ttf":
    case "otf":
    case "eot":
      return group === "font" || name.includes("font") || name === "octet-stream";
    default:
      return group === "image";
  }
}
