//! The examples in `examples/clients`, and how each of them starts.

use crate::process::Process;
use crate::scene::Scene;

/// An example, and the library that it uses.
pub(crate) struct Example {
    pub(crate) library: &'static str,
    /// The file that pins the library, and what precedes its version in there.
    pin: (&'static str, &'static str),
    /// The command, in the folder of installed examples.
    command: &'static [&'static str],
    /// The queue's margin: longer for a library that connects after the grant.
    pub(crate) margin: &'static str,
}

/// Waits with an open connection to the gateway, and identifies immediately.
const CONNECTED: &str = "250ms";
/// Connects after the grant, which takes longer at one time than at another.
const CONNECTS: &str = "500ms";

pub(crate) const DISCORD_JS: Example = Example {
    library: "discord.js",
    pin: ("javascript/package.json", r#""discord.js": ""#),
    command: &["node", "javascript/discord.js"],
    margin: CONNECTED,
};

pub(crate) const DISCORDJS_WS: Example = Example {
    library: "@discordjs/ws",
    pin: ("javascript/package.json", r#""@discordjs/ws": ""#),
    command: &["node", "javascript/discordjs-ws.js"],
    margin: CONNECTED,
};

pub(crate) const DISCORDENO: Example = Example {
    library: "@discordeno/gateway",
    pin: ("javascript/package.json", r#""@discordeno/gateway": ""#),
    command: &["node", "javascript/discordeno.js"],
    margin: CONNECTS,
};

pub(crate) const OCEANIC: Example = Example {
    library: "oceanic.js",
    pin: ("javascript/package.json", r#""oceanic.js": ""#),
    command: &["node", "javascript/oceanic.js"],
    margin: CONNECTED,
};

pub(crate) const DISCORD_PY: Example = Example {
    library: "discord.py",
    pin: ("python/requirements.in", "discord.py=="),
    command: &["python3", "python/discord_py.py"],
    margin: CONNECTS,
};

pub(crate) const HIKARI: Example = Example {
    library: "hikari",
    pin: ("python/requirements.in", "hikari=="),
    command: &["python3", "python/hikari_bot.py"],
    margin: CONNECTS,
};

pub(crate) const DISGO: Example = Example {
    library: "disgo",
    pin: ("go/go.mod", "disgoorg/disgo v"),
    command: &["go/disgo"],
    margin: CONNECTS,
};

pub(crate) const JDA: Example = Example {
    library: "JDA",
    pin: (
        "java/pom.xml",
        "<artifactId>JDA</artifactId>\n      <version>",
    ),
    command: &[
        "java",
        "-cp",
        "java/target/classes:java/target/dependency/*",
        "Bot",
    ],
    margin: CONNECTS,
};

impl Example {
    /// Starts the bot of four shards.
    pub(crate) fn start(&self, scene: &Scene) -> Process {
        let folder = folder();
        let python = format!("{folder}/python/site");
        let mut command = vec!["env", "--chdir", &folder];
        command.extend(self.command);
        scene.client(&command, &[("PYTHONPATH", &python)])
    }

    /// The version of the library.
    pub(crate) fn version(&self) -> String {
        let (file, before) = self.pin;
        let text = std::fs::read_to_string(format!("{}/{file}", folder())).unwrap();
        let (_, version) = text.split_once(before).unwrap();
        let end = version.find(['"', '<', '\n']).unwrap();
        version[..end].to_owned()
    }
}

/// The folder in which the examples and their libraries are installed.
pub(crate) fn folder() -> String {
    std::env::var("CLIENTS").expect("CLIENTS is not set: run these tests by `cargo xtask test`")
}
