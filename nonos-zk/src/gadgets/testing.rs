//! What the tests of circuits share.

use std::collections::BTreeMap;

use ark_ff::PrimeField;
use ark_relations::gr1cs::ConstraintSystemRef;

/// The bits of bytes, the lowest of each first.
pub(crate) fn bits_of(bytes: &[u8]) -> impl Iterator<Item = bool> {
    bytes.iter().flat_map(|byte| (0..8).map(move |position| (byte >> position) & 1 == 1))
}

/// The other way round.
pub(crate) fn bytes_of(bits: impl Iterator<Item = bool>) -> Vec<u8> {
    let bits: Vec<u8> = bits.map(u8::from).collect();
    bits.chunks(8).map(|byte| byte.iter().rev().fold(0, |sum, bit| sum << 1 | bit)).collect()
}

/// Changes every single variable of a satisfied system, leaving all others: none is free. Bits
/// are flipped, and set to two; all others are moved by one.
pub(crate) fn assert_no_wire_is_free<F: PrimeField>(cs: &ConstraintSystemRef<F>) {
    cs.finalize();
    let z = [cs.instance_assignment().unwrap(), cs.witness_assignment().unwrap()].concat();
    let matrices = cs.to_matrices().unwrap().remove("R1CS").unwrap();
    let products: Vec<Vec<F>> = matrices
        .iter()
        .map(|matrix| matrix.iter().map(|row| row.iter().map(|(c, at)| z[*at] * c).sum()).collect())
        .collect();
    // By variable: the rows it is in and its coefficients there.
    let mut uses = vec![BTreeMap::<usize, [F; 3]>::new(); z.len()];
    for (side, matrix) in matrices.iter().enumerate() {
        for (row, terms) in matrix.iter().enumerate() {
            for (coefficient, at) in terms {
                uses[*at].entry(row).or_default()[side] += coefficient;
            }
        }
    }
    let still_holds = |row: usize, [a, b, c]: [F; 3], by: F| {
        (products[0][row] + a * by) * (products[1][row] + b * by) == products[2][row] + c * by
    };
    let mut changes = 0;
    for (variable, rows) in uses.iter().enumerate().skip(1) {
        assert!(!rows.is_empty(), "variable {variable} is in no constraint");
        let value = z[variable];
        // Moved by one, flipped if a bit, and set to two.
        for by in [F::one(), F::one() - value - value, F::from(2u8) - value] {
            if by.is_zero() {
                continue;
            }
            changes += 1;
            let refused = rows.iter().any(|(row, terms)| !still_holds(*row, *terms, by));
            assert!(refused, "variable {variable} is free to move by {by}");
        }
    }
    assert!(changes > cs.num_witness_variables());
}
