//! From `helm install` to a first grant, with what helm prints and nothing else.

use std::fs;
use std::net::TcpListener;
use std::process::Command;

use crate::cluster::{Namespace, TOKEN, run, variable};
use crate::definition::Shared;
use crate::helm::Helm;
use crate::queue;

const GRANT: &str = r#"{"message": "You're free to connect now! :)"}"#;

#[test]
fn who_pastes_what_helm_prints_gets_a_first_grant() {
    let _shared = Shared::hold();
    let helm = Helm::Four;
    let namespace = &Namespace::new("notes");
    helm.install(namespace, "first", &[]).unwrap();
    let notes = helm.run(namespace, &["get", "notes", "first"]).unwrap();
    assert!(notes.contains("stays when it\ngoes"), "{notes}");

    let blocks = blocks(&notes);
    let [apply, why, call, page, test] = &blocks[..] else {
        panic!("not five things to type, but {}: {notes}", blocks.len());
    };
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("FILE"), TOKEN).unwrap();
    let type_in = |script: &str| {
        let path = [
            parent(&variable("KUBECTL")),
            folder.path().display().to_string(),
            std::env::var("PATH").unwrap(),
        ];
        // Forwarding ends with the shell.
        let script = format!("trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{script}");
        let mut shell = Command::new("bash");
        shell
            .args(["-e", "-c", &script])
            .env("PATH", path.join(":"))
            .current_dir(folder.path());
        run(&mut shell, "").unwrap()
    };
    std::os::unix::fs::symlink(variable("HELM4"), folder.path().join("helm")).unwrap();

    // There is no way to Discord from here.
    let api = queue::discord_api();
    let field = "  tokenSecretRef:\n";
    assert!(apply.contains(field), "{apply}");
    type_in(&apply.replace(field, &format!("  discordApi: {api}\n{field}")));

    // Somebody else may have the ports that are shown.
    let port = free_port();
    let said = type_in(&call.replace("8080", &port));
    assert!(said.contains(GRANT), "{said}");

    let port = free_port();
    let forward = page
        .trim_end()
        .replace("9090:9090", &format!("{port}:9090"));
    let look = format!(
        "{forward} &\ncurl --silent --retry 9 --retry-connrefused http://127.0.0.1:{port}/"
    );
    let said = type_in(&look);
    assert!(said.contains("<html"), "{said}");

    let said = type_in(why);
    assert!(said.contains("my-bot"), "{said}");
    let said = type_in(test);
    assert!(said.contains("Succeeded"), "{said}");
    helm.run(namespace, &["uninstall", "first", "--wait"])
        .unwrap();
}

/// What is indented by two spaces, without them: the things to type.
fn blocks(notes: &str) -> Vec<String> {
    let mut blocks = vec![String::new()];
    for line in notes.lines() {
        match (line.strip_prefix("  "), blocks.last_mut()) {
            (Some(typed), Some(block)) => {
                block.push_str(typed);
                block.push('\n');
            }
            (None, Some(block)) if !block.is_empty() => blocks.push(String::new()),
            _ => {}
        }
    }
    blocks.retain(|block| !block.is_empty());
    blocks
}

fn free_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port().to_string()
}

fn parent(program: &str) -> String {
    let path = std::path::Path::new(program).parent().unwrap();
    path.display().to_string()
}
