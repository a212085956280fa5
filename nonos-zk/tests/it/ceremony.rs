//! A ceremony for the real circuit.

use std::io::Cursor;
use std::path::PathBuf;

use nonos_zk::groth16::ceremony::{Ceremony, CeremonyError, InitialKey, PtauError};
use nonos_zk::groth16::{Groth16Prover, Groth16Verifier, KeySet, Provenance, VerifyingKey};
use nonos_zk::testing::{Run, insecure_ptau};
use nonos_zk::{Profile, Prover as _, Receipt, Verifier as _};

fn initial(power: u32) -> Result<InitialKey, PtauError> {
    let mut ptau = Cursor::new(insecure_ptau(power, [1; 32], true));
    InitialKey::from_ptau(Profile::Lite, &mut ptau, |_| ())
}

/// Three parties and a beacon, each working on the file of the one before; the keys prove and verify
/// without anybody's permission, read back from their bytes, too.
#[test]
fn lite_keys_of_a_ceremony_prove() {
    let power = InitialKey::power_needed(Profile::Lite).unwrap();
    let initial = initial(power).unwrap();
    let mut file = Ceremony::new(&initial).to_bytes();
    let refused = Ceremony::from_bytes(&file).unwrap().verify(&initial, |_| ());
    assert_eq!(refused.unwrap_err(), CeremonyError::NoContribution);
    for (seed, name) in ["ada", "bob", "eve"].into_iter().enumerate() {
        let mut ceremony = Ceremony::from_bytes(&file).unwrap();
        ceremony.contribute(name, [u8::try_from(seed).unwrap(); 32]).unwrap();
        file = ceremony.to_bytes();
    }
    let mut ceremony = Ceremony::from_bytes(&file).unwrap();
    ceremony.beacon("the public", b"block 7", 10).unwrap();
    let keys = ceremony.verify(&initial, |step| println!("{step}")).unwrap();
    assert_eq!(keys.provenance(), Provenance::Ceremony { transcript: *ceremony.transcript().as_bytes() });

    let run = Run::honest(41, 3, 0);
    let keys = KeySet::from_bytes(&keys.to_bytes()).unwrap();
    let key = VerifyingKey::from_bytes(&keys.verifying_key().to_bytes()).unwrap();
    let proof = Groth16Prover::new(keys).unwrap().prove(&run.statement, &run.witness, [5; 32]).unwrap();
    let verifier = Groth16Verifier::new(key).unwrap();
    assert_eq!(verifier.verify(&run.statement, &proof), Ok(()));
    assert!(crate::verifier().verify(&run.statement, &proof).is_err(), "keys of another setup");
    assert!(verifier.verify(&Run::honest(42, 3, 0).statement, &proof).is_err());
}

#[test]
fn the_power_that_is_needed_is_told() {
    let needed = InitialKey::power_needed(Profile::Lite).unwrap();
    let error = initial(needed - 1).unwrap_err();
    assert!(
        matches!(error, PtauError::Power { found, needed: told } if (found, told) == (needed - 1, needed))
    );
    assert!(error.to_string().contains(&format!("power {needed} or more")), "{error}");
}

/// With the keys that `nonos zk ceremony verify` wrote, a receipt for `nonos zk verify` and snarkjs.
#[test]
#[ignore = "needs NONOS_CEREMONY, a folder with the keys of a ceremony; .ci/real_zk makes it"]
fn a_receipt_with_keys_of_a_ceremony() {
    let folder = PathBuf::from(std::env::var_os("NONOS_CEREMONY").expect("NONOS_CEREMONY names a folder"));
    let keys = KeySet::from_bytes(&std::fs::read(folder.join("lite.keys")).unwrap()).unwrap();
    assert!(matches!(keys.provenance(), Provenance::Ceremony { .. }));
    let key = VerifyingKey::from_bytes(&std::fs::read(folder.join("lite.vk")).unwrap()).unwrap();
    assert_eq!(key.id(), keys.verifying_key().id());
    let run = Run::honest(43, 5, 1);
    let proof = Groth16Prover::new(keys).unwrap().prove(&run.statement, &run.witness, [6; 32]).unwrap();
    let receipt = Receipt::sign(&run.receipt(proof, key.id()), &run.exec_key).unwrap();
    std::fs::write(folder.join("run.receipt"), receipt.as_bytes()).unwrap();
}

/// A `.ptau` that snarkjs made and the same prepared for phase 2 by it lead to one first key.
#[test]
#[ignore = "needs NONOS_CEREMONY, a folder with plain.ptau and prepared.ptau; .ci/real_zk makes it"]
fn powers_by_others_plain_and_prepared() {
    let folder = PathBuf::from(std::env::var_os("NONOS_CEREMONY").expect("NONOS_CEREMONY names a folder"));
    let [plain, prepared] = ["plain.ptau", "prepared.ptau"].map(|name| {
        let mut file = std::fs::File::open(folder.join(name)).unwrap();
        let key = InitialKey::from_ptau(Profile::Lite, &mut file, |_| ()).unwrap();
        key.digest()
    });
    assert_eq!(plain, prepared);
}
