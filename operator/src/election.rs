//! Which of several operators works. The others keep their caches full and stand
//! by. The Lease is kept by a library: should two work at once, as they may when
//! clocks differ or an API server comes back, they do the same things, and no harm.

use std::time::Duration;

use gateway_queue_telemetry::chain;
use kube::Client;
use kube_lease_manager::{LeaseManager, LeaseManagerBuilder, LeaseManagerError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Seconds for which a Lease is held when it is not renewed.
const DURATION: u64 = 15;

/// It is renewed so many seconds before that.
const GRACE: u64 = 10;

/// Between attempts when the API server does not answer, or refuses.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// How long a release may take: the next operator waits out the Lease otherwise.
const RELEASE: Duration = Duration::from_secs(3);

/// Where operators agree on who works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidacy {
    /// The namespace of the Lease.
    pub namespace: String,
    /// Its name.
    pub lease: String,
    /// Who this operator is: its pod.
    pub identity: String,
}

/// Takes part in the election until `stop`, and says in `works` whether this
/// operator's turn has come. In the end it releases the Lease, if it has it.
pub async fn stand(
    client: Client,
    candidacy: Candidacy,
    works: watch::Sender<bool>,
    stop: CancellationToken,
) {
    let mut wait = FIRST_WAIT;
    loop {
        // Anew after each fault: the library makes a Lease that is gone only when
        // it starts, and does not tell of one that it could not renew.
        let campaign = campaign(&client, &candidacy, &works, &mut wait);
        let Some(error) = stop.run_until_cancelled(campaign).await else {
            break;
        };
        tell(&works, false);
        let Candidacy {
            namespace, lease, ..
        } = &candidacy;
        tracing::warn!(
            error = chain(&error),
            ?wait,
            namespace,
            lease,
            "cannot take part in the election of an operator; trying again"
        );
        let pause = tokio::time::sleep(wait.mul_f64(0.5 + 0.5 * fastrand::f64()));
        if stop.run_until_cancelled(pause).await.is_none() {
            break;
        }
        wait = (wait * 2).min(LONGEST_WAIT);
    }
    if *works.borrow() {
        let released = tokio::time::timeout(RELEASE, release(&client, &candidacy)).await;
        match released {
            Ok(Ok(())) => tracing::info!("the Lease of the operator is released"),
            Ok(Err(error)) => tracing::warn!(
                error = chain(&error),
                "the Lease of the operator is not released"
            ),
            Err(_) => tracing::warn!("the Lease of the operator is not released in time"),
        }
    }
}

/// Follows the election. Comes back only with an error.
async fn campaign(
    client: &Client,
    candidacy: &Candidacy,
    works: &watch::Sender<bool>,
    wait: &mut Duration,
) -> LeaseManagerError {
    let manager = match manager(client, candidacy).await {
        Ok(manager) => manager,
        Err(error) => return error,
    };
    loop {
        match manager.changed().await {
            Ok(is_ours) => {
                *wait = FIRST_WAIT;
                tell(works, is_ours);
            }
            Err(error) => return error,
        }
    }
}

async fn release(client: &Client, candidacy: &Candidacy) -> Result<(), LeaseManagerError> {
    manager(client, candidacy).await?.release().await
}

async fn manager(
    client: &Client,
    candidacy: &Candidacy,
) -> Result<LeaseManager, LeaseManagerError> {
    let Candidacy {
        namespace,
        lease,
        identity,
    } = candidacy;
    LeaseManagerBuilder::new(client.clone(), lease)
        .with_namespace(namespace)
        .with_identity(identity)
        .with_field_manager(identity)
        .with_duration(DURATION)
        .with_grace(GRACE)
        .build()
        .await
}

fn tell(works: &watch::Sender<bool>, new: bool) {
    let changed = works.send_if_modified(|old| std::mem::replace(old, new) != new);
    match (changed, new) {
        (true, true) => tracing::info!("this operator works"),
        (true, false) => tracing::info!("this operator stands by"),
        (false, _) => {}
    }
}

#[cfg(test)]
mod tests;
