//! Every input that a fuzzer kept runs without a finding, and every target has inputs.

use std::path::Path;

use weir_fuzz::TARGETS;

#[test]
fn every_target_is_built_by_the_fuzzer() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("libfuzzer");
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let files = std::fs::read_dir(root.join("fuzz_targets")).unwrap();
    assert_eq!(files.count(), TARGETS.len(), "a file without a target");
    for (name, _) in TARGETS {
        let path = format!("path = \"fuzz_targets/{name}.rs\"");
        assert!(manifest.contains(&path), "{name} is not in its Cargo.toml");
        let source = std::fs::read_to_string(root.join(format!("fuzz_targets/{name}.rs")));
        assert!(
            source
                .unwrap()
                .contains(&format!("weir_fuzz::{name}(data)"))
        );
    }
}

#[test]
fn the_corpus_holds() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (name, run) in TARGETS {
        let inputs = std::fs::read_dir(root.join("corpus").join(name)).unwrap();
        let mut count = 0;
        for input in inputs {
            let path = input.unwrap().path();
            println!("{}", path.display());
            run(&std::fs::read(path).unwrap());
            count += 1;
        }
        assert!(count > 0, "no inputs for {name}");
    }
}
