//! The policies that tests load, built from source.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::artifact;

/// The compiled components.
#[derive(Debug)]
pub struct Guests {
    dir: PathBuf,
}

/// The folders under `plugins/` that are built.
const BUILT: [&str; 5] = ["charity", "static-site", "graphql", "misbehaving", "probe"];

impl Guests {
    /// The reference policy of the charity system.
    pub fn charity(&self) -> PathBuf {
        self.dir.join("charity.wasm")
    }

    /// The policy for static sites.
    pub fn static_site(&self) -> PathBuf {
        self.dir.join("static-site.wasm")
    }

    /// The policy for queries in a request's content.
    pub fn graphql(&self) -> PathBuf {
        self.dir.join("graphql.wasm")
    }

    /// The policy whose settings say what it reads, keys and changes.
    pub fn probe(&self) -> PathBuf {
        self.dir.join("probe.wasm")
    }

    /// The policy that does, on request, everything a policy must not.
    pub fn misbehaving(&self) -> PathBuf {
        self.dir.join("misbehaving.wasm")
    }
}

/// Builds the guests through `weir plugin build` into `<target>/guests`, unless they are
/// there already from the same sources and the same binary. Test processes take turns.
pub fn guests() -> &'static Guests {
    static GUESTS: OnceLock<Guests> = OnceLock::new();
    GUESTS.get_or_init(|| {
        let weir = artifact::weir_binary();
        let dir = artifact::target_dir().join("guests");
        std::fs::create_dir_all(&dir).expect("a directory for guests");
        let _lock = artifact::lock("guests/.lock");
        let stamp = dir.join(".stamp");
        let wanted = fingerprint(weir);
        if std::fs::read_to_string(&stamp).ok().as_deref() != Some(wanted.as_str()) {
            for name in BUILT {
                let policy = artifact::workspace().join("plugins").join(name);
                build(weir, &policy, &dir.join(format!("{name}.wasm")));
            }
            std::fs::write(&stamp, wanted).expect("the stamp of the guests");
        }
        Guests { dir }
    })
}

/// `static-site` in another language: `plugins/NAME`, built through `weir plugin build` into
/// `<target>/guests` from a copy, so that what its tools install stays out of the sources.
/// Once for the same sources.
pub fn scripted(name: &str) -> PathBuf {
    let dir = artifact::target_dir().join("guests").join(name);
    std::fs::create_dir_all(&dir).expect("a directory for a guest");
    let _lock = artifact::lock(&format!("guests/{name}/.lock"));
    let component = dir.join("component.wasm");
    let mut files = Vec::new();
    collect(
        &artifact::workspace().join("plugins").join(name),
        &mut files,
    );
    collect(&artifact::workspace().join("wit"), &mut files);
    files.sort();
    let content = files
        .iter()
        .map(|file| std::fs::read(file).expect("a source"));
    // Also of what builds it.
    let builder = include_bytes!("../../host/weir/src/plugin/build/script.rs");
    let wanted: Vec<u8> = content.flatten().chain(builder.iter().copied()).collect();
    let stamp = dir.join(".stamp");
    if component.exists() && std::fs::read(&stamp).ok().as_ref() == Some(&wanted) {
        return component;
    }
    for file in &files {
        let name = file.file_name().expect("a name");
        std::fs::copy(file, dir.join(name)).expect("a copy");
    }
    build(artifact::weir_binary(), &dir, &component);
    std::fs::write(&stamp, wanted).expect("the stamp of a guest");
    component
}

fn build(weir: &Path, policy: &Path, component: &Path) {
    let output = Command::new(weir)
        .args(["plugin", "build"])
        .arg(policy)
        .arg("-o")
        .arg(component)
        // Set by `cargo test` for this process; a build of another package must not inherit it.
        .env_remove("CARGO_MANIFEST_DIR")
        .output()
        .expect("running weir plugin build");
    assert!(
        output.status.success(),
        "weir plugin build {} failed:\n{}{}",
        policy.display(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Path, size and time of everything that the components are made of.
fn fingerprint(weir: &Path) -> String {
    let mut files = vec![weir.to_owned()];
    let root = artifact::workspace();
    collect(&root.join("plugins"), &mut files);
    collect(&root.join("wit"), &mut files);
    files.sort();
    let mut text = String::new();
    for file in files {
        let Ok(facts) = file.metadata() else { continue };
        let time = facts.modified().ok();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{} {} {time:?}", file.display(), facts.len());
    }
    text
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let built = ["target", "node_modules"].map(OsStr::new);
        if !path.is_dir() {
            files.push(path);
        } else if !path.file_name().is_some_and(|name| built.contains(&name)) {
            collect(&path, files);
        }
    }
}
