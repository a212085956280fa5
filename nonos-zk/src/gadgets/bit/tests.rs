use ark_bn254::Fr;
use ark_relations::gr1cs::ConstraintSystem;

use super::*;

/// What an operand is: a constant, a wire, or a negated wire.
const KINDS: [&str; 3] = ["constant", "wire", "negated"];

fn operand(cs: &ConstraintSystemRef<Fr>, kind: &str, value: bool) -> Bit {
    match kind {
        "constant" => Bit::constant(value),
        "wire" => Bit::witness(cs, Some(value)).unwrap(),
        _ => Bit::witness(cs, Some(!value)).unwrap().not(),
    }
}

type Gate = fn(&ConstraintSystemRef<Fr>, [Bit; 3]) -> Result<Bit, SynthesisError>;

/// For every kind and value of operands the output is right, and no other element of the field
/// satisfies its constraint: the constraint is linear in it, with a coefficient that is not 0.
fn check(gate: Gate, native: fn([bool; 3]) -> bool) {
    for case in 0..27 * 8 {
        let kinds = [case % 3, case / 3 % 3, case / 9 % 3].map(|kind| KINDS[kind]);
        let values = [0, 1, 2].map(|position| (case / 27) >> position & 1 == 1);
        let cs = ConstraintSystem::<Fr>::new_ref();
        let mut operands = kinds.iter().zip(values).map(|(kind, value)| operand(&cs, kind, value));
        let operands = core::array::from_fn(|_| operands.next().unwrap());
        let before = cs.num_constraints();
        let output = gate(&cs, operands).unwrap();
        assert_eq!(output.value(), Some(native(values)), "{kinds:?} {values:?}");
        assert!(cs.is_satisfied().unwrap());
        let added = cs.num_constraints() - before;
        assert!(added <= 1, "{kinds:?}");
        if added == 1 {
            cs.finalize();
            let matrices = cs.to_matrices().unwrap().remove("R1CS").unwrap();
            let z = [cs.instance_assignment().unwrap(), cs.witness_assignment().unwrap()].concat();
            let at = z.len() - 1;
            let last: Vec<_> = matrices.iter().map(|matrix| matrix.last().unwrap().clone()).collect();
            let coefficient = |side: usize| -> Fr {
                last[side].iter().filter(|(_, column)| *column == at).map(|(c, _)| *c).sum()
            };
            let value = |side: usize| -> Fr { last[side].iter().map(|(c, column)| z[*column] * c).sum() };
            assert_eq!(coefficient(0), Fr::from(0), "linear in the output");
            assert_ne!(value(0) * coefficient(1) - coefficient(2), Fr::from(0), "{kinds:?} {values:?}");
        }
    }
}

#[test]
fn xor3_has_one_output() {
    check(Bit::xor3, |[a, b, c]| a ^ b ^ c);
}

#[test]
fn chi_has_one_output() {
    check(Bit::chi, |[a, b, c]| a ^ (!b & c));
}

#[test]
fn a_bit_is_no_other_number() {
    let cs = ConstraintSystem::<Fr>::new_ref();
    Bit::witness(&cs, Some(true)).unwrap();
    cs.finalize();
    let matrices = cs.to_matrices().unwrap().remove("R1CS").unwrap();
    let holds = |bit: Fr| {
        let side = |matrix: usize| -> Fr {
            matrices[matrix][0].iter().map(|(c, column)| if *column == 0 { *c } else { bit * c }).sum()
        };
        side(0) * side(1) == side(2)
    };
    assert!(holds(Fr::from(0)) && holds(Fr::from(1)));
    assert!(!holds(Fr::from(2)) && !holds(-Fr::from(1)));
}

#[test]
fn a_setup_has_no_values() {
    let cs = ConstraintSystem::<Fr>::new_ref();
    cs.set_mode(ark_relations::gr1cs::SynthesisMode::Setup);
    let bits = [(); 3].map(|()| Bit::witness(&cs, None).unwrap());
    assert_eq!(Bit::xor3(&cs, bits).unwrap().value(), None);
    assert_eq!(Bit::chi(&cs, bits).unwrap().value(), None);
    assert_eq!(cs.num_constraints(), 5);
}
