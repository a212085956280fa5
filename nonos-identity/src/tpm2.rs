//! Keystore slots sealed by a TPM 2.0: the store opens on one machine, in the state it was in
//! when the slot was made.
//!
//! The key-encryption key is an object under the storage key of the owner hierarchy, with the
//! values of some PCRs as its only policy. It travels to and from the TPM encrypted under a
//! session salted with the storage key, so that a listener on the bus does not learn it; an
//! attacker who replaces the TPM on the bus is not kept out, because the storage key is not
//! compared with one that was certified. A firmware or kernel update changes PCRs: keep a slot
//! of another kind, and make this one anew afterwards.

use core::fmt;
use core::str::FromStr as _;

use minicbor::{Decode, Encode};
use tss_esapi::attributes::{ObjectAttributesBuilder, SessionAttributesBuilder};
use tss_esapi::constants::SessionType;
use tss_esapi::constants::response_code::Tss2ResponseCodeKind;
use tss_esapi::handles::KeyHandle;
use tss_esapi::interface_types::algorithm::{HashingAlgorithm, PublicAlgorithm};
use tss_esapi::interface_types::ecc::EccCurve;
use tss_esapi::interface_types::resource_handles::Hierarchy;
use tss_esapi::interface_types::session_handles::{AuthSession, PolicySession};
use tss_esapi::structures::{
    Digest, EccPoint, KeyedHashScheme, PcrSelectionList, PcrSlot, Private, Public, PublicBuilder,
    PublicEccParametersBuilder, PublicKeyedHashParameters, SensitiveData, SymmetricDefinition,
    SymmetricDefinitionObject,
};
use tss_esapi::traits::{Marshall as _, UnMarshall as _};
use tss_esapi::{Context, Error, TctiNameConf};

use crate::key::NodeId;
use crate::keystore::{Kek, KekError, KekSource, Keystore, NewKek, SlotKind};
use crate::wire::{self, Wire};

const HASH: HashingAlgorithm = HashingAlgorithm::Sha256;

/// The parameters of a TPM's slot.
#[derive(Encode, Decode)]
pub(crate) struct TpmParams {
    /// The PCRs of the policy, of the SHA-256 bank, as a bit each.
    #[n(0)]
    pcrs: u32,
    /// `TPMT_PUBLIC` of the sealed object.
    #[cbor(n(1), with = "minicbor::bytes")]
    public: Vec<u8>,
    /// `TPM2B_PRIVATE` of the sealed object, without its size: encrypted by the TPM.
    #[cbor(n(2), with = "minicbor::bytes")]
    private: Vec<u8>,
}

impl Wire for TpmParams {
    const MAX_BYTES: usize = Keystore::MAX_PARAMS_BYTES;
}

/// A TPM 2.0 and the PCRs that new slots are bound to. Each call opens the TPM anew.
#[derive(Clone)]
pub struct Tpm {
    tcti: TctiNameConf,
    pcrs: u32,
}

impl Tpm {
    /// PCR 7: whether secure boot was on, and whose keys it trusts. It stays as it is when
    /// kernels are updated.
    pub const SECURE_BOOT: &'static [u8] = &[7];

    /// Most PCRs have numbers below this one (TCG PC Client Platform TPM Profile).
    const PCR_COUNT: u8 = 24;

    /// A TPM by the configuration of its transport, such as `device:/dev/tpmrm0`, and the PCRs
    /// whose values must not change.
    ///
    /// # Errors
    /// [`KekError::Unavailable`] if the configuration is not understood; [`KekError::Weak`] if no
    /// PCR below 24 is named: the slot would open whatever was booted.
    pub fn new(tcti: &str, pcrs: &[u8]) -> Result<Self, KekError> {
        let conf = TctiNameConf::from_str(tcti)
            .map_err(|_| KekError::Unavailable(format!("{tcti} is no configuration of a TPM")))?;
        let is_below = |pcr: &u8| *pcr < Self::PCR_COUNT;
        if pcrs.is_empty() || !pcrs.iter().all(is_below) {
            return Err(KekError::Weak("a policy names at least one PCR, and those below 24 only"));
        }
        Ok(Self { tcti: conf, pcrs: pcrs.iter().fold(0, |mask, pcr| mask | 1 << pcr) })
    }

    fn seal(&self, key: &[u8; 32]) -> Result<TpmParams, Error> {
        let mut context = Context::new(self.tcti.clone())?;
        let parent = storage_key(&mut context)?;
        let trial = session(&mut context, None, SessionType::Trial)?;
        let policy = PolicySession::try_from(trial)?;
        context.policy_pcr(policy, Digest::default(), selection(self.pcrs)?)?;
        let digest = context.policy_get_digest(policy)?;

        let attributes = ObjectAttributesBuilder::new()
            .with_fixed_tpm(true)
            .with_fixed_parent(true)
            .with_admin_with_policy(true)
            .with_no_da(true)
            .build()?;
        let sealed = PublicBuilder::new()
            .with_public_algorithm(PublicAlgorithm::KeyedHash)
            .with_name_hashing_algorithm(HASH)
            .with_object_attributes(attributes)
            .with_auth_policy(digest)
            .with_keyed_hash_parameters(PublicKeyedHashParameters::new(KeyedHashScheme::Null))
            .with_keyed_hash_unique_identifier(Digest::default())
            .build()?;
        let secret = SensitiveData::try_from(key.as_slice())?;
        let encrypted = session(&mut context, Some((parent, true)), SessionType::Hmac)?;
        let created = context.execute_with_session(Some(encrypted), |context| {
            context.create(parent, sealed, None, Some(secret), None, None)
        })?;
        let (public, private) = (created.out_public.marshall()?, created.out_private.to_vec());
        Ok(TpmParams { pcrs: self.pcrs, public, private })
    }

    fn unseal(&self, params: &TpmParams) -> Result<Kek, KekError> {
        let malformed = |_| KekError::Malformed;
        let public = Public::unmarshall(&params.public).map_err(malformed)?;
        let private = Private::try_from(params.private.clone()).map_err(malformed)?;
        let mut context = Context::new(self.tcti.clone()).map_err(fault)?;
        let parent = storage_key(&mut context).map_err(fault)?;
        let encrypted = session(&mut context, Some((parent, true)), SessionType::Hmac).map_err(fault)?;
        let object = context
            .execute_with_session(Some(encrypted), |context| context.load(parent, private, public))
            .map_err(fault)?;
        // Transient objects are few, and the storage key is not needed any more.
        context.flush_context(encrypted_handle(encrypted)).map_err(fault)?;
        let policy = session(&mut context, Some((parent, false)), SessionType::Policy).map_err(fault)?;
        let as_policy = PolicySession::try_from(policy).map_err(fault)?;
        let pcrs = selection(params.pcrs).map_err(malformed)?;
        context.policy_pcr(as_policy, Digest::default(), pcrs).map_err(fault)?;
        let secret = context
            .execute_with_session(Some(policy), |context| context.unseal(object.into()))
            .map_err(fault)?;
        let secret = secret.as_slice().try_into().map_err(|_| KekError::Malformed)?;
        Ok(Kek::from_bytes(secret))
    }
}

impl fmt::Debug for Tpm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tpm").field("pcrs", &format_args!("{:#x}", self.pcrs)).finish_non_exhaustive()
    }
}

impl KekSource for Tpm {
    fn kind(&self) -> SlotKind {
        SlotKind::Tpm
    }

    fn fresh(&self, _: NodeId, random: &[u8; 32]) -> Result<NewKek, KekError> {
        let params = self.seal(random).map_err(fault)?;
        // A TPM that seals and does not unseal would cost the keys.
        let key = self.unseal(&params)?;
        if key.as_bytes() != random {
            return Err(KekError::Refused("the TPM returned another key than it sealed".into()));
        }
        Ok(NewKek { key, params: wire::to_bytes(&params) })
    }

    /// The PCRs are those of the slot, whatever this value was made with.
    fn recover(&self, _: NodeId, params: &[u8]) -> Result<Kek, KekError> {
        self.unseal(&wire::from_bytes(params).map_err(|_| KekError::Malformed)?)
    }
}

/// The storage key: made from the TPM's own seed, so it is the same each time.
fn storage_key(context: &mut Context) -> Result<KeyHandle, Error> {
    let attributes = ObjectAttributesBuilder::new()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_sensitive_data_origin(true)
        .with_user_with_auth(true)
        .with_no_da(true)
        .with_decrypt(true)
        .with_restricted(true)
        .build()?;
    let parameters = PublicEccParametersBuilder::new_restricted_decryption_key(
        SymmetricDefinitionObject::AES_128_CFB,
        EccCurve::NistP256,
    );
    let public = PublicBuilder::new()
        .with_public_algorithm(PublicAlgorithm::Ecc)
        .with_name_hashing_algorithm(HASH)
        .with_object_attributes(attributes)
        .with_ecc_parameters(parameters.build()?)
        .with_ecc_unique_identifier(EccPoint::default())
        .build()?;
    let primary = context.execute_with_nullauth_session(|context| {
        context.create_primary(Hierarchy::Owner, public, None, None, None, None)
    })?;
    Ok(primary.key_handle)
}

/// A session. A salted one encrypts the first parameter of answers and, where the command has one
/// to encrypt, of commands.
fn session(
    context: &mut Context,
    salt: Option<(KeyHandle, bool)>,
    kind: SessionType,
) -> Result<AuthSession, Error> {
    let cipher = SymmetricDefinition::AES_128_CFB;
    let session = context
        .start_auth_session(salt.map(|(key, _)| key), None, None, kind, cipher, HASH)?
        .ok_or(Error::WrapperError(tss_esapi::WrapperErrorKind::WrongValueFromTpm))?;
    if let Some((_, encrypts_commands)) = salt {
        let attributes = SessionAttributesBuilder::new()
            .with_decrypt(encrypts_commands)
            .with_encrypt(true)
            .with_continue_session(true);
        let (attributes, mask) = attributes.build();
        context.tr_sess_set_attributes(session, attributes, mask)?;
    }
    Ok(session)
}

fn encrypted_handle(session: AuthSession) -> tss_esapi::handles::ObjectHandle {
    tss_esapi::handles::SessionHandle::from(session).into()
}

fn selection(mask: u32) -> Result<PcrSelectionList, Error> {
    let pcrs: Result<Vec<_>, _> =
        (0..32).map(|pcr| 1 << pcr).filter(|bit| mask & bit != 0).map(PcrSlot::try_from).collect();
    PcrSelectionList::builder().with_selection(HASH, &pcrs?).build()
}

/// Whose fault it is.
fn fault(error: Error) -> KekError {
    let kind = match error {
        Error::Tss2Error(code) => code.kind(),
        Error::WrapperError(_) => None,
    };
    match kind {
        Some(Tss2ResponseCodeKind::PolicyFail | Tss2ResponseCodeKind::PcrChanged) => {
            KekError::Refused("the machine is not in the state the slot was made in".into())
        }
        // Encrypted by another TPM, or by this one before it was cleared.
        Some(Tss2ResponseCodeKind::Integrity) => KekError::Foreign,
        _ => KekError::Unavailable(error.to_string()),
    }
}
