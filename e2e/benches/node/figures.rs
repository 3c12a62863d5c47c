//! The document that `bench` reads.

use serde_json::{Value, json};

/// Returns the document of a row: the values of each figure, ours and the peer's, one for each
/// round.
pub(crate) fn document<const N: usize>(figures: [(Vec<f64>, Vec<f64>); N]) -> Value {
    let values = figures.map(|(ours, peer)| json!({"ours": ours, "peer": peer}));
    json!({"values": values.to_vec()})
}

/// Returns the lowest value that at least this share of the values do not exceed.
pub(crate) fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (values.len() as f64 * share).ceil() as usize;
    values[rank.max(1) - 1]
}
