//! Where the queue's program is.

use std::process::Stdio;

use serde_json::Value;
use tokio::process::Command;
use tokio::sync::OnceCell;

/// The queue's binary, built when it is older than its sources. Cargo tells a
/// test the paths of its own package's binaries alone, and the queue is another
/// package. It is built just as `cargo test --workspace` builds it, so that
/// within that command nothing is left to do.
pub(crate) async fn program() -> &'static str {
    static PROGRAM: OnceCell<String> = OnceCell::const_new();
    PROGRAM
        .get_or_init(async || {
            let mut cargo = Command::new(env!("CARGO"));
            cargo
                .args(["test", "--quiet", "--workspace", "--no-run"])
                .arg("--message-format=json-render-diagnostics")
                .current_dir(env!("CARGO_MANIFEST_DIR"))
                .kill_on_drop(true)
                .stderr(Stdio::inherit());
            // What cargo told about this package would make some build scripts
            // run again, and everything that is built on them.
            for (name, _) in std::env::vars_os() {
                let about_us = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"];
                if about_us
                    .iter()
                    .any(|prefix| name.to_string_lossy().starts_with(prefix))
                {
                    cargo.env_remove(name);
                }
            }
            let output = cargo.output().await.expect("cargo runs");
            assert!(output.status.success(), "the workspace does not build");
            String::from_utf8(output.stdout)
                .unwrap()
                .lines()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok())
                .filter(|message| message["target"]["name"] == "gateway-queue")
                .filter(|message| message["profile"]["test"] == false)
                .find_map(|message| message["executable"].as_str().map(str::to_owned))
                .expect("cargo names the binary that it built")
        })
        .await
}
