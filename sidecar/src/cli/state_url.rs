//! The URL of a queue's `/state`, from what a user passes to `status`. Pure.

use url::Url;

use crate::config::{Invalid, default_of, is_plain_http};

const ACCEPTED: &str =
    "the URL is not accepted: it must be host:port or http://host:port, with or without /state";

/// Returns the URL of `/state` at `text`, which may lack the scheme, the port and the
/// path. The error does not repeat the text, which may contain a password.
pub(crate) fn parse(text: &str) -> Result<Url, Invalid> {
    let refused = || Invalid(ACCEPTED.to_owned());
    let has_scheme = text.contains("://");
    let mut url = if has_scheme {
        Url::parse(text)
    } else {
        Url::parse(&format!("http://{text}"))
    }
    .map_err(|_| refused())?;
    if !is_plain_http(&url) {
        return Err(refused());
    }
    if !has_scheme && !names_port(text) {
        let port = default_of("ADMIN_PORT").parse().ok();
        url.set_port(port).map_err(|()| refused())?;
    }
    let path = url.path().trim_end_matches('/');
    let path = format!("{}/state", path.strip_suffix("/state").unwrap_or(path));
    url.set_path(&path);
    Ok(url)
}

/// `Url` does not distinguish `host:80` from `host`.
fn names_port(text: &str) -> bool {
    let authority = text.split('/').next().unwrap_or_default();
    let port = authority.rsplit_once(':').map(|(_, port)| port);
    port.is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scheme_port_and_path_are_optional() {
        for (text, url) in [
            ("127.0.0.1:9090", "http://127.0.0.1:9090/state"),
            ("my-bot.default.svc", "http://my-bot.default.svc:9090/state"),
            ("my-bot:80", "http://my-bot/state"),
            ("[::1]:7", "http://[::1]:7/state"),
            ("[::1]", "http://[::1]:9090/state"),
            ("http://my-bot", "http://my-bot/state"),
            ("http://h:1/state", "http://h:1/state"),
            ("h:1/state/", "http://h:1/state"),
            ("https://h/bots/a/", "https://h/bots/a/state"),
        ] {
            assert_eq!(parse(text).unwrap().as_str(), url, "{text}");
        }
    }

    #[test]
    fn an_invalid_url_is_refused_and_not_repeated() {
        for text in [
            "ftp://x",
            "http://u:hunter2@h",
            "h?hunter2",
            "",
            "h:hunter2",
        ] {
            let refusal = parse(text).unwrap_err().to_string();
            assert!(refusal.starts_with("the URL is not accepted"), "{refusal}");
            assert!(!refusal.contains("hunter2"), "{refusal}");
        }
    }
}
