//! Derives a node's keys from one seed, certifies one of them, and refuses the certificate in
//! another mesh.
//!
//! Run with `cargo run -p nonos-examples --bin identity`. It prints:
//! ```text
//! node         22388cb0
//! epoch-signer 646da885
//! author       73285e0d
//! settlement   b3c19ad6
//! unlinked     true
//! onion        54ogj3cyabeq6rn5u6yimo2ola6bm5jsjxtid3gbamtnbnpiclsuowco.non
//! accepted     646da885 acts for 22388cb0
//! refused      in another mesh: root signature does not verify
//! ```
#![expect(clippy::print_stdout, reason = "an example talks to its reader")]

use std::error::Error;
use std::time::Duration;

use nonos_identity::{
    Certificate, CertificateError, Identity, NetworkId, OnionAddress, OnionNetwork, Role, Timestamp,
    Unverified, wire,
};

fn main() -> Result<(), Box<dyn Error>> {
    // Time and randomness are arguments: a node takes them from its clock and the system.
    let now = Timestamp::from_secs(1_800_000_000);
    let identity = Identity::from_seed(&[7; 64]);
    let (mesh, other) = (NetworkId::from_name("example"), NetworkId::from_name("another"));

    // ANCHOR: roles
    println!("node         {}", identity.node_id().short());
    for role in [Role::EpochSigner, Role::Author, Role::Settlement] {
        println!("{role:<13}{}", identity.signing_key(role, 0).public().node_id().short());
    }
    // Two meshes see unrelated transport keys of one node.
    let here = identity.transport_key(&mesh).public();
    let there = identity.transport_key(&other).public();
    println!("unlinked     {}", here != there);
    // ANCHOR_END: roles
    let onion = OnionAddress::new(OnionNetwork::Mesh, identity.signing_key(Role::Onion, 0).public());
    println!("onion        {onion}");

    // ANCHOR: certificate
    // The root vouches for the key that signs records, for a day, in this mesh alone.
    let day = Duration::from_secs(24 * 3600);
    let signer = identity.signing_key(Role::EpochSigner, 0);
    let issued = Certificate::issue(&identity.root_key(), &signer, Role::EpochSigner, 1, now, day, &mesh)?;
    let bytes = wire::to_bytes(&issued);

    // A peer decodes it, and can read it only once it is checked.
    let received: Certificate = wire::from_bytes(&bytes)?;
    let checked = Unverified::new(received.clone()).check_issued(Role::EpochSigner, &mesh, now)?;
    println!("accepted     {} acts for {}", checked.subject().node_id().short(), checked.node().short());
    // ANCHOR_END: certificate

    // ANCHOR: refusal
    match Unverified::new(received).check_issued(Role::EpochSigner, &other, now) {
        Err(error @ CertificateError::RootSignature) => println!("refused      in another mesh: {error}"),
        other => return Err(format!("a foreign certificate was not refused: {other:?}").into()),
    }
    // ANCHOR_END: refusal
    Ok(())
}
