//! Imports run one way: no crate has a cycle between its files, nor between its folders.

// A test fails by panicking.
#![allow(clippy::panic, clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const CRATES: [&str; 10] = [
    "bench",
    "client",
    "core",
    "e2e",
    "operator",
    "sidecar",
    "telemetry",
    "testkit",
    "testnode",
    "xtask",
];

/// Which modules each module names, by their paths within the crate.
type Graph = BTreeMap<String, BTreeSet<String>>;

#[test]
fn no_crate_has_a_cycle_of_files() {
    for name in CRATES {
        let cycle = cycle(&files(&sources(name)));
        assert_eq!(cycle, None, "files of {name}: each names the next one");
    }
}

#[test]
fn no_crate_has_a_cycle_of_folders() {
    for name in CRATES {
        let cycle = cycle(&folders(&files(&sources(name))));
        assert_eq!(cycle, None, "folders of {name}: each names the next one");
    }
}

#[test]
fn a_cycle_is_found_between_files_and_between_folders() {
    let source = |path: &str, text: &str| (path.to_owned(), text.to_owned());
    let files = files(&BTreeMap::from([
        source("lib", "mod a; mod b;"),
        source("a", "mod one; mod two;"),
        source("a::one", "use crate::b::{self, Three};"),
        source("a::two", "fn f() {}"),
        source(
            "b",
            "use crate::a::two::f;\n#[cfg(test)]\nmod tests { use crate::a::one; }",
        ),
    ]));
    assert_eq!(cycle(&files), None);
    let both = cycle(&folders(&files)).unwrap();
    assert_eq!(both, ["a", "b", "a"]);
    let mut closed = files;
    closed
        .get_mut("a::two")
        .unwrap()
        .insert("a::one".to_owned());
    closed.get_mut("b").unwrap().insert("a::two".to_owned());
    assert!(cycle(&closed).is_some());
}

/// The text of each module of a crate that is not a test.
fn sources(name: &str) -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .join(name)
        .join("src");
    let mut sources = BTreeMap::new();
    let mut left = vec![root.clone()];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let module = module(path.strip_prefix(&root).unwrap());
            if !module.split("::").any(|part| part == "tests") {
                sources.insert(module, fs::read_to_string(&path).unwrap());
            }
        }
    }
    assert!(!sources.is_empty(), "{} has no sources", root.display());
    sources
}

/// `a/b.rs` and `a/b/mod.rs` are the module `a::b`.
fn module(file: &Path) -> String {
    let path: PathBuf = file.with_extension("");
    let parts = path.iter().map(|part| part.to_str().unwrap());
    let parts: Vec<_> = parts.filter(|part| *part != "mod").collect();
    parts.join("::")
}

fn files(sources: &BTreeMap<String, String>) -> Graph {
    let mut graph = Graph::new();
    for (module, text) in sources {
        let mut named = BTreeSet::new();
        let tests = ["\n#[cfg(test)]\nmod ", "\n#[cfg(test)]\n#[allow"];
        let end = tests.iter().filter_map(|tests| text.find(tests)).min();
        let code = &text[..end.unwrap_or(text.len())];
        for line in code
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
        {
            // A line can name several.
            for (at, _) in line
                .match_indices("crate::")
                .chain(line.match_indices("super::"))
            {
                let is_whole = !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
                let absolute = is_whole.then(|| absolute(module, &line[at..]));
                named.extend(absolute.and_then(|path| nearest(&path, sources)));
            }
        }
        named.remove(module);
        graph.insert(module.clone(), named);
    }
    graph
}

/// The path from the root of the crate that `text`, which begins with `crate::` or
/// `super::`, stands for in `module`.
fn absolute(module: &str, text: &str) -> Vec<String> {
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let path = text.split(|c| !is_path(c)).next().unwrap();
    let mut parts: Vec<String> = Vec::new();
    if !path.starts_with("crate") {
        parts.extend(module.split("::").map(str::to_owned));
    }
    for part in path.split("::").filter(|part| !part.is_empty()) {
        match part {
            "crate" => {}
            "super" => drop(parts.pop()),
            name => parts.push(name.to_owned()),
        }
    }
    parts
}

/// The file that defines the longest beginning of a path. A folder's face is not counted:
/// it names what it holds.
fn nearest(path: &[String], sources: &BTreeMap<String, String>) -> Option<String> {
    let beginnings = (1..=path.len())
        .rev()
        .map(|length| path[..length].join("::"));
    let mut known = beginnings.filter(|module| sources.contains_key(module));
    known.next()
}

/// The same between the folders at the top of a crate; a file there is its own folder.
fn folders(files: &Graph) -> Graph {
    let folder = |module: &str| module.split("::").next().unwrap().to_owned();
    let mut graph = Graph::new();
    for (module, named) in files {
        let from = folder(module);
        let to = named
            .iter()
            .map(|named| folder(named))
            .filter(|to| *to != from);
        let to: Vec<_> = to.collect();
        graph.entry(from).or_default().extend(to);
    }
    graph
}

/// A cycle, if there is one: each names the next one.
fn cycle(graph: &Graph) -> Option<Vec<String>> {
    fn visit<'a>(
        graph: &'a Graph,
        module: &'a str,
        path: &mut Vec<&'a str>,
        done: &mut BTreeSet<&'a str>,
    ) -> Option<Vec<String>> {
        if let Some(start) = path.iter().position(|other| *other == module) {
            let cycle = path[start..].iter().chain([&module]);
            return Some(cycle.map(|part| (*part).to_owned()).collect());
        }
        if !done.contains(module) {
            path.push(module);
            for next in graph.get(module).into_iter().flatten() {
                if let Some(cycle) = visit(graph, next, path, done) {
                    return Some(cycle);
                }
            }
            path.pop();
            done.insert(module);
        }
        None
    }
    let mut done = BTreeSet::new();
    let mut modules = graph.keys();
    modules.find_map(|module| visit(graph, module, &mut Vec::new(), &mut done))
}
