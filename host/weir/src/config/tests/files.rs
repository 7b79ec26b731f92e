use std::fs;

use super::super::errors::Problem;
use super::*;

const POLICY: &str = "policy = \"p\"
[policies.p]
component = \"p.wasm\"
namespaces = [\"p\"]
[admin]
token_file = \"token\"
[redis]
url = \"redis://h\"
password_file = \"password\"
";

/// The lines of all errors after the file's name, and the folder replaced.
fn load(folder: &tempfile::TempDir) -> Result<Config, Vec<String>> {
    Config::load(&folder.path().join("weir.toml")).map_err(|errors| {
        let folder = folder.path().display().to_string();
        let first = |problem: &Problem| problem.to_string().lines().next().unwrap().to_owned();
        errors
            .problems()
            .iter()
            .map(|problem| first(problem).replace(&folder, "DIR"))
            .collect()
    })
}

#[test]
fn files_that_it_names_are_relative_to_it_and_must_be_there() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    file("weir.toml", &format!("{MINIMAL}{POLICY}"));
    file("token", " \n");
    fs::create_dir(folder.path().join("password")).unwrap();
    assert_eq!(
        load(&folder).unwrap_err(),
        [
            "DIR/weir.toml:8:13: policies.p.component: the component DIR/p.wasm cannot be read: No such file or directory (os error 2)",
            "DIR/weir.toml:11:14: admin.token_file: no token can be taken from DIR/token: the file is empty",
            "DIR/weir.toml:14:17: redis.password_file: no password can be taken from DIR/password: the file cannot be read: it is not a regular file",
        ]
    );
    file("token", "two words\n");
    let errors = load(&folder).unwrap_err();
    assert!(
        errors[1].ends_with("the file is not one line of visible ASCII characters without blanks")
    );

    file("token", "s3cret\n");
    fs::remove_dir(folder.path().join("password")).unwrap();
    file("password", "hunter2\n");
    file("p.wasm", "");
    let config = load(&folder).unwrap();
    assert_eq!(
        config.policies["p"].component,
        Component::File(folder.path().join("p.wasm"))
    );
    assert_eq!(
        config.admin.unwrap().token().unwrap().unwrap().expose(),
        "s3cret"
    );
    assert_eq!(
        config.redis.unwrap().password().unwrap().unwrap().expose(),
        "hunter2"
    );
}

#[test]
fn a_file_that_is_no_configuration_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(
        load(&folder).unwrap_err(),
        ["DIR/weir.toml: the file cannot be read: No such file or directory (os error 2)"]
    );
    fs::write(folder.path().join("weir.toml"), b"a = 1\nb = \"\xff\"").unwrap();
    assert_eq!(
        load(&folder).unwrap_err(),
        ["DIR/weir.toml:2:6: the file is not UTF-8 text"]
    );
    fs::write(folder.path().join("weir.toml"), vec![b'\n'; 5 << 20]).unwrap();
    assert_eq!(
        load(&folder).unwrap_err(),
        ["DIR/weir.toml: the file is larger than 4 MiB"]
    );
}
