//! `cargo xtask cache-tests`: the public suite http-tests/cache-tests against Weir, nginx
//! and Varnish, each by its default rules, and the scores in one table.
//!
//! The suite is not part of this repository: `--suite` names a checkout of it.

mod peers;
mod suite;

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;

use self::suite::{KINDS, Kind, Suite, Verdict};
use crate::bench::server::{Server, free_port};
use crate::install::{self, Tool};

/// What `cargo xtask cache-tests` takes.
#[derive(Args)]
pub(crate) struct Options {
    /// A checkout of <https://github.com/http-tests/cache-tests>.
    #[arg(long, env = "CACHE_TESTS_DIR")]
    suite: PathBuf,
    /// How often Weir is tested with its default configuration.
    #[arg(long, default_value_t = 1)]
    runs: usize,
    /// Weir alone.
    #[arg(long)]
    alone: bool,
    /// List every test that was not passed, with what it says.
    #[arg(long)]
    list: bool,
}

/// What a run of the default configuration has to reach: all but storing Set-Cookie, and
/// five optimal tests that ask for what RFC 9111 does not allow.
const REQUIRED: usize = 159;
const OPTIMAL: usize = 99;

const TOOLS: &[Tool] = &[
    Tool {
        program: "taskset",
        package: "util-linux",
    },
    Tool {
        program: "node",
        package: "nodejs",
    },
];

const PEERS: &[Tool] = &[
    Tool {
        program: "nginx",
        package: "nginx-light",
    },
    Tool {
        program: "varnishd",
        package: "varnish",
    },
];

/// One run of the suite.
struct Row {
    name: String,
    verdicts: Vec<Verdict>,
    /// Required and optimal tests that it must pass.
    bar: Option<(usize, usize)>,
}

impl Row {
    fn passed(&self, kind: Kind) -> usize {
        self.of(kind).filter(|verdict| verdict.passed()).count()
    }

    fn of(&self, kind: Kind) -> impl Iterator<Item = &Verdict> {
        self.verdicts
            .iter()
            .filter(move |verdict| verdict.kind == kind)
    }
}

/// Runs the suite against each server and prints the scores. Fails when Weir is below
/// what it has reached before.
pub(crate) fn run(options: &Options) -> Result<()> {
    install::tools(TOOLS)?;
    let suite = Suite::open(&options.suite)?;
    if !options.alone {
        install::tools(PEERS)?;
    }
    let dir = std::env::temp_dir().join(format!("weir-cache-tests-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let mut rows = Vec::new();
    let mut test = |name: String,
                    bar: Option<(usize, usize)>,
                    start: &dyn Fn(u16) -> Result<Server>|
     -> Result<()> {
        println!("\n{name} …");
        let port = free_port()?;
        let _origin = suite.origin(port, &dir)?;
        let server = start(port)?;
        let verdicts = suite.test(server.port)?;
        rows.push(Row {
            name,
            verdicts,
            bar,
        });
        Ok(())
    };
    let program = peers::weir_binary()?;
    for round in 1..=options.runs {
        let bar = Some((REQUIRED, OPTIMAL));
        let start = |origin| peers::weir(&program, &dir, origin, "");
        test(format!("weir, run {round}"), bar, &start)?;
    }
    let bar = Some((REQUIRED + 1, OPTIMAL + 1));
    test("weir, store_set_cookie".to_owned(), bar, &|origin| {
        peers::weir(&program, &dir, origin, "store_set_cookie = true\n")
    })?;
    if !options.alone {
        let nginx = |origin| peers::nginx(&dir, origin);
        test("nginx".to_owned(), None, &nginx)?;
        let varnish = |origin| peers::varnish(&dir, origin);
        test("varnish".to_owned(), None, &varnish)?;
    }
    drop(std::fs::remove_dir_all(&dir));
    table(&rows);
    if options.list {
        rows.iter().for_each(list);
    }
    check(&rows)
}

fn table(rows: &[Row]) {
    println!("\n| cache | required | optimal | check: yes |\n|---|---:|---:|---:|");
    for row in rows {
        let cells = KINDS.map(|kind| format!("{}/{}", row.passed(kind), row.of(kind).count()));
        println!("| {} | {} |", row.name, cells.join(" | "));
    }
}

fn list(row: &Row) {
    println!("\n## {}: not passed", row.name);
    for kind in KINDS {
        for verdict in row.of(kind).filter(|verdict| !verdict.passed()) {
            println!("{verdict}");
        }
    }
}

fn check(rows: &[Row]) -> Result<()> {
    for row in rows {
        let passed = (row.passed(Kind::Required), row.passed(Kind::Optimal));
        if let Some(bar) = row.bar
            && (passed.0 < bar.0 || passed.1 < bar.1)
        {
            bail!(
                "{} passed {} required and {} optimal tests, not {} and {}: run it with --list \
                 to see which are missing",
                row.name,
                passed.0,
                passed.1,
                bar.0,
                bar.1
            );
        }
    }
    Ok(())
}
