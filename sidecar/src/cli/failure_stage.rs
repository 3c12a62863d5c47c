//! The stage at which a request to Discord failed.

use std::error::Error;
use std::io;

use super::report::Subject;

/// Returns the stage of a failed request: DNS, TCP, TLS or HTTP.
pub(crate) fn of(error: &reqwest::Error) -> Subject {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(cause) = next {
        if is_tls(cause) {
            return Subject::Tls;
        }
        // The type of this error is private to hyper.
        if cause.to_string() == "dns error" {
            return Subject::Dns;
        }
        next = cause.source();
    }
    if error.is_connect() {
        Subject::Tcp
    } else {
        Subject::Http
    }
}

/// Whether rustls reported the error. The content of an I/O error, which may be another
/// I/O error, is not among its sources.
fn is_tls(mut error: &(dyn Error + 'static)) -> bool {
    while let Some(inner) = error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref)
    {
        error = inner;
    }
    error.is::<rustls::Error>()
}
