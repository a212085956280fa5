use nonos_identity::Digest;

use crate::proof::Profile;

/// How many constraints each gate of a circuit takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GateSizes {
    /// Payload and commitment; none in `Lite`.
    pub hash: usize,
    /// Limits, policy and execution commitment.
    pub state: usize,
    /// Key, membership, nullifier, and link to the execution key.
    pub identity: usize,
}

impl GateSizes {
    /// Constraints in all.
    #[must_use]
    pub const fn total(&self) -> usize {
        self.hash + self.state + self.identity
    }
}

/// Sizes and digest of a circuit: known, so that nobody has to build it to look for its keys. A test
/// builds it and compares.
struct Shape {
    sizes: GateSizes,
    digest: &'static str,
}

const fn shape(profile: Profile) -> Shape {
    match profile {
        Profile::Lite => Shape {
            sizes: GateSizes { hash: 0, state: 1493, identity: 6294 },
            digest: "fcd22dca8af737c3c90b87c5241e6d87d4685906dd480a2a796b81f8078f7692",
        },
        Profile::Full => Shape {
            sizes: GateSizes { hash: 91_143, state: 1493, identity: 92_959 },
            digest: "391eea897b46c409c29ee600556be0842acd5569ebf826c16bc1c8a40b8db9d4",
        },
        Profile::Transit => Shape {
            sizes: GateSizes { hash: 0, state: 499, identity: 6294 },
            digest: "36e22788b9a776acee89ddb8316596b39ad1bbe8e3f9c79727961d9c4750c27a",
        },
    }
}

/// How many constraints each gate of a profile's circuit takes.
#[must_use]
pub const fn gate_sizes(profile: Profile) -> GateSizes {
    shape(profile).sizes
}

/// Digest of the constraint matrices: two builds that agree on it agree on the circuit.
pub(in crate::groth16) fn circuit_digest(profile: Profile) -> Digest {
    shape(profile).digest.parse().expect("a test reads every one of them")
}

#[cfg(test)]
mod tests {
    use ark_bn254::Fr;
    use ark_relations::gr1cs::{ConstraintSystem, R1CS_PREDICATE_LABEL, SynthesisMode};
    use nonos_identity::RunningDigest;

    use super::super::super::matrices::Matrices;
    use super::super::Blank;
    use super::*;
    use crate::domains;

    /// Numbers of variables, then each matrix row by row.
    fn built(profile: Profile) -> (GateSizes, Digest) {
        let cs = ConstraintSystem::<Fr>::new_ref();
        cs.set_mode(SynthesisMode::Setup);
        let sizes = Blank::of(profile).synthesize(&cs).unwrap();
        let matrices = Matrices::<Fr>::of(Blank::of(profile)).unwrap();
        let mut digest = RunningDigest::new(domains::CIRCUIT);
        let variables = [matrices.instance, matrices.witness];
        digest.field(&variables.map(|count| (count as u64).to_le_bytes()).concat());
        digest.field(R1CS_PREDICATE_LABEL.as_bytes());
        for matrix in matrices.rows {
            digest.field(&(matrix.len() as u64).to_le_bytes());
            for row in matrix {
                let term = |(coefficient, column): &(Fr, usize)| {
                    [&(*column as u64).to_le_bytes()[..], &crate::element::print(coefficient)].concat()
                };
                digest.field(&row.iter().flat_map(term).collect::<Vec<_>>());
            }
        }
        (sizes, digest.digest())
    }

    #[test]
    fn the_known_shapes_are_those_of_the_circuits() {
        for profile in Profile::ALL {
            let (sizes, digest) = built(profile);
            assert_eq!(
                (gate_sizes(profile), shape(profile).digest),
                (sizes, &*digest.to_string()),
                "{profile}"
            );
        }
    }
}
