//! The files of the status page, and the response headers for browsers.

use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderMap, HeaderName, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};

/// All resources are from this origin, nothing is inline, and frames are forbidden.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The headers of every response, which is for no other site and not for caches.
const HEADERS: [(HeaderName, &str); 5] = [
    (CONTENT_SECURITY_POLICY, POLICY),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    (CACHE_CONTROL, "no-store"),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
];

/// Returns the content type and the text of a file of the page.
pub(crate) fn file(path: &str) -> Option<(&'static str, &'static str)> {
    match path {
        "/" => Some((
            "text/html; charset=utf-8",
            include_str!("dashboard/index.html"),
        )),
        "/page.css" => Some((
            "text/css; charset=utf-8",
            include_str!("dashboard/page.css"),
        )),
        "/page.js" => Some((
            "text/javascript; charset=utf-8",
            include_str!("dashboard/page.js"),
        )),
        "/icon.svg" => Some(("image/svg+xml", include_str!("dashboard/icon.svg"))),
        _ => None,
    }
}

/// Adds the headers of every response.
pub(crate) fn add_headers(headers: &mut HeaderMap) {
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: [&str; 4] = ["/", "/page.css", "/page.js", "/icon.svg"];

    #[test]
    fn the_page_is_small_and_needs_no_other_origin() {
        let texts = FILES.map(|path| file(path).unwrap().1);
        let size: usize = texts.iter().map(|text| text.len()).sum();
        assert!(size < 40_000, "{size}");
        // Relative, so that it also works behind a path of a proxy.
        for name in ["page.css", "page.js", "icon.svg"] {
            assert!(texts[0].contains(&format!("=\"{name}\"")), "{name}");
        }
        for text in texts {
            let text = text.replace("http://www.w3.org/2000/svg", "");
            for foreign in ["http:", "https:", "=\"//", "url("] {
                assert!(!text.contains(foreign), "{foreign}");
            }
        }
    }

    #[test]
    fn the_page_contains_nothing_that_its_policy_forbids() {
        let (_, page) = file("/").unwrap();
        assert_eq!(page.matches("<script").count(), 1);
        for inline in ["<style", " style=", " onclick=", "<script>"] {
            assert!(!page.contains(inline), "{inline}");
        }
        let (_, script) = file("/page.js").unwrap();
        for way in ["innerHTML", "outerHTML", "insertAdjacentHTML", "eval("] {
            assert!(!script.contains(way), "{way}");
        }
    }
}
