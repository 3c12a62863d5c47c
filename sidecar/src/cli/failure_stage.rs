//! Where a request failed, as its client tells.

use std::error::Error;
use std::io;

use super::diagnose::Stage;

/// The stage at which a request came to nothing.
pub fn of(error: &reqwest::Error) -> Stage {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(cause) = next {
        if is_tls(cause) {
            return Stage::Tls;
        }
        // Its type cannot be named. A test asks for a name that there is not.
        if cause.to_string() == "dns error" {
            return Stage::Dns;
        }
        next = cause.source();
    }
    match error.is_connect() {
        true => Stage::Tcp,
        false => Stage::Http,
    }
}

/// What is inside of an I/O error is not among its sources, and there may be one
/// in another.
fn is_tls(mut error: &(dyn Error + 'static)) -> bool {
    while let Some(inside) = error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref)
    {
        error = inside;
    }
    error.is::<rustls::Error>()
}
