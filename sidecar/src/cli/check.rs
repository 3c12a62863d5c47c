//! `gateway-queue check`.

use std::net::{Ipv4Addr, SocketAddr};

use jiff::Timestamp;
use url::Url;

use super::arguments::Output;
use super::diagnose::{self, Reached};
use super::failure_stage;
use super::fetch::Fetcher;
use super::report::{self, Finding, Subject};
use super::screen::Screen;
use crate::config::{Invalid, Settings};
use crate::discord::api::Discord;
use crate::discord::token_source::{self, Current};
use crate::http_client::{self, Unusable};
use crate::leadership::lease_client::{ApiServer, Lease};

/// Says what is wrong, and returns the exit code. Must be called within a tokio
/// runtime.
///
/// # Errors
///
/// When it cannot do its work.
pub async fn run(settings: Result<&Settings, &Invalid>, output: Output) -> Result<u8, Unusable> {
    let findings = match settings {
        Ok(settings) => look(settings).await?,
        Err(invalid) => {
            let remedy = "set what is accepted; the server would not start";
            vec![Finding::failed(
                Subject::Settings,
                invalid.to_string(),
                remedy,
            )]
        }
    };
    let mut screen = Screen::new();
    let text = match output {
        Output::Text => report::text(&findings, screen.paint),
        Output::Json => report::json(&findings)?,
    };
    // A closed pipe is the reader's wish.
    let _ = screen.write(&text);
    Ok(report::exit_code(&findings))
}

async fn look(settings: &Settings) -> Result<Vec<Finding>, Unusable> {
    let current = token_source::watch(&settings.token)?.borrow().clone();
    let mut findings = vec![
        Finding::ok(Subject::Settings, "can be read"),
        diagnose::token(&settings.token, &current),
    ];
    match &current {
        Current::Token(token) => {
            let discord = Discord::new(&settings.discord_api)?;
            let reached = match discord.ask(token).await {
                Ok(outcome) => Reached::Answered(outcome),
                Err(error) => {
                    Reached::Failed(failure_stage::of(&error), http_client::cause(&error))
                }
            };
            let api = Url::parse(&settings.discord_api)?;
            let now = Timestamp::now();
            findings.extend(diagnose::discord(
                &api,
                &reached,
                settings.session_reserve,
                now,
            ));
        }
        Current::Missing(_) | Current::None => {
            findings.extend(diagnose::not_asked("there is no token to ask with"));
        }
    }
    findings.push(leader(settings).await?);
    Ok(findings)
}

async fn leader(settings: &Settings) -> Result<Finding, Unusable> {
    if let Some(lease) = &settings.lease {
        let name = format!("{}/{}", lease.namespace, lease.name);
        let way = match ApiServer::of_this_pod(|name| std::env::var(name).ok())
            .and_then(|api_server| Lease::new(lease, api_server))
        {
            Ok(way) => way,
            Err(error) => return Ok(diagnose::no_lease(&name, &error.to_string())),
        };
        return Ok(match way.read().await {
            Ok(record) => diagnose::lease(&name, &record, lease.duration, Timestamp::now()),
            Err(failure) => diagnose::no_lease(&name, &failure.to_string()),
        });
    }
    let here = settings.admin_host().unwrap_or(Ipv4Addr::LOCALHOST.into());
    let address = SocketAddr::new(here, settings.admin_port);
    let url = Url::parse(&format!("http://{address}/state"))?;
    let asked = Fetcher::new()?.ask(&url).await;
    let seen = asked.as_ref().map(|answer| &answer.seen);
    Ok(diagnose::queue(
        &format!("http://{address}"),
        seen.map_err(String::as_str),
    ))
}
