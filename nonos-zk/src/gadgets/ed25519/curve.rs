//! The curve outside the circuit: multiples of the base point in the tables of the windows.

use std::sync::OnceLock;

use ark_ff::{AdditiveGroup as _, Field as _, Fp256, MontBackend, MontConfig, MontFp};

/// Parameters of the field of `2^255 - 19`.
#[derive(MontConfig)]
#[modulus = "57896044618658097711785492504343953926634992332820282019728792003956564819949"]
#[generator = "2"]
pub(super) struct FqConfig;

/// The field of Curve25519.
pub(super) type Fq = Fp256<MontBackend<FqConfig, 4>>;

/// The curve is `v^2 = u^3 + A u^2 + u` (RFC 7748, section 4.1).
pub(super) const A: u64 = 486_662;

/// The base point (RFC 7748, section 4.1).
const BASE: (Fq, Fq) =
    (MontFp!("9"), MontFp!("14781619447589544791020593568409986887264606134616475288964881837755586237401"));

/// `x` of the base point of Ed25519 (RFC 8032, section 5.1).
const BASE_X: Fq = MontFp!("15112221349535400772501151409588531511454012693041857206046113283949847762202");

pub(super) const WINDOW_BITS: usize = 8;

const WINDOWS: usize = 32;

/// What the digits of one window pick, by ascending digit; those that a clamped scalar cannot have
/// are left out.
pub(super) struct Window {
    pub(super) entries: Vec<(Fq, Fq)>,
}

/// `x = c u / v` with this `c`, a square root of -486664.
pub(super) fn to_edwards_factor() -> Fq {
    let (u, v) = BASE;
    BASE_X * v * u.inverse().unwrap_or_default()
}

/// The tables of all windows, the lowest first.
pub(super) fn windows() -> &'static [Window] {
    static TABLES: OnceLock<Vec<Window>> = OnceLock::new();
    TABLES.get_or_init(|| {
        let mut power = BASE;
        // What the windows so far have added too much.
        let mut surplus = None;
        let mut tables = Vec::new();
        for window in 0..WINDOWS {
            let is_last = window + 1 == WINDOWS;
            // Digit 0 and every digit after it.
            let mut entry = match surplus {
                Some(surplus) if is_last => negative(surplus),
                _ => power,
            };
            let mut entries = Vec::new();
            for digit in 0..1 << WINDOW_BITS {
                let is_possible = match window {
                    0 => digit % 8 == 0,
                    _ if is_last => digit >> 6 == 1,
                    _ => true,
                };
                if is_possible {
                    entries.push(entry);
                }
                entry = add(entry, power);
            }
            tables.push(Window { entries });
            surplus = Some(surplus.map_or(power, |surplus| add(surplus, power)));
            power = (0..WINDOW_BITS).fold(power, |power, _| add(power, power));
        }
        tables
    })
}

fn negative((u, v): (Fq, Fq)) -> (Fq, Fq) {
    (u, -v)
}

/// The sum of two points that are not opposite.
fn add((u1, v1): (Fq, Fq), (u2, v2): (Fq, Fq)) -> (Fq, Fq) {
    let (rise, run) = if u1 == u2 {
        (u1.square() * Fq::from(3) + u1.double() * Fq::from(A) + Fq::ONE, v1.double())
    } else {
        (v2 - v1, u2 - u1)
    };
    let slope = rise * run.inverse().unwrap_or_default();
    let u3 = slope.square() - Fq::from(A) - u1 - u2;
    (u3, slope * (u1 - u3) - v1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_point_is_that_of_both_curves() {
        let (u, v) = BASE;
        assert_eq!(v.square(), u.square() * u + Fq::from(A) * u.square() + u);
        // RFC 8032: y = 4/5, and the map of RFC 7748.
        assert_eq!((u - Fq::ONE) * Fq::from(5), (u + Fq::ONE) * Fq::from(4));
        assert_eq!(to_edwards_factor().square(), -Fq::from(486_664));
    }

    /// The affine sums that make the tables met no opposite points: what they give then is off the curve.
    #[test]
    fn all_entries_are_points() {
        for (u, v) in windows().iter().flat_map(|window| &window.entries) {
            assert_eq!(v.square(), u.square() * u + Fq::from(A) * u.square() + u);
        }
    }

    #[test]
    fn tables_are_of_the_clamped_digits() {
        let sizes: Vec<usize> = windows().iter().map(|window| window.entries.len()).collect();
        assert_eq!(sizes.len(), WINDOWS);
        assert_eq!((sizes[0], sizes[1], sizes[30], sizes[31]), (32, 256, 256, 64));
    }
}
