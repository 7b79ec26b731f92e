//! `cargo xtask links`: dead links in the Markdown files.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::run;

/// Checks every Markdown file of the repository. Prints each dead link with its place.
pub(crate) fn run() -> Result<()> {
    let root = run::workspace();
    let files = markdown_files(&root)?;
    let mut dead = Vec::new();
    let mut links = 0;
    for file in &files {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read {}", file.display()))?;
        for (line, target) in targets(&text) {
            links += 1;
            if let Some(why) = defect(file, &root, &target) {
                dead.push(format!("{}:{line}: {target}: {why}", run::short(file)));
            }
        }
    }
    for line in &dead {
        println!("{line}");
    }
    if !dead.is_empty() {
        bail!("{} dead links in {} files", dead.len(), files.len());
    }
    println!(
        "links: {links} in {} Markdown files, none dead",
        files.len()
    );
    Ok(())
}

/// The files that git knows or would add; without git, all of them.
fn markdown_files(root: &Path) -> Result<Vec<PathBuf>> {
    let listed = run::answer(
        "git",
        &[
            "-C",
            &root.to_string_lossy(),
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
            "*.md",
        ],
    );
    let Some(listed) = listed else {
        bail!("git does not list the files of {}", root.display());
    };
    let files = listed.lines().map(|line| root.join(line));
    Ok(files.filter(|file| file.is_file()).collect())
}

/// Link targets with their lines, code left out.
fn targets(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        let line = without_code(line);
        let mut rest = line.as_str();
        while let Some(at) = rest.find("](") {
            rest = &rest[at + 2..];
            let end = closing_parenthesis(rest);
            let target = rest[..end].split_whitespace().next().unwrap_or_default();
            found.push((number, target.trim_matches(['<', '>']).to_owned()));
            rest = &rest[end..];
        }
        if let Some(target) = definition(&line) {
            found.push((number, target.to_owned()));
        }
    }
    found
}

/// Numbered lines outside fenced code.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fence: Option<&str> = None;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let start = line.trim_start();
        let mark = ["```", "~~~"]
            .into_iter()
            .find(|mark| start.starts_with(mark));
        match (fence, mark) {
            (None, Some(mark)) => fence = Some(mark),
            (Some(open), Some(mark)) if open == mark => fence = None,
            (None, None) => return Some((index + 1, line)),
            _ => {}
        }
        None
    })
}

fn without_code(line: &str) -> String {
    let outside = line.split('`').step_by(2);
    outside.collect::<Vec<_>>().join("`")
}

fn closing_parenthesis(text: &str) -> usize {
    let mut depth = 0_usize;
    for (at, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' if depth == 0 => return at,
            ')' => depth -= 1,
            _ => {}
        }
    }
    text.len()
}

/// `[name]: target`.
fn definition(line: &str) -> Option<&str> {
    let (name, rest) = line.strip_prefix('[')?.split_once("]:")?;
    (!name.starts_with('^')).then(|| rest.split_whitespace().next())?
}

/// What is wrong with a link, if anything.
fn defect(file: &Path, root: &Path, target: &str) -> Option<String> {
    let external = ["http://", "https://", "mailto:"];
    if target.is_empty() {
        return Some("no target".to_owned());
    }
    if external.iter().any(|scheme| target.starts_with(scheme)) {
        return None;
    }
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let path = path.replace("%20", " ");
    let full = match path.strip_prefix('/') {
        _ if path.is_empty() => file.to_owned(),
        Some(absolute) => root.join(absolute),
        None => file.parent().unwrap_or(root).join(&path),
    };
    if !full.exists() {
        return Some("no such file".to_owned());
    }
    let markdown = full.extension().is_some_and(|end| end == "md");
    if anchor.is_empty() || !markdown {
        return None;
    }
    let text = std::fs::read_to_string(&full).ok()?;
    (!anchors(&text).contains(anchor)).then(|| "no such heading".to_owned())
}

/// The anchors that GitHub gives to headings, and those set by hand.
fn anchors(text: &str) -> HashSet<String> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut anchors = HashSet::new();
    for (_, line) in prose(text) {
        for mark in ["id=\"", "name=\""] {
            if let Some((_, rest)) = line.split_once(mark) {
                anchors.extend(rest.split('"').next().map(str::to_owned));
            }
        }
        let heading = line.trim_start_matches('#');
        let level = line.len() - heading.len();
        if !(1..=6).contains(&level) || !heading.starts_with(' ') {
            continue;
        }
        let slug = slug(heading);
        let count = seen.entry(slug.clone()).or_default();
        anchors.insert(match *count {
            0 => slug,
            repeated => format!("{slug}-{repeated}"),
        });
        *count += 1;
    }
    anchors
}

fn slug(heading: &str) -> String {
    let mut text = String::new();
    let mut rest = heading.trim();
    // A link in a heading counts with its text alone.
    while let Some((before, after)) = rest.split_once("](") {
        text.push_str(before);
        rest = &after[closing_parenthesis(after)..];
    }
    text.push_str(rest);
    text.to_lowercase()
        .chars()
        .filter_map(|character| match character {
            ' ' => Some('-'),
            '-' | '_' => Some(character),
            _ => character.is_alphanumeric().then_some(character),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{anchors, defect, targets};
    use crate::run::workspace;

    #[test]
    fn finds_links_outside_code() {
        let text =
            "[a](x.md#y) `[b](no)` ![c](p_(1).png \"title\")\n```\n[d](no)\n```\n[e]: z.md\n";
        let found = targets(text);
        let expected = [(1, "x.md#y"), (1, "p_(1).png"), (5, "z.md")];
        assert_eq!(found, expected.map(|(line, to)| (line, to.to_owned())));
    }

    #[test]
    fn anchors_are_those_of_github() {
        let found = anchors("# The `wit/` way, 1.0\n## Same\n## Same\n```\n# no\n```\n");
        let expected = ["the-wit-way-10", "same", "same-1"];
        assert_eq!(found, expected.map(str::to_owned).into());
    }

    #[test]
    fn a_link_is_dead_without_its_file_or_its_heading() {
        let root = workspace();
        let file = root.join("tests/data/broken/README.md");
        for alive in [
            "01-unclosed-string.toml",
            "../../Cargo.toml#L1",
            "README.md#broken-configurations",
            "#broken-configurations",
            "/Cargo.toml",
            "https://example.org/absent",
        ] {
            assert_eq!(defect(&file, &root, alive), None, "{alive}");
        }
        for dead in ["absent.md", "#absent", "README.md#absent", "/absent", ""] {
            assert!(defect(&file, &root, dead).is_some(), "{dead}");
        }
    }
}
