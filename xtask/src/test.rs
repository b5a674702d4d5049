//! `cargo xtask test`: everything that must be green before a change is merged.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use crate::command;
use crate::setup::{self, Component, Places};

/// Set up, then check formatting, lints and documentation, and run every test
#[derive(clap::Args, Debug)]
#[command(after_help = "\
The exit code is that of the first step that failed; the other steps run all the same, except with --fail-fast.

Examples:
  cargo xtask test
  cargo xtask test --fast            only the tests: no lints, no documentation
  cargo xtask test -- -E 'package(dfml-index)'   arguments for the test runner")]
pub(crate) struct Args {
    /// Only the tests, without formatting, lints, documentation and dependency checks
    #[arg(long)]
    fast: bool,
    /// Stop at the first step that fails
    #[arg(long)]
    fail_fast: bool,
    /// Arguments for the test runner
    #[arg(last = true)]
    runner: Vec<String>,
}

/// One thing to do.
struct Step {
    name: &'static str,
    command: Command,
}

/// How a step ended.
struct Outcome {
    name: &'static str,
    took: Duration,
    /// 0 if it is well.
    code: u8,
}

/// Runs `cargo xtask test`.
pub(crate) fn run(args: &Args) -> ExitCode {
    let started = Instant::now();
    let needed = [
        Component::Onnxruntime,
        Component::Weights,
        Component::Libtorch,
        Component::CargoDeny,
        Component::Prometheus,
        Component::Hadolint,
        Component::Manifests,
        Component::Nginx,
        Component::Chromium,
    ];
    announce("set-up");
    let (places, programs) = match set_up(&needed) {
        Ok(found) => found,
        Err(error) => {
            eprintln!("error: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let mut outcomes = vec![Outcome { name: "set-up", took: started.elapsed(), code: 0 }];
    for step in steps(args, &places, &programs) {
        let outcome = perform(step);
        let failed = outcome.code != 0;
        outcomes.push(outcome);
        if failed && args.fail_fast {
            break;
        }
    }
    summary(&outcomes, started.elapsed());
    ExitCode::from(outcomes.iter().map(|outcome| outcome.code).find(|&code| code != 0).unwrap_or(0))
}

/// Installs what is missing; where things are, and where the test build puts the workspace's programs.
fn set_up(needed: &[Component]) -> anyhow::Result<(Places, PathBuf)> {
    Ok((setup::ensure(needed)?, command::target_folder()?.join("debug")))
}

/// All steps, the quick ones first.
fn steps(args: &Args, places: &Places, programs: &Path) -> Vec<Step> {
    let cargo = |arguments: &[&str]| {
        let mut command = command::cargo();
        command.args(arguments);
        for (name, path) in places.environment() {
            command.env(name, path);
        }
        command.env("DFML_CACHE_DIR", &places.cache);
        command
    };
    let mut steps = Vec::new();
    if !args.fast {
        steps.push(Step { name: "formatting", command: cargo(&["fmt", "--all", "--check"]) });
        steps.push(Step { name: "dependencies", command: dependencies(places) });
        let lints = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
        steps.push(Step { name: "lints", command: cargo(&lints) });
        let mut documentation =
            cargo(&["doc", "--workspace", "--no-deps", "--document-private-items", "--locked"]);
        documentation.env("RUSTDOCFLAGS", "-D warnings");
        steps.push(Step { name: "documentation", command: documentation });
    }
    // A workspace of its own, so that its some 300 crates stay out of the product's lock file and features.
    const ENGINE: &str = "tests/qdrant-server/Cargo.toml";
    if !args.fast {
        let check = ["fmt", "--manifest-path", ENGINE, "--check"];
        steps.push(Step { name: "formatting of the engine", command: cargo(&check) });
    }
    let engine = programs.with_file_name("qdrant-server");
    let mut build = cargo(&["build", "--locked", "--manifest-path", ENGINE, "--target-dir"]);
    build.arg(&engine);
    steps.push(Step { name: "engine of the tests", command: build });
    let has_nextest = command::find("cargo-nextest").is_some();
    let runner: &[&str] = if has_nextest {
        &["nextest", "run", "--workspace", "--locked", "--no-fail-fast"]
    } else {
        &["test", "--workspace", "--all-targets", "--locked", "--no-fail-fast"]
    };
    let mut tests = cargo(runner);
    tests.args(&args.runner);
    // The runner has built the programs by the time it starts a test; building them again, package by package and so
    // with other features, would take minutes.
    tests.env("XTASK_TEST_PROGRAMS", programs);
    tests.env("XTASK_TEST_ENGINE", engine.join("debug/dfml-qdrant-server"));
    steps.push(Step { name: "tests", command: tests });
    if args.runner.is_empty() {
        steps.push(Step {
            name: "examples in documentation",
            command: cargo(&["test", "--doc", "--workspace", "--locked"]),
        });
    }
    steps
}

/// Licences, bans and sources of everything that is linked. Advisories are left to `cargo deny check advisories`: their
/// database is a git repository, which a machine that reaches only package indexes cannot fetch.
fn dependencies(places: &Places) -> Command {
    let mut deny = Command::new(places.cargo_deny());
    deny.current_dir(command::workspace());
    deny.args(["--log-level", "error", "--workspace", "--locked", "check", "bans", "licenses", "sources"]);
    deny
}

fn announce(name: &str) {
    eprintln!("\n=== {name}");
}

fn perform(mut step: Step) -> Outcome {
    announce(&format!("{}: {}", step.name, command::shown(&step.command)));
    let started = Instant::now();
    let code = match step.command.status() {
        Ok(status) if status.success() => 0,
        // A step that was killed has no code of its own.
        Ok(status) => status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1),
        Err(error) => {
            eprintln!("error: cannot start `{}`: {error}", command::shown(&step.command));
            1
        }
    };
    let outcome = Outcome { name: step.name, took: started.elapsed(), code };
    eprintln!("=== {}: {} in {:.1} s", outcome.name, verdict(code), outcome.took.as_secs_f64());
    outcome
}

fn verdict(code: u8) -> &'static str {
    if code == 0 { "ok" } else { "FAILED" }
}

fn summary(outcomes: &[Outcome], took: Duration) {
    eprintln!();
    for outcome in outcomes {
        eprintln!("{:<28} {:<7} {:>8.1} s", outcome.name, verdict(outcome.code), outcome.took.as_secs_f64());
    }
    eprintln!("{:<36} {:>8.1} s", "all", took.as_secs_f64());
}
