//! A keystore slot sealed by swtpm, which `.ci/real identity` installs.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nonos_identity::keystore::{
    KekError, KekSource as _, Keystore, NewSlot, OpenError, OpenKeystore, RecoveryKey, SlotKind,
};
use nonos_identity::testing::{MemoryKeyStore, check_kek_source};
use nonos_identity::tpm2::Tpm;
use nonos_identity::{NodeId, Seed, Timestamp};
use tempfile::TempDir;
use zeroize::Zeroizing;

const NOW: Timestamp = Timestamp::from_secs(1_777_777_777);

/// A TPM of its own, on two loopback ports.
struct SwTpm {
    process: Child,
    tcti: String,
    _state: TempDir,
}

impl SwTpm {
    fn start() -> Self {
        let state = TempDir::new().expect("temporary directory");
        let port = free_ports();
        let process = Command::new("swtpm")
            .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
            .arg("--tpmstate")
            .arg(format!("dir={}", state.path().display()))
            .arg("--server")
            .arg(format!("type=tcp,bindaddr=127.0.0.1,port={port}"))
            .arg("--ctrl")
            .arg(format!("type=tcp,bindaddr=127.0.0.1,port={}", port + 1))
            .stdout(Stdio::null())
            .spawn()
            .expect("swtpm is installed");
        let tpm = Self { process, tcti: format!("swtpm:host=127.0.0.1,port={port}"), _state: state };
        for _ in 0..100 {
            if tpm.tool("tpm2_getrandom", &["4", "--hex"]) {
                return tpm;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("swtpm did not start");
    }

    fn tool(&self, name: &str, args: &[&str]) -> bool {
        let mut command = Command::new(name);
        command.args(args).env("TPM2TOOLS_TCTI", &self.tcti);
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("tpm2-tools").success()
    }

    fn extend(&self, pcr: u8) {
        let value = "01".repeat(32);
        assert!(self.tool("tpm2_pcrextend", &[&format!("{pcr}:sha256={value}")]));
    }
}

impl Drop for SwTpm {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Two neighbouring ports that nobody uses.
fn free_ports() -> u16 {
    loop {
        let first = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let port = first.local_addr().expect("address").port();
        if port < u16::MAX && TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
            return port;
        }
    }
}

#[test]
#[ignore = "needs swtpm and tpm2-tools"]
fn a_keystore_opens_on_one_machine_in_one_state() {
    let machine = SwTpm::start();
    let tpm = Tpm::new(&machine.tcti, Tpm::SECURE_BOOT).expect("configuration");
    check_kek_source(&tpm);

    let (store, key) = (MemoryKeyStore::default(), RecoveryKey::from_bytes(&[9; 32]));
    let mut entropy = Zeroizing::new([1; Keystore::ENTROPY_BYTES]);
    OpenKeystore::create(&store, &key.public(), &Seed::from_bytes(&[7; 64]), &entropy, NOW).expect("create");
    let mut opened = OpenKeystore::open(&store, &key).expect("open");
    entropy.fill(2);
    let new = NewSlot { source: &tpm, label: None, created: Some(NOW), entropy: &entropy };
    let slot = opened.add(&new).expect("add");
    // Another value with other PCRs: those of the slot count.
    let same = Tpm::new(&machine.tcti, &[0, 16]).expect("configuration");
    for tpm in [&tpm, &same] {
        let by_tpm = OpenKeystore::open(&store, tpm).expect("open");
        assert_eq!(by_tpm.identity().node_id(), opened.identity().node_id());
    }

    machine.extend(16);
    assert!(OpenKeystore::open(&store, &tpm).is_ok(), "PCR 16 is not in the policy");
    let other_machine = SwTpm::start();
    let elsewhere = Tpm::new(&other_machine.tcti, Tpm::SECURE_BOOT).expect("configuration");
    let outcome = OpenKeystore::open(&store, &elsewhere).map(|_| ());
    assert!(matches!(outcome, Err(OpenError::WrongKey(SlotKind::Tpm))), "{outcome:?}");

    machine.extend(7);
    let outcome = OpenKeystore::open(&store, &tpm).map(|_| ());
    assert!(matches!(outcome, Err(OpenError::Source(KekError::Refused(_)))), "{outcome:?}");

    // The slot is made anew in the new state.
    entropy.fill(3);
    let new = NewSlot { source: &tpm, label: None, created: Some(NOW), entropy: &entropy };
    opened.rewrap(slot, &new).expect("rewrap");
    assert!(OpenKeystore::open(&store, &tpm).is_ok());
}

#[test]
#[ignore = "needs swtpm and tpm2-tools"]
fn altered_params_and_a_missing_tpm_are_errors() {
    let machine = SwTpm::start();
    let tpm = Tpm::new(&machine.tcti, &[7, 16]).expect("configuration");
    let root = NodeId::from_bytes([1; 32]);
    let new = tpm.fresh(root, &[3; 32]).expect("fresh");
    for at in (0..new.params.len()).step_by(7) {
        let mut altered = new.params.clone();
        altered[at] ^= 1;
        assert!(tpm.recover(root, &altered).is_err(), "byte {at}");
    }
    assert_eq!(tpm.recover(root, &new.params).expect("recover").as_bytes(), &[3; 32]);
    drop(machine);
    let outcome = tpm.recover(root, &new.params);
    assert!(matches!(outcome, Err(KekError::Unavailable(_))), "{outcome:?}");
}

#[test]
fn a_policy_of_no_pcr_is_refused() {
    for pcrs in [&[][..], &[24], &[7, 31], &[255]] {
        assert!(matches!(Tpm::new("device:/dev/tpmrm0", pcrs), Err(KekError::Weak(_))), "{pcrs:?}");
    }
    assert!(matches!(Tpm::new("what", &[7]), Err(KekError::Unavailable(_))));
}
