//! The turns of the two sides: a change of the machine during a run affects both.

use anyhow::{Context, Result};

use crate::row::Values;
use crate::server::Side;

/// Measures both sides in each round, in an order that alternates. Returns the values of each
/// figure. A side returns none for a figure that it does not have.
pub(crate) fn alternate<const N: usize>(
    rounds: usize,
    mut measure: impl FnMut(Side) -> Result<[Option<f64>; N]>,
) -> Result<Vec<Values>> {
    let mut values = vec![Values::default(); N];
    for round in 0..rounds {
        let mut sides = [Side::Ours, Side::Peer];
        if round % 2 == 1 {
            sides.reverse();
        }
        for side in sides {
            let measured = measure(side);
            let measured = measured.with_context(|| format!("{side:?}, round {}", round + 1))?;
            for (values, value) in values.iter_mut().zip(measured) {
                match side {
                    Side::Ours => values.ours.extend(value),
                    Side::Peer => values.peer.extend(value),
                }
            }
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sides_take_turns_and_a_missing_value_is_left_out() {
        let mut turns = Vec::new();
        let values = alternate(2, |side| {
            turns.push(side);
            let turn = turns.len() as f64;
            Ok([Some(turn), (side == Side::Ours).then_some(turn)])
        });
        let values = values.unwrap();
        assert_eq!(turns, [Side::Ours, Side::Peer, Side::Peer, Side::Ours]);
        assert_eq!(
            (&values[0].ours[..], &values[0].peer[..]),
            (&[1.0, 4.0][..], &[2.0, 3.0][..])
        );
        assert_eq!((values[1].ours.len(), values[1].peer.len()), (2, 0));
    }
}
