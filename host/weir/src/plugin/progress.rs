//! Showing what a build is at.

use std::time::Duration;

use indicatif::ProgressBar;

/// Shows progress on standard error: the step being done as a spinner, when that is a
/// terminal, and everything else (warnings of the compiler) as lines.
pub(crate) fn terminal() -> impl Fn(&str) {
    let spinner = Spinner(ProgressBar::new_spinner());
    spinner.0.enable_steady_tick(Duration::from_millis(120));
    move |line: &str| {
        if is_step(line) {
            spinner.0.set_message(line.trim().to_owned());
        } else if spinner.0.is_hidden() {
            eprintln!("{line}");
        } else {
            spinner.0.println(line);
        }
    }
}

/// Leaves no half line behind, however the build ends.
struct Spinner(ProgressBar);

impl Drop for Spinner {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Steps are ours, or cargo's: its verbs end in column twelve and begin with a capital.
pub(super) fn is_step(line: &str) -> bool {
    let bytes = line.as_bytes();
    match bytes.iter().position(|byte| *byte != b' ') {
        Some(0) => line.starts_with("weir: "),
        Some(start) => {
            bytes[start].is_ascii_uppercase()
                && bytes.get(12) == Some(&b' ')
                && bytes[start..].iter().position(|byte| *byte == b' ') == Some(12 - start.min(12))
        }
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use super::is_step;

    #[test]
    fn steps_are_told_from_what_the_compiler_says() {
        for step in [
            "   Compiling weir-sdk v0.1.0 (/work)",
            "    Finished `release` profile [optimized] target(s) in 1s",
            " Downloading crates ...",
            "weir: making the component",
            "",
        ] {
            assert!(is_step(step), "{step}");
        }
        for said in [
            "warning: unused variable: `x`",
            " --> src/lib.rs:3:9",
            "3 |     let x = 1;",
            "  |         ^ help: if this is intentional",
            "            Because",
            "  = note: `#[warn(unused)]` on by default",
        ] {
            assert!(!is_step(said), "{said}");
        }
    }
}
