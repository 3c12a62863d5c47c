//! A headless browser, driven by WebDriver.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use fantoccini::error::CmdError;
use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::process::PATIENCE;

const NEEDED: &str = "The tests of the page need a browser. On Debian: `apt-get install chromium \
     chromium-driver`";

/// With these the browser sends no requests to other machines.
const ARGUMENTS: [&str; 12] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--window-size=1200,1000",
];

/// A browser with its own profile that shows one page. It ends with the test, together with its
/// driver.
pub(crate) struct Browser {
    client: Client,
    driver: Child,
    _profile: tempfile::TempDir,
}

/// The emulated screen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Screen {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) dark: bool,
}

pub(crate) const DESKTOP: Screen = Screen {
    width: 1200,
    height: 1000,
    dark: false,
};

/// A command of the driver that is not part of WebDriver.
#[derive(Debug)]
struct Own {
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for Own {
    fn endpoint(
        &self,
        base: &url::Url,
        session: Option<&str>,
    ) -> Result<url::Url, url::ParseError> {
        let session = session.unwrap_or_default();
        base.join(&format!("session/{session}/{}", self.path))
    }

    fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(self.body.to_string()))
    }
}

impl Browser {
    /// Starts a browser, and opens the page at this address.
    pub(crate) async fn open(admin: SocketAddr) -> Self {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            // The browser is in the same group: it would outlive a driver that is killed.
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start chromedriver: {error}. {NEEDED}"));
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = timeout(PATIENCE, async {
            loop {
                let line = lines.next_line().await.unwrap();
                let line = line.expect("chromedriver ended");
                if let Some((_, port)) = line.split_once("started successfully on port ") {
                    return port.trim_end_matches('.').to_owned();
                }
            }
        });
        let port = port.await.expect("chromedriver reported no port");
        let profile = tempfile::tempdir().unwrap();
        let mut arguments = ARGUMENTS.map(str::to_owned).to_vec();
        arguments.push(format!("--user-data-dir={}", profile.path().display()));
        let capabilities = json!({
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        });
        let capabilities = capabilities.as_object().unwrap().clone();
        let mut builder = ClientBuilder::new(HttpConnector::new());
        let url = format!("http://127.0.0.1:{port}");
        let client = match builder.capabilities(capabilities).connect(&url).await {
            Ok(client) => client,
            Err(error) => {
                end(&driver);
                panic!("cannot start the browser: {error}. {NEEDED}");
            }
        };
        let browser = Self {
            client,
            driver,
            _profile: profile,
        };
        browser.set_screen(DESKTOP).await;
        let page = format!("http://{admin}/");
        browser.client.goto(&page).await.unwrap();
        browser
    }

    /// Changes the screen.
    pub(crate) async fn set_screen(&self, screen: Screen) {
        let Screen {
            width,
            height,
            dark,
        } = screen;
        let scheme = if dark { "dark" } else { "light" };
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        for (command, parameters) in [
            ("Emulation.setDeviceMetricsOverride", metrics),
            ("Emulation.setEmulatedMedia", media),
        ] {
            let body = json!({"cmd": command, "params": parameters});
            self.own("goog/cdp/execute", body).await.unwrap();
        }
    }

    async fn own(&self, path: &'static str, body: Value) -> Result<Value, CmdError> {
        self.client.issue_cmd(Own { path, body }).await
    }

    /// Runs the body of a function in the page, and returns its result.
    pub(crate) async fn eval(&self, script: &str) -> Value {
        let result = self.client.execute(script, Vec::new()).await;
        result.unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// The visible text of an element.
    pub(crate) async fn text(&self, selector: &str) -> String {
        let script = format!("return document.querySelector({selector:?})?.innerText ?? '(none)'");
        let text = self.eval(&script).await;
        let words = text.as_str().unwrap_or_default().split_whitespace();
        words.collect::<Vec<_>>().join(" ")
    }

    /// Waits until an element contains a text.
    pub(crate) async fn shows(&self, selector: &str, text: &str) {
        let started = Instant::now();
        while !self.text(selector).await.contains(text) {
            if started.elapsed() > PATIENCE {
                let page = self.text("body").await;
                panic!("{selector} does not contain {text:?}; the page:\n{page}");
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until a part of a bucket's lane contains a text.
    pub(crate) async fn lane(&self, bucket: u32, part: &str, text: &str) {
        let selector = format!("[data-bucket='{bucket}'] {part}");
        self.shows(&selector, text).await;
    }

    /// Presses a key in the focused element.
    pub(crate) async fn press(&self, key: &str) {
        let element = self.client.active_element().await.unwrap();
        element.send_keys(key).await.unwrap();
    }

    /// Saves a screenshot in the folder `PAGE_PICTURES`, if it is set.
    pub(crate) async fn screenshot_as(&self, name: &str) {
        let Some(folder) = std::env::var_os("PAGE_PICTURES") else {
            return;
        };
        let picture = self.client.screenshot().await.unwrap();
        let file = std::path::Path::new(&folder).join(format!("{name}.png"));
        std::fs::write(file, picture).unwrap();
    }

    /// The new errors in the console: of the script, and violations of the page's policy.
    pub(crate) async fn console_errors(&self) -> Vec<String> {
        let entries = self.own("se/log", json!({"type": "browser"})).await;
        let entries = entries.unwrap();
        let entries = entries.as_array().unwrap().iter();
        entries.map(|entry| entry["message"].to_string()).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        end(&self.driver);
    }
}

fn end(driver: &Child) {
    let group = driver.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    if let Some(group) = group {
        let _ = kill_process_group(group, Signal::KILL);
    }
}
