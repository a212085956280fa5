//! The root key, the seed of the role keys and a keystore slot in a PKCS#11 token.
//!
//! The token's library is loaded when a [`Token`] is opened; it is foreign code in this process,
//! with access to all of its memory. What the token adds: its keys cannot be copied, not by who
//! copies the disk, nor, if the token is hardware, by who reads this process's memory. Whoever
//! controls the process can use them as long as the token is logged in.

use core::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::types::{AuthPin, Ulong};
use minicbor::{Decode, Encode};
use zeroize::Zeroizing;

use crate::domain::Domain;
use crate::domains::{TOKEN_KEK, TOKEN_SEED};
use crate::key::{NodeId, PublicKey, Signature};
use crate::keystore::{Kek, KekError, KekSource, Label, NewKek, SlotKind};
use crate::network::NetworkId;
use crate::seed::{Seed, SeedSource};
use crate::signer::{RootSigner, SignerError};
use crate::wire::{self, Wire};

/// The curve as `PrintableString "edwards25519"`, and as the object identifier of RFC 8410. The
/// standard allows both; a token takes the one or the other.
const CURVES: [&[u8]; 2] = [b"\x13\x0cedwards25519", b"\x06\x03\x2b\x65\x70"];

/// What `EC_POINT` puts before the key: an `OCTET STRING` of 32 bytes.
const POINT_PREFIX: [u8; 2] = [0x04, 0x20];

/// Output of HMAC-SHA512, and length of the secrets made here.
const HMAC_BYTES: usize = 64;

/// A token with an open, logged-in session. Calls of all threads go through it one by one.
///
/// Nothing tries a PIN twice: after a few wrong ones a token locks itself. A session that was
/// lost is not opened again, because the PIN is not kept; open another `Token`.
pub struct Token {
    session: Mutex<Session>,
    label: Label,
}

impl Token {
    /// Loads a token's library, finds the token by its label and logs in as its user. In a
    /// process that is logged in to the token already, the PIN is not checked again.
    ///
    /// # Errors
    /// [`SignerError::Unavailable`] if there is no such library or token, or two of that label;
    /// [`SignerError::Refused`] for a wrong PIN.
    pub fn open(module: impl AsRef<Path>, label: &Label, pin: &str) -> Result<Arc<Self>, SignerError> {
        let context = Pkcs11::new(module).map_err(fault)?;
        match context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
            Err(error) => return Err(fault(error)),
        }
        let mut found = Vec::new();
        for slot in context.get_slots_with_initialized_token().map_err(fault)? {
            if context.get_token_info(slot).map_err(fault)?.label() == label.as_str() {
                found.push(slot);
            }
        }
        let slot = match found[..] {
            [slot] => slot,
            [] => return Err(SignerError::Unavailable(format!("no token is called {label}"))),
            _ => return Err(SignerError::Unavailable(format!("several tokens are called {label}"))),
        };
        let session = context.open_rw_session(slot).map_err(fault)?;
        match session.login(UserType::User, Some(&AuthPin::from(pin))) {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {}
            Err(error) => return Err(fault(error)),
        }
        Ok(Arc::new(Self { session: Mutex::new(session), label: label.clone() }))
    }

    /// Makes an Ed25519 key in the token, which never leaves it, for [`Self::root`].
    ///
    /// # Errors
    /// [`SignerError::Refused`] if the label is taken; otherwise the token's refusal.
    pub fn generate_root(&self, label: &Label) -> Result<(), SignerError> {
        let session = self.session();
        free(&session, label)?;
        let private = [
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Sign(true),
            Attribute::Label(label.as_str().into()),
        ];
        let mut refused = None;
        for curve in CURVES {
            let public = [
                Attribute::Token(true),
                Attribute::Private(false),
                Attribute::Verify(true),
                Attribute::EcParams(curve.into()),
                Attribute::Label(label.as_str().into()),
            ];
            match session.generate_key_pair(&Mechanism::EccEdwardsKeyPairGen, &public, &private) {
                Ok(_) => return Ok(()),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        Err(refused.map_or(SignerError::Faulty, fault))
    }

    /// Makes a secret of 64 bytes in the token, which never leaves it, for [`Self::secret`].
    ///
    /// # Errors
    /// As [`Self::generate_root`].
    pub fn generate_secret(&self, label: &Label) -> Result<(), SignerError> {
        let session = self.session();
        free(&session, label)?;
        let template = [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::GENERIC_SECRET),
            Attribute::ValueLen(Ulong::new(HMAC_BYTES as u64)),
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Sign(true),
            Attribute::Label(label.as_str().into()),
        ];
        session.generate_key(&Mechanism::GenericSecretKeyGen, &template).map_err(fault)?;
        Ok(())
    }

    /// The root key of a label.
    ///
    /// # Errors
    /// [`SignerError::Unavailable`] if there is none or more than one; [`SignerError::Refused`]
    /// if its public key is no admissible Ed25519 key, or its private key could be copied.
    pub fn root(self: &Arc<Self>, label: &Label) -> Result<TokenRoot, SignerError> {
        let session = self.session();
        let key = find(&session, ObjectClass::PRIVATE_KEY, label)?;
        locked_in(&session, key)?;
        let public = find(&session, ObjectClass::PUBLIC_KEY, label)?;
        let point = session.get_attributes(public, &[AttributeType::EcPoint]).map_err(fault)?;
        let [Attribute::EcPoint(point)] = &point[..] else { return Err(not_a_key()) };
        // Some tokens leave out the wrapping that the standard asks for.
        let point = point.strip_prefix(&POINT_PREFIX).unwrap_or(point);
        let public = point.try_into().map_err(|_| not_a_key())?;
        let public = PublicKey::admit(public).map_err(|error| SignerError::Refused(error.to_string()))?;
        drop(session);
        Ok(TokenRoot { token: Arc::clone(self), key, public })
    }

    /// The secret of a label.
    ///
    /// # Errors
    /// [`SignerError::Unavailable`] if there is none or more than one; [`SignerError::Refused`]
    /// if it could be copied out of the token.
    pub fn secret(self: &Arc<Self>, label: &Label) -> Result<TokenSecret, SignerError> {
        let session = self.session();
        let key = find(&session, ObjectClass::SECRET_KEY, label)?;
        locked_in(&session, key)?;
        drop(session);
        Ok(TokenSecret { token: Arc::clone(self), key, label: label.clone() })
    }

    fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("label", &self.label).finish_non_exhaustive()
    }
}

/// An Ed25519 root key in a token.
#[derive(Debug)]
pub struct TokenRoot {
    token: Arc<Token>,
    key: ObjectHandle,
    public: PublicKey,
}

impl RootSigner for TokenRoot {
    fn public(&self) -> PublicKey {
        self.public
    }

    fn sign_root(
        &self,
        domain: Domain,
        network: &NetworkId,
        message: &[u8],
    ) -> Result<Signature, SignerError> {
        let tagged = [domain.as_bytes(), network.as_bytes(), message].concat();
        let mechanism = Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Ed25519));
        let signature = self.token.session().sign(&mechanism, self.key, &tagged).map_err(fault)?;
        let signature = Signature::from_bytes(signature.try_into().map_err(|_| SignerError::Faulty)?);
        self.public.verify(domain, network, message, &signature).map_err(|_| SignerError::Faulty)?;
        Ok(signature)
    }
}

/// A secret in a token that computes HMAC-SHA512 there: the source of a seed, and of the keys of
/// keystore slots.
#[derive(Debug)]
pub struct TokenSecret {
    token: Arc<Token>,
    key: ObjectHandle,
    label: Label,
}

impl TokenSecret {
    /// The source of the role keys of the node whose root key is `root`.
    #[must_use]
    pub fn seed_of(self, root: NodeId) -> TokenSeed {
        TokenSeed { secret: self, root }
    }

    fn hmac(&self, parts: &[&[u8]]) -> Result<Zeroizing<[u8; HMAC_BYTES]>, SignerError> {
        let message = parts.concat();
        let mac = self.token.session().sign(&Mechanism::Sha512Hmac, self.key, &message).map_err(fault)?;
        let mac = Zeroizing::new(mac);
        let mac = mac.as_slice().try_into().map_err(|_| SignerError::Faulty)?;
        Ok(Zeroizing::new(mac))
    }
}

/// A seed that a token derives from its secret: the role keys exist in memory only, while the
/// root key stays in the token.
#[derive(Debug)]
pub struct TokenSeed {
    secret: TokenSecret,
    root: NodeId,
}

impl SeedSource for TokenSeed {
    fn seed(&self) -> Result<Seed, SignerError> {
        Ok(Seed::from_bytes(&*self.secret.hmac(&[TOKEN_SEED.as_bytes(), self.root.as_bytes()])?))
    }
}

/// The parameters of a token's slot: where its secret is, for people and for sources that have
/// another one.
#[derive(Encode, Decode)]
pub(crate) struct TokenParams {
    #[n(0)]
    token: Label,
    #[n(1)]
    secret: Label,
    #[cbor(n(2), with = "minicbor::bytes")]
    salt: [u8; 32],
}

impl Wire for TokenParams {
    const MAX_BYTES: usize = 1 + 2 * (2 + Label::MAX_BYTES) + 34;
}

impl TokenSecret {
    fn kek(&self, root: NodeId, salt: &[u8; 32]) -> Result<Kek, KekError> {
        let mac = self.hmac(&[TOKEN_KEK.as_bytes(), root.as_bytes(), salt])?;
        let [key, _] = mac.as_chunks().0 else { return Err(KekError::Malformed) };
        Ok(Kek::from_bytes(key))
    }
}

impl KekSource for TokenSecret {
    fn kind(&self) -> SlotKind {
        SlotKind::Token
    }

    fn fresh(&self, root: NodeId, random: &[u8; 32]) -> Result<NewKek, KekError> {
        let (token, secret) = (self.token.label.clone(), self.label.clone());
        let params = wire::to_bytes(&TokenParams { token, secret, salt: *random });
        Ok(NewKek { key: self.kek(root, random)?, params })
    }

    fn recover(&self, root: NodeId, params: &[u8]) -> Result<Kek, KekError> {
        let params: TokenParams = wire::from_bytes(params).map_err(|_| KekError::Malformed)?;
        if params.token != self.token.label || params.secret != self.label {
            return Err(KekError::Foreign);
        }
        self.kek(root, &params.salt)
    }
}

fn find(session: &Session, class: ObjectClass, label: &Label) -> Result<ObjectHandle, SignerError> {
    let template = [Attribute::Class(class), Attribute::Label(label.as_str().into())];
    match session.find_objects(&template).map_err(fault)?[..] {
        [object] => Ok(object),
        [] => Err(SignerError::Unavailable(format!("the token has no such key called {label}"))),
        _ => Err(SignerError::Unavailable(format!("the token has several objects called {label}"))),
    }
}

fn free(session: &Session, label: &Label) -> Result<(), SignerError> {
    let template = [Attribute::Label(label.as_str().into())];
    if session.find_objects(&template).map_err(fault)?.is_empty() {
        return Ok(());
    }
    Err(SignerError::Refused(format!("the token has an object called {label} already")))
}

/// A key that the token would hand out is no better than a file.
fn locked_in(session: &Session, key: ObjectHandle) -> Result<(), SignerError> {
    let asked = [AttributeType::Extractable, AttributeType::Sensitive];
    match session.get_attributes(key, &asked).map_err(fault)?[..] {
        [Attribute::Extractable(false), Attribute::Sensitive(true)]
        | [Attribute::Sensitive(true), Attribute::Extractable(false)] => Ok(()),
        _ => Err(SignerError::Refused("the key could be copied out of the token".into())),
    }
}

fn not_a_key() -> SignerError {
    SignerError::Refused("the object is no Ed25519 public key".into())
}

/// Whose fault it is.
fn fault(error: Error) -> SignerError {
    use RvError::{
        KeyFunctionNotPermitted, KeyTypeInconsistent, MechanismInvalid, PinExpired, PinInvalid, PinLenRange,
        UserNotLoggedIn, UserPinNotInitialized,
    };
    match &error {
        Error::Pkcs11(RvError::PinIncorrect, _) => SignerError::Refused("wrong PIN".into()),
        Error::Pkcs11(RvError::PinLocked, _) => SignerError::Refused("the PIN is locked".into()),
        Error::Pkcs11(
            KeyFunctionNotPermitted
            | KeyTypeInconsistent
            | MechanismInvalid
            | PinExpired
            | PinInvalid
            | PinLenRange
            | UserNotLoggedIn
            | UserPinNotInitialized,
            _,
        ) => SignerError::Refused(error.to_string()),
        _ => SignerError::Unavailable(error.to_string()),
    }
}

impl From<SignerError> for KekError {
    fn from(error: SignerError) -> Self {
        match error {
            SignerError::Unavailable(reason) => Self::Unavailable(reason),
            SignerError::Refused(reason) => Self::Refused(reason),
            SignerError::Faulty => Self::Refused("the token answered nonsense".into()),
        }
    }
}
