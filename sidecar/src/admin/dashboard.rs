//! What a browser gets: the page and its parts, and what it is told about them.

use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderMap, HeaderName, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};

/// Everything comes from here, nothing is written into the page, and nobody
/// shows it in a frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// For every answer: there is nothing here for other sites to use, and what is
/// seen is true only at that moment.
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

/// The type and the text of a part of the page.
pub(crate) fn part(path: &str) -> Option<(&'static str, &'static str)> {
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

/// Puts into an answer what is for every answer.
pub(crate) fn protect(headers: &mut HeaderMap) {
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const PARTS: [&str; 4] = ["/", "/page.css", "/page.js", "/icon.svg"];

    #[test]
    fn the_page_is_small_and_whole() {
        let texts = PARTS.map(|path| part(path).unwrap().1);
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
    fn the_page_has_nothing_that_its_policy_forbids() {
        let (_, page) = part("/").unwrap();
        assert_eq!(page.matches("<script").count(), 1);
        for inline in ["<style", " style=", " onclick=", "<script>"] {
            assert!(!page.contains(inline), "{inline}");
        }
        let (_, script) = part("/page.js").unwrap();
        for way in ["innerHTML", "outerHTML", "insertAdjacentHTML", "eval("] {
            assert!(!script.contains(way), "{way}");
        }
    }
}
