//! The examples in `examples/clients`, and how each of them starts.

use crate::plain;
use crate::process::Process;
use crate::scene::Scene;
use crate::shards::{self, Wait};

/// How many shards each bot has.
pub(crate) const SHARDS: usize = 4;

/// An example, and the library that it uses.
pub(crate) struct Example {
    pub(crate) library: &'static str,
    /// The file that pins the library, and what precedes its version in there.
    pin: Option<(&'static str, &'static str)>,
    bot: Bot,
    /// The queue's margin: longer for a library that connects after the grant.
    pub(crate) margin: &'static str,
}

enum Bot {
    /// A command in the folder of installed examples.
    Program(&'static [&'static str]),
    /// Shards of twilight, which wait as a client without a library does.
    Shards(Wait),
}

/// Waits with an open connection to the gateway, and identifies immediately.
const CONNECTED: &str = "250ms";
/// Connects after the grant, which takes longer at one time than at another.
const CONNECTS: &str = "500ms";

/// The examples of libraries, which have versions.
pub(crate) const LIBRARIES: [&Example; 8] = [
    &DISCORD_JS,
    &DISCORDJS_WS,
    &DISCORDENO,
    &OCEANIC,
    &DISCORD_PY,
    &HIKARI,
    &DISGO,
    &JDA,
];

pub(crate) const DISCORD_JS: Example = Example {
    library: "discord.js",
    pin: Some(("javascript/package.json", r#""discord.js": ""#)),
    bot: Bot::Program(&["node", "javascript/discord.js"]),
    margin: CONNECTED,
};

pub(crate) const DISCORDJS_WS: Example = Example {
    library: "@discordjs/ws",
    pin: Some(("javascript/package.json", r#""@discordjs/ws": ""#)),
    bot: Bot::Program(&["node", "javascript/discordjs-ws.js"]),
    margin: CONNECTED,
};

pub(crate) const DISCORDENO: Example = Example {
    library: "@discordeno/gateway",
    pin: Some(("javascript/package.json", r#""@discordeno/gateway": ""#)),
    bot: Bot::Program(&["node", "javascript/discordeno.js"]),
    margin: CONNECTS,
};

pub(crate) const OCEANIC: Example = Example {
    library: "oceanic.js",
    pin: Some(("javascript/package.json", r#""oceanic.js": ""#)),
    bot: Bot::Program(&["node", "javascript/oceanic.js"]),
    margin: CONNECTED,
};

pub(crate) const DISCORD_PY: Example = Example {
    library: "discord.py",
    pin: Some(("python/requirements.in", "discord.py==")),
    bot: Bot::Program(&["python3", "python/discord_py.py"]),
    margin: CONNECTS,
};

pub(crate) const HIKARI: Example = Example {
    library: "hikari",
    pin: Some(("python/requirements.in", "hikari==")),
    bot: Bot::Program(&["python3", "python/hikari_bot.py"]),
    margin: CONNECTS,
};

pub(crate) const DISGO: Example = Example {
    library: "disgo",
    pin: Some(("go/go.mod", "disgoorg/disgo v")),
    bot: Bot::Program(&["go/disgo"]),
    margin: CONNECTS,
};

pub(crate) const JDA: Example = Example {
    library: "JDA",
    pin: Some((
        "java/pom.xml",
        "<artifactId>JDA</artifactId>\n      <version>",
    )),
    bot: Bot::Program(&[
        "java",
        "-cp",
        "java/target/classes:java/target/dependency/*",
        "Bot",
    ]),
    margin: CONNECTS,
};

pub(crate) const CURL: Example = Example {
    library: "curl",
    pin: None,
    bot: Bot::Shards(plain::curl),
    margin: CONNECTED,
};

pub(crate) const SANDWICH: Example = Example {
    library: "Sandwich-Daemon",
    pin: None,
    bot: Bot::Shards(plain::sandwich),
    margin: CONNECTED,
};

pub(crate) const PLURALKIT: Example = Example {
    library: "PluralKit",
    pin: None,
    bot: Bot::Shards(plain::pluralkit),
    margin: CONNECTED,
};

impl Example {
    /// Starts what surrounds the bot. This thread is in a namespace of its own from now on.
    pub(crate) async fn scene(&self, name: &str) -> Scene {
        let gateway_url = match self.bot {
            Bot::Program(_) => "wss://gateway.discord.gg",
            // twilight trusts no authority of a test, so it connects without TLS.
            Bot::Shards(_) => "",
        };
        Scene::start(name, gateway_url).await
    }

    /// Starts the bot.
    pub(crate) async fn start(&self, scene: &Scene) -> Process {
        match self.bot {
            Bot::Program(command) => {
                let folder = folder();
                let python = format!("{folder}/python/site");
                let command = [&["env", "--chdir", &folder], command].concat();
                scene.client(&command, &[("PYTHONPATH", &python)])
            }
            Bot::Shards(wait) => shards::start(scene, wait).await,
        }
    }

    /// Returns the version of the library, if it has one.
    pub(crate) fn version(&self) -> Option<String> {
        let (file, before) = self.pin?;
        let text = std::fs::read_to_string(format!("{}/{file}", folder())).unwrap();
        let (_, version) = text.split_once(before).unwrap();
        let end = version.find(['"', '<', '\n']).unwrap();
        Some(version[..end].to_owned())
    }
}

/// The folder in which the examples and their libraries are installed.
pub(crate) fn folder() -> String {
    std::env::var("CLIENTS").expect("CLIENTS is not set: run these tests by `cargo xtask test`")
}
