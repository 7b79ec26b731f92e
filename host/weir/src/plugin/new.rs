//! `weir plugin new`: the crate of a policy to start from.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The SDK of the checkout that this binary was built from.
const SDK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../plugins/sdk");

/// Makes in `dir` the crate of a small policy, with tests and cases, named after the folder. It depends
/// on the SDK at the path `sdk`; by default on that of the checkout this binary was built
/// from.
///
/// # Errors
/// When `dir` holds something already, its name cannot be a crate's, or there is no SDK.
pub(crate) fn scaffold(dir: &Path, sdk: Option<&Path>) -> Result<()> {
    let name = crate_name(dir)?;
    let sdk = find_sdk(sdk)?;
    if std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) {
        bail!(
            "{} is not empty; nothing was written. Name a new folder",
            dir.display()
        );
    }
    // A JSON string without escapes other than JSON's is a TOML basic string too.
    let sdk = serde_json::to_string(&sdk.to_string_lossy()).context("writing the SDK's path")?;
    let fill = |template: &str| {
        template
            .replace("{{name}}", &name)
            .replace("{{sdk}}", &sdk)
            .replace("{{type}}", &type_name(&name))
    };
    for (file, template) in [
        ("Cargo.toml", include_str!("template/Cargo.toml.txt")),
        ("src/lib.rs", include_str!("template/lib.rs.txt")),
        ("cases.toml", include_str!("template/cases.toml.txt")),
        ("README.md", include_str!("template/README.md.txt")),
        (".gitignore", "/target\n"),
    ] {
        let path = dir.join(file);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)
                .with_context(|| format!("making {}", parent.display()))?;
        }
        std::fs::write(&path, fill(template))
            .with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// The folder's name, which must do as a crate's.
fn crate_name(dir: &Path) -> Result<String> {
    let absolute =
        std::path::absolute(dir).with_context(|| format!("finding {}", dir.display()))?;
    let name = absolute
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let good = name.starts_with(|first: char| first.is_ascii_lowercase())
        && name
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
        && name.len() <= 64;
    if !good {
        bail!(
            "the policy is named after its folder, and \"{name}\" cannot be a crate's name: use \
             lower-case letters, digits, `-` and `_`, beginning with a letter, at most 64"
        );
    }
    Ok(name)
}

/// `my-policy` becomes `MyPolicy`.
fn type_name(name: &str) -> String {
    name.split(['-', '_'])
        .filter(|word| !word.is_empty())
        .map(|word| {
            let (first, rest) = word.split_at(1);
            first.to_ascii_uppercase() + rest
        })
        .collect()
}

fn find_sdk(given: Option<&Path>) -> Result<PathBuf> {
    let sdk = given.unwrap_or(Path::new(SDK));
    let found = sdk
        .canonicalize()
        .ok()
        .filter(|sdk| sdk.join("Cargo.toml").is_file());
    match (found, given) {
        (Some(sdk), _) => Ok(sdk),
        (None, Some(sdk)) => bail!(
            "{} is not the weir-sdk crate (it has no Cargo.toml): --sdk names the folder \
             plugins/sdk of a checkout of Weir",
            sdk.display()
        ),
        (None, None) => bail!(
            "the checkout that this weir was built from is gone ({SDK}). Name the folder \
             plugins/sdk of a checkout of Weir with --sdk"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scaffold_is_named_after_its_folder_and_depends_on_the_sdk() {
        let parent = tempfile::tempdir().expect("a folder");
        let dir = parent.path().join("my-policy");
        scaffold(&dir, None).expect("made");
        let manifest = std::fs::read_to_string(dir.join("Cargo.toml")).expect("manifest");
        assert!(manifest.contains("name = \"my-policy\""), "{manifest}");
        let sdk = Path::new(SDK).canonicalize().expect("the SDK");
        assert!(
            manifest.contains(&format!("path = \"{}\"", sdk.display())),
            "{manifest}"
        );
        let library = std::fs::read_to_string(dir.join("src/lib.rs")).expect("library");
        assert!(
            library.contains("weir_sdk::export!(MyPolicy);"),
            "{library}"
        );
        for file in ["Cargo.toml", "src/lib.rs", "cases.toml", "README.md"] {
            let text = std::fs::read_to_string(dir.join(file)).expect(file);
            assert!(!text.contains("{{"), "{file} has a gap left: {text}");
        }
        assert!(dir.join(".gitignore").is_file());
    }

    #[test]
    fn what_is_there_is_left_alone() {
        let dir = tempfile::tempdir().expect("a folder");
        let dir = dir.path().join("taken");
        std::fs::create_dir(&dir).expect("a folder");
        std::fs::write(dir.join("notes.txt"), "mine").expect("a file");
        let error = scaffold(&dir, None).expect_err("refused");
        assert!(error.to_string().contains("is not empty"), "{error}");
        assert!(!dir.join("Cargo.toml").exists());
    }

    #[test]
    fn a_name_that_no_crate_can_have_is_refused() {
        for name in ["9lives", "Capital", "sp ace", "ünder"] {
            let error = scaffold(&Path::new("/nonexistent").join(name), None).expect_err(name);
            assert!(error.to_string().contains(name), "{error}");
        }
    }

    #[test]
    fn a_folder_that_is_not_the_sdk_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let error = scaffold(&dir.path().join("new"), Some(dir.path())).expect_err("refused");
        assert!(error.to_string().contains("--sdk"), "{error}");
    }
}
