//! The commands that `helm install` prints.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use crate::cluster::{namespace, run, variable};
use crate::common::namespace::{TOKEN, discord_api};
use crate::definition::shared;
use crate::helm::Helm;

#[test]
fn the_commands_that_helm_prints_create_a_queue_and_show_its_state() {
    let _shared = shared();
    let helm = Helm::Four;
    let namespace = &namespace("notes");
    helm.install(namespace, "first", "");
    let notes = helm.run(namespace, "get notes first").unwrap();
    assert!(notes.contains("crds.enabled is false"), "{notes}");

    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("FILE"), TOKEN).unwrap();
    for (name, program) in [("kubectl", "KUBECTL"), ("helm", "HELM4")] {
        symlink(variable(program), folder.path().join(name)).unwrap();
    }
    let path = format!("{}:{}", folder.path().display(), variable("PATH"));
    let execute = |script: &str| {
        let mut shell = Command::new("bash");
        shell
            .args(["-e", "-c", script])
            .env("PATH", &path)
            .current_dir(folder.path());
        run(&mut shell, "").unwrap()
    };

    let blocks = blocks(&notes);
    let [create, state, shards, test] = &blocks[..] else {
        panic!("not four blocks of commands, but {}: {notes}", blocks.len());
    };
    // The node has no route to Discord.
    let field = "  tokenSecretRef:\n";
    assert!(create.contains(field), "{create}");
    let api = discord_api();
    execute(&create.replace(field, &format!("  discordApi: {api}\n{field}")));
    for (script, expected) in [
        (state, "http://my-bot."),
        (shards, "session starts"),
        (test, "Succeeded"),
    ] {
        let output = execute(script);
        assert!(output.contains(expected), "{script}\n{output}");
    }
}

/// Returns the blocks of commands: lines indented by two spaces, without these.
fn blocks(notes: &str) -> Vec<String> {
    let mut blocks = vec![String::new()];
    for line in notes.lines() {
        match (line.strip_prefix("  "), blocks.last_mut()) {
            (Some(command), Some(block)) => *block += &format!("{command}\n"),
            (None, Some(block)) if !block.is_empty() => blocks.push(String::new()),
            _ => {}
        }
    }
    blocks.retain(|block| !block.is_empty());
    blocks
}
