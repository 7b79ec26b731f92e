//! Every input that a fuzzer kept runs without a finding, and every target has inputs.

use std::path::Path;

use weir_fuzz::TARGETS;

#[test]
fn the_corpus_holds() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (name, run) in TARGETS {
        let source = root.join(format!("libfuzzer/fuzz_targets/{name}.rs"));
        assert!(source.is_file(), "{} is missing", source.display());
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
