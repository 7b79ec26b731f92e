//! Policies in JavaScript and in Python, made to components by the tools of the Bytecode
//! Alliance, which are installed into the policy's own folder.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::super::component::About;
use super::items;

/// What policies are written against: each version that was released, since a policy's world
/// goes on naming the one that it began with.
const CONTRACTS: [(&str, &str); 2] = [
    ("1.0.0", include_str!("../../../../../wit/1.0.0/policy.wit")),
    ("1.1.0", include_str!("../../../../../wit/policy.wit")),
];
/// What the engine of JavaScript must not be given: with all of it on, every call asks for
/// the time or for randomness, and no decision is remembered.
const FEATURES: [&str; 5] = ["stdio", "random", "clocks", "http", "fetch-event"];

/// A policy's folder, and what is known of it.
pub(super) struct Script<'a> {
    dir: &'a Path,
    language: Language,
    /// The file that is compiled (JavaScript).
    main: String,
    pub(super) name: String,
    pub(super) about: About,
}

#[derive(Clone, Copy)]
enum Language {
    JavaScript,
    Python,
}

impl<'a> Script<'a> {
    /// What the folder holds, if it is a policy in one of these languages.
    pub(super) fn of(dir: &'a Path) -> Result<Option<Self>> {
        let (package, project) = (dir.join("package.json"), dir.join("pyproject.toml"));
        let (language, facts) = if package.is_file() {
            let text = read(&package)?;
            let facts: Value = serde_json::from_str(&text)
                .with_context(|| format!("{} is no JSON", package.display()))?;
            (Language::JavaScript, facts)
        } else if project.is_file() {
            let text = read(&project)?;
            let facts: toml::Table =
                toml::from_str(&text).with_context(|| format!("{}", project.display()))?;
            let facts = serde_json::to_value(facts.get("project"))?;
            (Language::Python, facts)
        } else {
            return Ok(None);
        };
        let text = |field: &str| facts[field].as_str().map(str::to_owned);
        let authors: Vec<&str> = items(&facts["authors"])
            .filter_map(|author| author["name"].as_str())
            .chain(facts["author"].as_str())
            .collect();
        let folder = dir.file_name().map(|name| name.to_string_lossy());
        Ok(Some(Self {
            dir,
            language,
            main: text("main").unwrap_or_else(|| "policy.js".to_owned()),
            name: text("name")
                .or(folder.map(Into::into))
                .unwrap_or_else(|| "policy".to_owned()),
            about: About {
                version: text("version"),
                authors: Some(authors.join(", ")),
                description: text("description"),
            },
        }))
    }

    /// The component.
    pub(super) fn compile(&self, progress: &dyn Fn(&str)) -> Result<Vec<u8>> {
        let dir = self
            .dir
            .canonicalize()
            .with_context(|| format!("finding {}", self.dir.display()))?;
        let (wit, world) = self.contract(&dir)?;
        let out = dir.join("target").join("componentized.wasm");
        let mut command = match self.language {
            Language::JavaScript => {
                let mut command = Command::new(componentize_js(&dir, progress)?);
                command
                    .arg(&self.main)
                    .arg("-w")
                    .arg(&wit)
                    .args(["-n", &world, "-d"])
                    .args(FEATURES)
                    .arg("-o")
                    .arg(&out);
                command
            }
            Language::Python => {
                let mut command = Command::new(componentize_py(&dir, progress)?);
                command
                    .arg("-d")
                    .arg(&wit)
                    .args(["-w", &world, "componentize", "policy", "-o"])
                    .arg(&out);
                command
            }
        };
        progress("weir: making the component");
        run(command.current_dir(&dir), "the policy does not compile")?;
        let component = std::fs::read(&out);
        let component = component.with_context(|| format!("reading {}", out.display()))?;
        // It is written again where it is wanted.
        drop(std::fs::remove_file(&out));
        Ok(component)
    }

    /// Lays the contract beside the policy's world; where they are, and the world's name.
    fn contract(&self, dir: &Path) -> Result<(PathBuf, String)> {
        let file = dir.join("world.wit");
        let text = read(&file).with_context(|| {
            format!(
                "{} has no world.wit, which says what of the contract the policy uses; see \
                 docs/policies.md",
                self.dir.display()
            )
        })?;
        let mut words = text.split_whitespace();
        let named = words.by_ref().any(|word| word == "world");
        let world = words.next().filter(|_| named);
        let world = world.map(|name| name.trim_matches(['{', '%']).to_owned());
        let world = world.with_context(|| format!("{} names no world", file.display()))?;
        let wit = dir.join("target").join("wit");
        lay_out(&wit, &text).with_context(|| format!("writing {}", wit.display()))?;
        Ok((wit, world))
    }
}

/// Writes the world with all that it may name beside it.
fn lay_out(wit: &Path, world: &str) -> std::io::Result<()> {
    let deps = wit.join("deps");
    // What another Weir laid there would be the same package twice.
    if deps.exists() {
        std::fs::remove_dir_all(&deps)?;
    }
    for (version, contract) in CONTRACTS {
        let package = deps.join(format!("policy-{version}"));
        std::fs::create_dir_all(&package)?;
        std::fs::write(package.join("policy.wit"), contract)?;
    }
    std::fs::write(wit.join("world.wit"), world)
}

/// componentize-js, as the policy's package.json asks for it.
fn componentize_js(dir: &Path, progress: &dyn Fn(&str)) -> Result<PathBuf> {
    let tool = dir.join("node_modules/.bin/componentize-js");
    let stamp = dir.join("target/npm-installed");
    let lock = std::fs::read_to_string(dir.join("package-lock.json")).ok();
    let locked = lock.is_some();
    let wanted = read(&dir.join("package.json"))? + &lock.unwrap_or_default();
    if !installed(&tool, &stamp, &wanted) {
        progress("weir: installing the packages of package.json with npm, into node_modules");
        let words = match locked {
            true => ["ci", "--no-audit", "--no-fund"],
            false => ["install", "--no-audit", "--no-fund"],
        };
        let mut npm = Command::new("npm");
        run(
            npm.args(words).current_dir(dir),
            "npm could not install what package.json names",
        )?;
        // Without a lock npm has written one: that counts as installed next time.
        let lock = std::fs::read_to_string(dir.join("package-lock.json")).unwrap_or_default();
        let now = read(&dir.join("package.json"))? + &lock;
        std::fs::write(&stamp, now).with_context(|| format!("writing {}", stamp.display()))?;
    }
    ensure!(
        tool.exists(),
        "package.json does not name what makes components of JavaScript: \
         npm install --save-dev @bytecodealliance/componentize-js"
    );
    Ok(tool)
}

/// componentize-py, as the policy's requirements.txt asks for it, in a virtual environment.
fn componentize_py(dir: &Path, progress: &dyn Fn(&str)) -> Result<PathBuf> {
    let (venv, wanted) = (dir.join("target/venv"), dir.join("requirements.txt"));
    let (tool, stamp) = (venv.join("bin/componentize-py"), venv.join("installed"));
    let wanted = read(&wanted).with_context(|| {
        format!(
            "write componentize-py, and what else the policy uses, to {}",
            wanted.display()
        )
    })?;
    if !installed(&tool, &stamp, &wanted) {
        progress("weir: installing requirements.txt with pip, into target/venv");
        let mut python = Command::new("python3");
        run(
            python.args(["-m", "venv"]).arg(&venv),
            "no virtual environment could be made (on Debian: apt-get install python3-venv)",
        )?;
        let mut pip = Command::new(venv.join("bin/pip"));
        pip.args(["install", "--quiet", "--disable-pip-version-check", "-r"]);
        run(
            pip.arg(dir.join("requirements.txt")),
            "pip could not install what requirements.txt names",
        )?;
        std::fs::write(&stamp, &wanted).with_context(|| format!("writing {}", stamp.display()))?;
    }
    ensure!(
        tool.exists(),
        "requirements.txt does not name componentize-py, which makes components of Python"
    );
    Ok(tool)
}

/// Whether a tool is there, as it was last asked for.
fn installed(tool: &Path, stamp: &Path, wanted: &str) -> bool {
    tool.exists() && std::fs::read_to_string(stamp).is_ok_and(|done| done == wanted)
}

/// Runs a tool to its end; what it said where it failed.
fn run(command: &mut Command, failed: &str) -> Result<()> {
    let output = match command.stdin(Stdio::null()).output() {
        Ok(output) => output,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let program = command.get_program().to_string_lossy().into_owned();
            bail!(
                "{program} was not found. Policies in JavaScript need Node.js 20 or newer with \
                 npm, those in Python need Python 3.10 or newer"
            );
        }
        Err(error) => return Err(error).context(failed.to_owned()),
    };
    if !output.status.success() {
        let (out, err) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        bail!("{failed}:\n{}\n{}", out.trim(), err.trim());
    }
    Ok(())
}

fn read(file: &Path) -> Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))
}
