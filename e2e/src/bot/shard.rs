//! One shard.

use tokio_util::sync::CancellationToken;
use twilight_gateway::{CloseFrame, Event as Gateway, EventTypeFlags, Shard, StreamExt as _};

use super::events::{Event, LoggedQueue, log};

/// Keeps a shard connected until `stop`, then closes its session.
pub(super) async fn run(mut shard: Shard<LoggedQueue>, stop: CancellationToken) {
    let id = shard.id().number();
    let mut closing = false;
    let wanted = EventTypeFlags::READY
        | EventTypeFlags::RESUMED
        | EventTypeFlags::GATEWAY_INVALIDATE_SESSION;
    loop {
        let item = tokio::select! {
            item = shard.next_event(wanted) => item,
            () = stop.cancelled(), if !closing => {
                closing = true;
                shard.close(CloseFrame::NORMAL);
                continue;
            }
        };
        let event = match item {
            // Discord has closed this shard for good; the close event was logged.
            None => return,
            Some(Ok(event)) => event,
            Some(Err(error)) => {
                let error = error.to_string();
                log(id, &Event::Failed { error });
                continue;
            }
        };
        match event {
            Gateway::Ready(_) => log(id, &Event::Ready),
            Gateway::Resumed => log(id, &Event::Resumed),
            Gateway::GatewayInvalidateSession(resumable) => {
                log(id, &Event::InvalidSession { resumable });
            }
            Gateway::GatewayClose(frame) => {
                let code = frame.map(|frame| frame.code);
                log(id, &Event::Closed { code });
                if closing {
                    return;
                }
            }
            _ => {}
        }
    }
}
