//! What kind of thing a path names, from its last segment.

use weir_sdk::Response;

/// Files that are the same for every client. HTML is not among them, nor is what is often
/// made for each request (JSON, XML, text).
pub(crate) const GLOB: &str = "**/*.{css,js,mjs,map,wasm,woff,woff2,ttf,otf,eot,svg,png,jpg,jpeg,gif,webp,avif,ico,bmp,mp3,mp4,ogg,webm,pdf}";

/// The extensions in [`GLOB`].
const EXTENSIONS: [&str; 24] = [
    "css", "js", "mjs", "map", "wasm", "woff", "woff2", "ttf", "otf", "eot", "svg", "png", "jpg",
    "jpeg", "gif", "webp", "avif", "ico", "bmp", "mp3", "mp4", "ogg", "webm", "pdf",
];

/// The shortest hash that is taken for one.
const SHORTEST_HASH: usize = 8;

/// What a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum File {
    /// A file whose name holds a hash of its content: `app.3f2a1b9c.js`.
    Hashed,
    /// Another file.
    Static,
    /// Everything else.
    Page,
}

impl File {
    /// From the path as sent. Percent-encoded names are no hashes.
    pub(crate) fn of(path: &str) -> Self {
        let name = path.rsplit('/').next().unwrap_or_default();
        let Some((stem, extension)) = name.rsplit_once('.') else {
            return Self::Page;
        };
        if !EXTENSIONS.contains(&extension) {
            return Self::Page;
        }
        if stem.split(['.', '-', '_']).any(is_hash) {
            Self::Hashed
        } else {
            Self::Static
        }
    }
}

/// Is the response of a type that the path's extension promises? Servers answer
/// `/account/x.css` with the page of `/account`, which must not be kept as a style sheet.
pub(crate) fn fits(path: &str, response: &Response) -> bool {
    let Some(kind) = response.header_text("content-type") else {
        return false;
    };
    let kind = kind.split(';').next().unwrap_or_default();
    let kind = kind.trim().to_ascii_lowercase();
    let extension = path.rsplit('.').next().unwrap_or_default();
    let (group, name) = kind.split_once('/').unwrap_or_default();
    match extension {
        "css" => kind == "text/css",
        "js" | "mjs" => name.contains("javascript") || name.contains("ecmascript"),
        "map" => name.contains("json") || name == "octet-stream",
        "wasm" => kind == "application/wasm",
        "pdf" => kind == "application/pdf",
        "mp3" | "mp4" | "ogg" | "webm" => {
            matches!(group, "audio" | "video") || name == "ogg" || name == "octet-stream"
        }
        "woff" | "woff2" | "ttf" | "otf" | "eot" => {
            group == "font" || name.contains("font") || name == "octet-stream"
        }
        _ => group == "image",
    }
}

/// Is it a hash: hexadecimal or base 36, with letters and digits mixed? A wrong yes keeps a
/// changed file for a year, a wrong no costs a request an hour, so words (`datepicker3`),
/// dates (`20240101`) and versions (`bootstrap5`) must not pass: hexadecimal needs a letter
/// and a digit, base 36 letters and digits changing at least twice. Mixed case is none.
fn is_hash(token: &str) -> bool {
    if token.len() < SHORTEST_HASH || !token.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return false;
    }
    let has = |test: fn(&u8) -> bool| token.bytes().any(|byte| test(&byte));
    if has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase) {
        return false;
    }
    let changes = token
        .as_bytes()
        .windows(2)
        .filter(|pair| pair[0].is_ascii_digit() != pair[1].is_ascii_digit())
        .count();
    let hexadecimal = token.bytes().all(|byte| byte.is_ascii_hexdigit());
    changes >= if hexadecimal { 1 } else { 2 }
}

#[cfg(test)]
mod tests {
    use weir_sdk::testing::TestRequest;

    use super::*;

    #[test]
    fn hashed_names_are_told_from_words_dates_and_versions() {
        for hashed in [
            "/app.3f2a1b9c.js",
            "/assets/3f2a1b9c.css",
            "/app-3f2a1b9c.min.js",
            "/app.3f2a1b9c.js.map",
            "/static/js/main.d1e5f0a2b3c4d5e6f7a8.chunk.js",
            "/logo_0a1b2c3d4e5f60718293a4b5c6d7e8f9.svg",
            "/img/k3x9q2zt.webp",
            "/A1B2C3D4.woff2",
        ] {
            assert_eq!(File::of(hashed), File::Hashed, "{hashed}");
        }
        for plain in [
            "/app.js",
            "/bootstrap-datepicker.js",
            "/bootstrap-datepicker3.css",
            "/bootstrap5.css",
            "/photo-20240101.jpg",
            "/jquery-3.7.1.min.js",
            "/DatePickerV2Widget.js",
            "/app.3f2a1b9.js",
            "/3f2a1b9c/app.js",
            "/my%2D3f2a1b9c.js",
        ] {
            assert_eq!(File::of(plain), File::Static, "{plain}");
        }
    }

    #[test]
    fn pages_are_what_is_no_file() {
        for page in [
            "/",
            "",
            "/about",
            "/a.3f2a1b9c/",
            "/index.html",
            "/3f2a1b9c.html",
            "/api.json",
            "/x.",
            "/.js/",
        ] {
            assert_eq!(File::of(page), File::Page, "{page}");
        }
    }

    #[test]
    fn the_glob_and_the_extensions_say_the_same() {
        for extension in EXTENSIONS.into_iter().chain(["html", "json", "jss", "j"]) {
            for name in ["app", "a.b", ""] {
                let path = format!("/deep/{name}.{extension}");
                let request = TestRequest::get(&path);
                let matches = request.view().path_matches(GLOB);
                assert_eq!(matches, File::of(&path) != File::Page, "{path}");
            }
        }
        assert!(TestRequest::get("/app.js").view().path_matches(GLOB));
    }
}
