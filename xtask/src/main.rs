//! The developer's commands: demo, test, cluster, image, crd.

mod archive;
mod chart;
mod cluster;
mod crd;
mod debian;
mod demo;
mod digest;
mod files;
mod image;
mod install;
mod interrupt;
mod kubernetes;
mod packages;
mod prepare;
mod process;
mod programs;
mod progress;
mod target;
mod test;
mod workspace;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use lexopt::prelude::*;
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::target::Choice;
use crate::workspace::Workspace;

const HELP: &str =
    "The developer's commands. Everything that they need is built or installed by themselves.

    cargo xtask demo                    shows the whole thing at work on a real node
    cargo xtask test                    formatting, lints, unit tests, and the tests on a real node
    cargo xtask test --only SUITE       that suite and what it needs; also more than one
    cargo xtask cluster up              brings up a real single-node Kubernetes on this machine
    cargo xtask cluster down            removes it without a trace
    cargo xtask cluster status          says what there is of it; exit status 0 when it is well
    cargo xtask cluster kubeconfig      prints the path of its kubeconfig
    cargo xtask demo|test --kubeconfig FILE [--registry REGISTRY]
                                        on a cluster that is there; REGISTRY is where it pulls from
    cargo xtask image                   builds the images, as files in target/images
    cargo xtask image --push REGISTRY   and pushes the two for users to REGISTRY/NAME:TAG
    cargo xtask crd                     writes crds/ and the chart's copy from the operator's type
    cargo xtask chart                   checks the chart, with the schemas of the node that is up
    cargo xtask chart --write           writes the chart's README from its values
";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut arguments = lexopt::Parser::from_env();
    let Some(command) = word(&mut arguments)? else {
        print!("{HELP}");
        return Ok(());
    };
    interrupt::listen()?;
    open_many_files();
    let workspace = Workspace::find()?;
    match command.as_str() {
        "cluster" => {
            let action = word(&mut arguments)?
                .context("cluster needs one of: up, down, status, kubeconfig")?;
            end(&mut arguments)?;
            match action.as_str() {
                "up" => cluster::up(&workspace).map(|_| ()),
                "down" => cluster::down(&workspace),
                "status" => cluster::status(&workspace),
                "kubeconfig" => cluster::kubeconfig().map(|path| println!("{}", path.display())),
                other => bail!("cluster {other}: not one of up, down, status, kubeconfig"),
            }
        }
        "demo" => demo::run(&workspace, choice(&mut arguments, None)?),
        "test" => {
            let mut only = Vec::new();
            let choice = choice(&mut arguments, Some(&mut only))?;
            test::run(&workspace, choice, &only)
        }
        "image" => {
            let registry = option(&mut arguments, "push")?;
            let images = image::build(&workspace)?;
            registry.map_or(Ok(()), |registry| {
                image::push(
                    &workspace,
                    &image::products(&images),
                    registry.trim_end_matches('/'),
                )
            })
        }
        "chart" => match flag(&mut arguments, "write")? {
            true => chart::write_readme(&workspace),
            false => chart::check(&workspace, &target::node(&workspace)?, true),
        },
        "crd" => end(&mut arguments).and_then(|()| crd::generate(&workspace)),
        other => bail!("no command {other:?}\n\n{HELP}"),
    }
}

/// Tests have a thousand connections, and a shell has a limit of as many. What is
/// started from here inherits ours. Refused, it is as it was.
fn open_many_files() {
    const ENOUGH: u64 = 20_000;
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < ENOUGH) {
        limit.current = Some(limit.maximum.map_or(ENOUGH, |most| most.min(ENOUGH)));
        let _ = setrlimit(Resource::Nofile, limit);
    }
}

/// The next argument, when it is a word; `--help` is one too.
fn word(arguments: &mut lexopt::Parser) -> Result<Option<String>> {
    match arguments.next()? {
        None | Some(Long("help") | Short('h')) => Ok(None),
        Some(Value(word)) => Ok(Some(word.string()?)),
        Some(other) => Err(other.unexpected().into()),
    }
}

/// On which cluster; and for a command with suites, which of them.
fn choice(arguments: &mut lexopt::Parser, mut only: Option<&mut Vec<String>>) -> Result<Choice> {
    let mut choice = Choice::default();
    while let Some(argument) = arguments.next()? {
        match (argument, only.as_deref_mut()) {
            (Long("kubeconfig"), _) => choice.kubeconfig = Some(arguments.value()?.into()),
            (Long("registry"), _) => {
                let registry = arguments.value()?.string()?;
                choice.registry = Some(registry.trim_end_matches('/').to_owned());
            }
            (Long("only"), Some(only)) => only.push(arguments.value()?.string()?),
            (other, _) => return Err(other.unexpected().into()),
        }
    }
    if choice.registry.is_some() && choice.kubeconfig.is_none() {
        bail!("--registry is for a cluster that is named by --kubeconfig; our node needs none");
    }
    Ok(choice)
}

/// The value of the only option that a command takes.
fn option(arguments: &mut lexopt::Parser, name: &str) -> Result<Option<String>> {
    let mut value = None;
    while let Some(argument) = arguments.next()? {
        match argument {
            Long(given) if given == name => value = Some(arguments.value()?.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(value)
}

/// Whether the only flag that a command takes is there.
fn flag(arguments: &mut lexopt::Parser, name: &str) -> Result<bool> {
    let mut there = false;
    while let Some(argument) = arguments.next()? {
        match argument {
            Long(given) if given == name => there = true,
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(there)
}

fn end(arguments: &mut lexopt::Parser) -> Result<()> {
    option(arguments, "").map(|_| ())
}
