use serde_json::json;

use super::*;

fn silent(_: &str) {}

fn refused(dir: &Path) -> String {
    format!("{:#}", build(dir, None, &silent).expect_err("refused"))
}

fn package(dir: &Path, manifest: &str, library: &str) {
    std::fs::create_dir_all(dir.join("src")).expect("src");
    std::fs::write(dir.join("Cargo.toml"), manifest).expect("manifest");
    std::fs::write(dir.join("src/lib.rs"), library).expect("library");
}

#[test]
fn a_folder_without_a_manifest_is_refused_with_a_hint() {
    let dir = tempfile::tempdir().expect("a folder");
    let error = refused(dir.path());
    assert!(
        error.contains("has no Cargo.toml") && error.contains("weir plugin new"),
        "{error}"
    );
    let error = refused(&dir.path().join("absent"));
    assert!(error.contains("is not a directory"), "{error}");
}

#[test]
fn a_broken_manifest_is_shown_as_cargo_sees_it() {
    let dir = tempfile::tempdir().expect("a folder");
    package(dir.path(), "[package]\nname = \n", "");
    let error = refused(dir.path());
    assert!(error.contains("cargo does not understand"), "{error}");
    assert!(error.contains("name ="), "{error}");
}

#[test]
fn a_library_that_is_no_cdylib_is_refused_with_the_lines_to_add() {
    let dir = tempfile::tempdir().expect("a folder");
    let manifest =
        "[package]\nname = \"plain\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n";
    package(dir.path(), manifest, "");
    let error = refused(dir.path());
    assert!(
        error.contains("crate-type = [\"cdylib\", \"rlib\"]"),
        "{error}"
    );
}

#[test]
fn a_workspace_without_a_package_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    package(dir.path(), "[workspace]\nresolver = \"3\"\n", "");
    let error = refused(dir.path());
    assert!(error.contains("workspace without a package"), "{error}");
}

#[test]
fn the_module_is_that_of_the_package_itself() {
    let lines = [
        json!({"reason": "compiler-artifact", "package_id": "dep", "filenames": ["/t/dep.wasm"]}),
        json!({"reason": "compiler-artifact", "package_id": "mine", "filenames": ["/t/libmine.rlib", "/t/mine.wasm"]}),
        json!({"reason": "build-finished", "success": true}),
    ];
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let text = format!("not json\n{text}");
    assert_eq!(
        artifact(text.as_bytes(), "mine"),
        Some(PathBuf::from("/t/mine.wasm"))
    );
    assert_eq!(artifact(text.as_bytes(), "other"), None);
}

#[test]
fn a_component_replaces_the_old_one_whole() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("deep/er/policy.wasm");
    write_atomically(&path, b"one").expect("written");
    write_atomically(&path, b"two").expect("written again");
    assert_eq!(std::fs::read(&path).expect("there"), b"two");
    let left: Vec<_> = std::fs::read_dir(path.parent().expect("parent"))
        .expect("list")
        .collect();
    assert_eq!(left.len(), 1, "no temporary file is left: {left:?}");
}

#[test]
fn a_module_that_exports_no_hooks_is_no_policy() {
    // The empty module.
    let error = componentize(b"\0asm\x01\0\0\0").expect_err("no policy");
    assert!(error.to_string().contains("weir_sdk::export!"), "{error:#}");
}
