//! What opens a keystore, from the command line, files and the environment. Secrets are never
//! arguments: every user of the machine can read those.

use std::error::Error;
use std::io::BufRead as _;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use nonos_identity::keystore::{
    KekSource, Label, Passphrase as PassphraseSource, RecoveryKey, RecoveryPhrase, RecoveryPublic,
};
use zeroize::Zeroizing;

use super::super::Passphrase;
use super::{random, write_new};

type Source = Result<Box<dyn KekSource>, Box<dyn Error>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Means {
    /// A passphrase
    Passphrase,
    /// 24 words on paper
    Phrase,
    /// An X25519 key that is kept elsewhere
    RecoveryKey,
    /// A secret in a PKCS#11 token
    Token,
    /// The TPM of this machine
    Tpm,
}

#[derive(Debug, Args)]
pub(super) struct Device {
    /// Library of the PKCS#11 token
    #[arg(long, value_name = "FILE")]
    module: Option<PathBuf>,
    /// Label of the PKCS#11 token; its PIN is read from NONOS_PIN
    #[arg(long, value_name = "LABEL")]
    token: Option<Label>,
    /// Label of the secret in the PKCS#11 token
    #[arg(long, value_name = "LABEL", default_value = "nonos-keystore")]
    secret: Label,
    /// How the TPM is reached
    #[arg(long, value_name = "TCTI", default_value = "device:/dev/tpmrm0")]
    tpm: String,
}

/// How the keystore opens.
#[derive(Debug, Args)]
pub(super) struct Unlock {
    /// What to open the keystore with
    #[arg(long, value_enum, default_value_t = Means::Passphrase, value_name = "MEANS")]
    with: Means,
    #[command(flatten)]
    passphrase: Passphrase,
    /// File with the 24 words; otherwise NONOS_RECOVERY_PHRASE is read
    #[arg(long, value_name = "FILE")]
    phrase_file: Option<PathBuf>,
    /// File with the secret half of the recovery key, 64 hexadecimal digits
    #[arg(long, value_name = "FILE")]
    recovery_key_file: Option<PathBuf>,
    #[command(flatten)]
    pub(super) device: Device,
}

impl Unlock {
    pub(super) fn source(&self) -> Source {
        match self.with {
            Means::Passphrase => {
                let text = Zeroizing::new(self.passphrase.read()?);
                Ok(Box::new(PassphraseSource::new(text.as_bytes())))
            }
            Means::Phrase => {
                let text = match &self.phrase_file {
                    Some(path) => read(path)?,
                    None => Zeroizing::new(std::env::var("NONOS_RECOVERY_PHRASE").map_err(
                        |_| "the recovery phrase is missing: give --phrase-file FILE or set NONOS_RECOVERY_PHRASE",
                    )?),
                };
                Ok(Box::new(RecoveryPhrase::parse(&text)?))
            }
            Means::RecoveryKey => {
                let path = self.recovery_key_file.as_ref().ok_or(
                    "the recovery key is missing: give --recovery-key-file FILE with its secret half",
                )?;
                let bytes = Zeroizing::new(key_bytes(&read(path)?, &path.display().to_string())?);
                Ok(Box::new(RecoveryKey::from_bytes(&bytes)))
            }
            Means::Token => self.device.token(false),
            Means::Tpm => self.device.tpm(&[]),
        }
    }
}

/// What a new slot opens with.
#[derive(Debug, Args)]
pub(super) struct NewMeans {
    /// File with the new passphrase on its first line; otherwise NONOS_NEW_PASSPHRASE is read
    #[arg(long, value_name = "FILE")]
    new_passphrase_file: Option<PathBuf>,
    /// Write the 24 words to this new file instead of the terminal, and ask nothing
    #[arg(long, value_name = "FILE")]
    phrase_out: Option<PathBuf>,
    /// Public half of the recovery key, 64 hexadecimal digits
    #[arg(long, value_name = "HEX", conflicts_with = "recovery_key_out")]
    recipient: Option<String>,
    /// Make a recovery key and write its secret half to this new file, to be kept elsewhere
    #[arg(long, value_name = "FILE")]
    recovery_key_out: Option<PathBuf>,
    /// Make the secret in the token first
    #[arg(long)]
    make_secret: bool,
    /// PCRs of the TPM that must not change
    #[arg(long, value_name = "PCR", value_delimiter = ',', default_value = "7")]
    pcrs: Vec<u8>,
}

impl NewMeans {
    pub(super) fn source(&self, kind: Means, device: &Device, json: bool) -> Source {
        match kind {
            Means::Passphrase => self.passphrase(),
            Means::Phrase => self.phrase(json),
            Means::RecoveryKey => self.recovery_key(),
            Means::Token => device.token(self.make_secret),
            Means::Tpm => device.tpm(&self.pcrs),
        }
    }

    fn passphrase(&self) -> Source {
        let text = match &self.new_passphrase_file {
            Some(path) => read(path)?,
            None => Zeroizing::new(std::env::var("NONOS_NEW_PASSPHRASE").map_err(
                |_| "the new passphrase is missing: give --new-passphrase-file FILE or set NONOS_NEW_PASSPHRASE",
            )?),
        };
        let line = text.lines().next().unwrap_or_default();
        if line.is_empty() {
            return Err("the new passphrase is empty: whoever gets the file would own the node".into());
        }
        Ok(Box::new(PassphraseSource::new(line.as_bytes())))
    }

    fn phrase(&self, json: bool) -> Source {
        let phrase = RecoveryPhrase::from_entropy(&*random()?)?;
        let words = phrase.words();
        if let Some(path) = &self.phrase_out {
            write_new(path, &[words.as_bytes(), b"\n"].concat())?;
            return Ok(Box::new(phrase));
        }
        if json {
            return Err(
                "with --json nobody can be asked whether the words are on paper: give --phrase-out FILE"
                    .into(),
            );
        }
        eprintln!("these words open the keystore, and are never shown again; write them down:");
        for (at, word) in (1..).zip(words.split(' ')) {
            eprintln!("{at:>4} {word}");
        }
        let [a, b, c] = *random::<3>()?;
        let asked = [a % 8, 8 + b % 8, 16 + c % 8].map(usize::from);
        let numbers = asked.map(|at| (at + 1).to_string()).join(", ");
        eprintln!("type the words {numbers}:");
        let mut answer = Zeroizing::new(String::new());
        std::io::stdin().lock().read_line(&mut answer)?;
        let expected = asked.iter().filter_map(|at| words.split(' ').nth(*at));
        if !answer.split_whitespace().map(str::to_ascii_lowercase).eq(expected) {
            return Err(
                "these are not the words; no slot was added. Begin again: other words will be shown".into()
            );
        }
        Ok(Box::new(phrase))
    }

    fn recovery_key(&self) -> Source {
        if let Some(path) = &self.recovery_key_out {
            let bytes = random::<32>()?;
            let key = RecoveryKey::from_bytes(&bytes);
            let text = Zeroizing::new(data_encoding::HEXLOWER.encode(&*bytes) + "\n");
            write_new(path, text.as_bytes())?;
            eprintln!("wrote the secret half to {}: keep it elsewhere", path.display());
            return Ok(Box::new(key.public()));
        }
        let text = self
            .recipient
            .as_ref()
            .ok_or("whose key? give --recipient HEX, or --recovery-key-out FILE to make one")?;
        Ok(Box::new(RecoveryPublic::from_bytes(key_bytes(text, "--recipient")?)))
    }
}

impl Device {
    #[cfg(feature = "pkcs11")]
    fn token(&self, make_secret: bool) -> Source {
        use nonos_identity::pkcs11::Token;
        let module = self
            .module
            .as_ref()
            .ok_or("which library? give --module FILE, for SoftHSM2 /usr/lib/softhsm/libsofthsm2.so")?;
        let label = self.token.as_ref().ok_or("which token? give --token LABEL")?;
        let pin =
            Zeroizing::new(std::env::var("NONOS_PIN").map_err(|_| "the token needs its PIN: set NONOS_PIN")?);
        let token = Token::open(module, label, &pin)?;
        if make_secret {
            token.generate_secret(&self.secret)?;
        }
        Ok(Box::new(token.secret(&self.secret)?))
    }

    #[cfg(not(feature = "pkcs11"))]
    fn token(&self, _: bool) -> Source {
        let _ = (&self.module, &self.token, &self.secret);
        Err("this nonos knows no tokens: build it with --features pkcs11".into())
    }

    #[cfg(feature = "tpm2")]
    fn tpm(&self, pcrs: &[u8]) -> Source {
        use nonos_identity::tpm2::Tpm;
        // To open, the PCRs of the slot count.
        let pcrs = if pcrs.is_empty() { Tpm::SECURE_BOOT } else { pcrs };
        Ok(Box::new(Tpm::new(&self.tpm, pcrs)?))
    }

    #[cfg(not(feature = "tpm2"))]
    fn tpm(&self, _: &[u8]) -> Source {
        let _ = &self.tpm;
        Err("this nonos knows no TPM: build it with --features tpm2".into())
    }
}

fn read(path: &Path) -> Result<Zeroizing<String>, Box<dyn Error>> {
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    Ok(Zeroizing::new(text))
}

fn key_bytes(text: &str, what: &str) -> Result<[u8; 32], Box<dyn Error>> {
    let mut bytes = [0; 32];
    let text = text.trim().as_bytes();
    let is_key = text.len() == 64 && data_encoding::HEXLOWER_PERMISSIVE.decode_mut(text, &mut bytes).is_ok();
    if is_key { Ok(bytes) } else { Err(format!("{what} is not a key of 64 hexadecimal digits").into()) }
}
