//! A root key, a seed and a keystore slot in SoftHSM2, which `.ci/real identity` installs.

use core::time::Duration;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use nonos_identity::keystore::{KekError, Keystore, Label, NewSlot, OpenError, OpenKeystore, RecoveryKey};
use nonos_identity::pkcs11::Token;
use nonos_identity::testing::{MemoryKeyStore, check_kek_source};
use nonos_identity::{
    Certificate, Domain, Identity, NetworkId, Role, RoleKeys, RootSigner as _, Seed, SeedSource as _,
    SignerError, Timestamp, Unverified,
};
use tempfile::TempDir;
use zeroize::Zeroizing;

const PIN: &str = "1234-5678";
const NOW: Timestamp = Timestamp::from_secs(1_777_777_777);
const DAY: Duration = Duration::from_secs(86_400);

fn module() -> PathBuf {
    let known = ["/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so"];
    let named = std::env::var_os("NONOS_PKCS11_MODULE").map(PathBuf::from);
    let found = named.into_iter().chain(known.map(PathBuf::from)).find(|path| path.exists());
    found.expect("SoftHSM2 is installed, or NONOS_PKCS11_MODULE names its library")
}

fn label(text: &str) -> Label {
    text.parse().expect("label")
}

fn open(pin: &str) -> Result<Arc<Token>, SignerError> {
    Token::open(module(), &label("nonos"), pin)
}

/// Runs a test of this file with tokens of its own: the library reads its environment, and a
/// process has one environment.
fn with_tokens(test: &str, inner: impl FnOnce()) {
    if std::env::var_os("NONOS_TEST_TOKENS").is_some() {
        return inner();
    }
    let dir = TempDir::new().expect("temporary directory");
    let conf = dir.path().join("softhsm2.conf");
    fs::write(&conf, format!("directories.tokendir = {}\n", dir.path().display())).expect("write");
    let init = Command::new("softhsm2-util")
        .args(["--init-token", "--free", "--label", "nonos", "--pin", PIN, "--so-pin", "8765-4321"])
        .env("SOFTHSM2_CONF", &conf)
        .output()
        .expect("softhsm2-util is installed");
    assert!(init.status.success(), "{init:?}");
    let run = Command::new(std::env::current_exe().expect("path"))
        .args(["--ignored", "--exact", &format!("pkcs11::{test}"), "--nocapture"])
        .env("SOFTHSM2_CONF", &conf)
        .env("NONOS_TEST_TOKENS", "1")
        .output()
        .expect("run");
    let text = String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
#[ignore = "needs SoftHSM2"]
fn a_root_in_a_token_certifies_and_its_role_keys_are_memory_only() {
    with_tokens("a_root_in_a_token_certifies_and_its_role_keys_are_memory_only", || {
        let token = open(PIN).expect("token");
        token.generate_root(&label("root")).expect("generate");
        token.generate_secret(&label("seed")).expect("generate");
        let root = token.root(&label("root")).expect("root");
        let network = NetworkId::from_name("test");

        let seed = token.secret(&label("seed")).expect("secret").seed_of(root.node_id());
        let roles = RoleKeys::from_seed(seed.seed().expect("seed").as_bytes());
        let subject = roles.transport_key(&network);
        let issued = Certificate::issue(&root, &subject, Role::Transport, 1, NOW, DAY, &network);
        let checked = Unverified::new(issued.expect("issue")).check_issued(Role::Transport, &network, NOW);
        assert_eq!(checked.expect("valid").node(), root.node_id());

        // Signatures bind domain, network and message, and many of them verify strictly.
        let (one, two) = (Domain::new("nonos/test/one/v1"), Domain::new("nonos/test/two/v1"));
        for number in 0..64_u32 {
            let message = number.to_le_bytes();
            let signature = root.sign_root(one, &network, &message).expect("sign");
            let verify = |domain, message| root.public().verify(domain, &network, message, &signature);
            assert!(verify(one, &message).is_ok() && verify(two, &message).is_err());
        }

        // The same secret gives the same seed after a new login, and another node another one.
        let same = token.secret(&label("seed")).expect("secret").seed_of(root.node_id());
        assert_eq!(same.seed().expect("seed").as_bytes(), seed.seed().expect("seed").as_bytes());
        let other = Identity::from_seed(&[7; 64]).node_id();
        let other = token.secret(&label("seed")).expect("secret").seed_of(other);
        assert_ne!(other.seed().expect("seed").as_bytes(), seed.seed().expect("seed").as_bytes());

        let taken = token.generate_root(&label("root"));
        assert!(matches!(taken, Err(SignerError::Refused(_))), "{taken:?}");
        let none = token.root(&label("nothing"));
        assert!(matches!(none, Err(SignerError::Unavailable(_))), "{none:?}");
        let not_a_root = token.root(&label("seed"));
        assert!(not_a_root.is_err());
    });
}

#[test]
#[ignore = "needs SoftHSM2"]
fn a_keystore_opens_with_a_token_and_not_with_a_wrong_pin_or_secret() {
    with_tokens("a_keystore_opens_with_a_token_and_not_with_a_wrong_pin_or_secret", || {
        let wrong = open("0000-0000");
        assert!(matches!(wrong, Err(SignerError::Refused(ref reason)) if reason == "wrong PIN"), "{wrong:?}");
        let no_token = Token::open(module(), &label("another"), PIN);
        assert!(matches!(no_token, Err(SignerError::Unavailable(_))), "{no_token:?}");
        let no_library = Token::open("/nonexistent.so", &label("nonos"), PIN);
        assert!(matches!(no_library, Err(SignerError::Unavailable(_))), "{no_library:?}");

        let token = open(PIN).expect("token");
        token.generate_secret(&label("keystore")).expect("generate");
        token.generate_secret(&label("other")).expect("generate");
        let secret = token.secret(&label("keystore")).expect("secret");
        check_kek_source(&secret);

        let (store, key) = (MemoryKeyStore::default(), RecoveryKey::from_bytes(&[9; 32]));
        let mut entropy = Zeroizing::new([1; Keystore::ENTROPY_BYTES]);
        let seed = Seed::from_bytes(&[7; 64]);
        OpenKeystore::create(&store, &key.public(), &seed, &entropy, NOW).expect("create");
        let mut opened = OpenKeystore::open(&store, &key).expect("open");
        entropy.fill(2);
        let new =
            NewSlot { source: &secret, label: Some(label("hsm")), created: Some(NOW), entropy: &entropy };
        opened.add(&new).expect("add");
        let by_token = OpenKeystore::open(&store, &secret).expect("open");
        assert_eq!(by_token.identity().node_id(), opened.identity().node_id());

        let other = token.secret(&label("other")).expect("secret");
        let outcome = OpenKeystore::open(&store, &other).map(|_| ());
        assert!(matches!(outcome, Err(OpenError::WrongKey(_))), "{outcome:?}");
    });
}

/// A secret of the same name in another token, or made anew, is another secret.
#[test]
#[ignore = "needs SoftHSM2"]
fn a_secret_made_anew_opens_nothing() {
    with_tokens("a_secret_made_anew_opens_nothing", || {
        let token = open(PIN).expect("token");
        token.generate_secret(&label("keystore")).expect("generate");
        let secret = token.secret(&label("keystore")).expect("secret");
        let (store, seed) = (MemoryKeyStore::default(), Seed::from_bytes(&[7; 64]));
        let entropy = Zeroizing::new([1; Keystore::ENTROPY_BYTES]);
        OpenKeystore::create(&store, &secret, &seed, &entropy, NOW).expect("create");
        assert!(OpenKeystore::open(&store, &secret).is_ok());
        let tool = Command::new("pkcs11-tool")
            .arg("--module")
            .arg(module())
            .args(["--token-label", "nonos", "--login", "--pin", PIN])
            .args(["--delete-object", "--type", "secrkey", "--label", "keystore"])
            .output()
            .expect("pkcs11-tool is installed");
        assert!(tool.status.success(), "{tool:?}");
        let gone = OpenKeystore::open(&store, &secret).map(|_| ());
        assert!(matches!(gone, Err(OpenError::Source(KekError::Unavailable(_)))), "{gone:?}");
        token.generate_secret(&label("keystore")).expect("generate");
        let anew = token.secret(&label("keystore")).expect("secret");
        let outcome = OpenKeystore::open(&store, &anew).map(|_| ());
        assert!(matches!(outcome, Err(OpenError::WrongKey(_))), "{outcome:?}");
    });
}
