//! A network namespace, which reaches nothing outside of it.

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::process::Command;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// `ip netns exec` mounts this file over `/etc/hosts`.
const HOSTS: &str = "127.0.0.1 localhost discord.com gateway.discord.gg my-bot\n";

/// A namespace that ends with the test that created it.
pub(crate) struct Namespace(String);

impl Namespace {
    /// Creates a namespace and moves this thread into it: from now on, its sockets and the programs
    /// that it starts are in there. Only a program of `command` also knows the names.
    pub(crate) fn enter(name: &str) -> Self {
        let namespace = Self(format!("gwq-clients-{name}"));
        // A test that was killed leaves it behind.
        namespace.remove();
        let Self(name) = &namespace;
        ip(&["netns", "add", name]);
        ip(&["-n", name, "link", "set", "lo", "up"]);
        let folder = namespace.folder();
        fs::create_dir_all(&folder).unwrap();
        fs::write(format!("{folder}/hosts"), HOSTS).unwrap();
        let file = File::open(format!("/run/netns/{name}")).unwrap();
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        namespace
    }

    /// Returns a command that runs in the namespace, with an environment of its own.
    pub(crate) fn command(&self, program: &str) -> tokio::process::Command {
        let mut command = tokio::process::Command::new("ip");
        command.args(["netns", "exec", &self.0, program]);
        command.env_clear();
        for name in ["HOME", "PATH"] {
            command.env(name, std::env::var(name).unwrap());
        }
        command
    }

    fn folder(&self) -> String {
        format!("/etc/netns/{}", self.0)
    }

    fn remove(&self) {
        let _ = fs::remove_dir_all(self.folder());
        // It fails if there is none.
        let _ = Command::new("ip").args(["netns", "del", &self.0]).output();
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.remove();
    }
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments:?}: {error}");
}
