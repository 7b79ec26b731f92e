//! Where things that cargo built lie, and building the one that tests cannot be without.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The root of the workspace.
pub fn workspace() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("tests/ lies in the workspace").into()
}

/// `<target>/<profile>`, found from the running test's own executable
/// (`<target>/<profile>/deps/name-hash`), so that CARGO_TARGET_DIR needs no guessing.
pub fn profile_dir() -> PathBuf {
    let exe = std::env::current_exe().expect("the path of this executable");
    let deps = exe.parent().expect("an executable lies in a directory");
    let dir = if deps.ends_with("deps") {
        deps.parent().unwrap_or(deps)
    } else {
        deps
    };
    dir.to_owned()
}

/// `<target>`.
pub fn target_dir() -> PathBuf {
    let profile = profile_dir();
    profile.parent().unwrap_or(&profile).to_owned()
}

/// Holds an exclusive lock on `<target>/name` until the file is dropped. The kernel lets
/// go of it when the process dies.
pub fn lock(name: &str) -> File {
    let path = target_dir().join(name);
    let file = File::create(&path).expect("a lock file in the target directory");
    file.lock().expect("a lock in the target directory");
    file
}

/// The binary under test: `$WEIR_BIN`, or the workspace's own, which cargo brings up to
/// date once in each test process so that no test judges yesterday's code.
pub fn weir_binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(given) = std::env::var_os("WEIR_BIN") {
            let given = PathBuf::from(given);
            assert!(
                given.is_file(),
                "WEIR_BIN names {}, which is no file",
                given.display()
            );
            return given;
        }
        build_weir()
    })
}

fn build_weir() -> PathBuf {
    let _lock = lock(".weir-tests-build.lock");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["build", "--quiet", "-p", "weir", "--target-dir"])
        .arg(target_dir())
        .current_dir(workspace());
    if profile_dir().ends_with("release") {
        command.arg("--release");
    }
    let output = command.output().expect("running cargo build -p weir");
    assert!(
        output.status.success(),
        "cargo build -p weir failed:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    profile_dir().join(format!("weir{}", std::env::consts::EXE_SUFFIX))
}
