//! The queue's binary.

use std::process::Stdio;

use serde_json::Value;
use tokio::process::Command;
use tokio::sync::OnceCell;

/// The path of the queue's binary, which is built if it is out of date. Cargo passes to a test
/// only the paths of its own package's binaries. The command is the same as that of
/// `cargo test --workspace`, so that nothing is built twice.
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
            // cargo's variables about this package would cause some build scripts to run again.
            for (name, _) in std::env::vars_os() {
                let own = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"];
                if own
                    .iter()
                    .any(|prefix| name.to_string_lossy().starts_with(prefix))
                {
                    cargo.env_remove(name);
                }
            }
            let output = cargo.output().await.expect("cannot start cargo");
            assert!(output.status.success(), "the workspace does not build");
            String::from_utf8(output.stdout)
                .unwrap()
                .lines()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok())
                .filter(|message| message["target"]["name"] == "gateway-queue")
                .filter(|message| message["profile"]["test"] == false)
                .find_map(|message| message["executable"].as_str().map(str::to_owned))
                .expect("cargo reports no binary")
        })
        .await
}
