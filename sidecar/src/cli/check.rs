//! `gateway-queue check`.

use std::net::{Ipv4Addr, SocketAddr};

use hyper_util::client::proxy::matcher::Matcher;
use jiff::Timestamp;
use url::Url;

use super::command::Output;
use super::fetch::Fetcher;
use super::report::{self, Finding};
use super::screen::{Screen, write};
use super::{diagnose, failure_stage};
use crate::config::{Invalid, Settings};
use crate::discord::api::{Discord, Failed};
use crate::discord::token_source::{self, Current};
use crate::http_client::{self, Unusable};
use crate::leadership::lease_client::{ApiServer, Lease};

/// Prints what is wrong, and returns the exit code. Must be called within a tokio runtime.
pub async fn run(settings: Result<&Settings, &Invalid>, output: Output) -> Result<u8, Unusable> {
    let mut findings = vec![diagnose::settings(settings.err())];
    if let Ok(settings) = settings {
        findings.extend(token_and_discord(settings).await?);
        findings.push(leader(settings).await?);
    }
    write(&match output {
        Output::Text => report::text(&findings, Screen::detect().paint),
        Output::Json => report::json(&findings)?,
    });
    Ok(report::exit_code(&findings))
}

async fn token_and_discord(settings: &Settings) -> Result<Vec<Finding>, Unusable> {
    if settings.upstream.is_some() {
        return Ok(diagnose::of_agent());
    }
    let current = token_source::watch(&settings.token)?.borrow().clone();
    let mut findings = vec![diagnose::token(&settings.token, &current)];
    let Current::Token(token) = &current else {
        findings.extend(diagnose::without_token());
        return Ok(findings);
    };
    let discord = Discord::new(&settings.discord_api, settings.discord_ca_file.clone())?;
    let result = discord
        .request(token)
        .await
        .map_err(|Failed { error, ca }| {
            let cause = http_client::cause(&error) + &ca;
            (failure_stage::of(&error), cause)
        });
    let api = Url::parse(&settings.discord_api)?;
    let (reserve, now) = (settings.session_reserve, Timestamp::now());
    findings.extend(diagnose::discord(
        &api,
        proxy(&api).as_deref(),
        &result,
        reserve,
        now,
    ));
    Ok(findings)
}

/// The host and port of the proxy for this URL. Its credentials are not shown.
fn proxy(url: &Url) -> Option<String> {
    let proxy = Matcher::from_env().intercept(&url.as_str().parse().ok()?)?;
    let (host, port) = (proxy.uri().host()?, proxy.uri().port());
    Some(port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

async fn leader(settings: &Settings) -> Result<Finding, Unusable> {
    if let Some(lease) = &settings.lease {
        let name = format!("{}/{}", lease.namespace, lease.name);
        let client = ApiServer::of_this_pod(|name| std::env::var(name).ok())
            .and_then(|api_server| Lease::new(lease, api_server));
        let client = match client {
            Ok(client) => client,
            Err(error) => return Ok(diagnose::unreadable_lease(&name, &error.to_string())),
        };
        return Ok(match client.read().await {
            Ok(record) => diagnose::lease(&name, &record, lease.duration, Timestamp::now()),
            Err(failure) => diagnose::unreadable_lease(&name, &failure.to_string()),
        });
    }
    let host = settings.admin_host().unwrap_or(Ipv4Addr::LOCALHOST.into());
    let url = format!("http://{}", SocketAddr::new(host, settings.admin_port));
    let fetched = Fetcher::new()?
        .fetch(&Url::parse(&format!("{url}/state"))?)
        .await;
    let state = fetched.as_ref().map(|response| &response.state);
    Ok(diagnose::queue(&url, state.map_err(String::as_str)))
}
