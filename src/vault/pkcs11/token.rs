//! A key pair in a token: found, made, and used to agree keys.

use super::module::{Module, error};
use super::pin::Pin;
use super::uri::Uri;
use crate::crypto::{KEY_BYTES, PublicKey, Secret, SharedKey, random};
use crate::error::{Error, Result};
use crate::vault::local::Agree;
use cryptoki::error::RvError;
use cryptoki::mechanism::elliptic_curve::{EcKdf, Ecdh1DeriveParams};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// The library that is asked when the URI names none: it passes on to all that the system has configured.
const DEFAULT_MODULE: &str = "p11-kit-proxy.so";
/// `CKA_EC_PARAMS` of X25519: the object identifier 1.3.101.110.
const X25519_PARAMS: [u8; 5] = [0x06, 0x03, 0x2b, 0x65, 0x6e];

/// The private key that a URI names.
pub(super) struct TokenKey {
    uri: Uri,
    pin: Option<Pin>,
    /// A key that comes back must have it.
    public: PublicKey,
    line: Mutex<Line>,
}

/// How things stand with the token.
enum Line {
    Closed,
    Open(OpenKey),
    /// It said that the PIN is wrong. To try again by itself would lock the token.
    WrongPin,
}

/// A session in which the key was found.
struct OpenKey {
    module: Module,
    session: Session,
    key: ObjectHandle,
    public: PublicKey,
    form: PointForm,
}

/// How a module takes the point of a peer; some know one form alone.
#[derive(Clone, Copy)]
enum PointForm {
    /// Its 32 bytes.
    Raw,
    /// These as a DER octet string.
    Der,
}

impl PointForm {
    fn of(self, point: &PublicKey) -> Vec<u8> {
        match self {
            PointForm::Raw => point.0.to_vec(),
            PointForm::Der => [&[0x04, KEY_BYTES as u8], &point.0[..]].concat(),
        }
    }
}

impl TokenKey {
    /// A key that is there; gives its public key, too.
    pub(super) fn open(uri: Uri, pin: Option<Pin>) -> Result<(TokenKey, PublicKey)> {
        let open = OpenKey::find(&uri, pin.as_ref())?;
        Ok(TokenKey::of(uri, pin, open))
    }

    /// A new key, made in the token, which it never leaves.
    pub(super) fn generate(uri: Uri, pin: Option<Pin>) -> Result<(TokenKey, PublicKey)> {
        let open = OpenKey::generate(&uri, pin.as_ref())?;
        Ok(TokenKey::of(uri, pin, open))
    }

    fn of(uri: Uri, pin: Option<Pin>, open: OpenKey) -> (TokenKey, PublicKey) {
        let public = open.public;
        let line = Mutex::new(Line::Open(open));
        (TokenKey { uri, pin, public, line }, public)
    }

    /// Opens a session again, after the token was away or the session was lost.
    fn reopen(&self, line: &mut Line) -> Result<()> {
        if let Line::WrongPin = line {
            return Err(Error::WrongPassphrase);
        }
        *line = Line::Closed;
        let found = OpenKey::find(&self.uri, self.pin.as_ref());
        if found.as_ref().is_err_and(|error| *error == Error::WrongPassphrase) {
            *line = Line::WrongPin;
        }
        let open = found?;
        // What is there now must be what was there.
        if open.public != self.public {
            return Err(Error::VaultFailed);
        }
        *line = Line::Open(open);
        Ok(())
    }
}

impl Agree for TokenKey {
    fn agree(&self, peer: &PublicKey) -> Result<SharedKey> {
        // Tokens differ in what they do with such a key; none is asked.
        if peer.is_weak() {
            return Err(Error::WeakKey);
        }
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        if let Line::Open(open) = &*line
            && let Ok(shared) = open.agree(peer)
        {
            return Ok(shared);
        }
        // Sessions end for many reasons, most of which a new one cures.
        self.reopen(&mut line)?;
        let Line::Open(open) = &*line else { return Err(Error::Internal) };
        open.agree(peer)
    }
}

impl OpenKey {
    fn find(uri: &Uri, pin: Option<&Pin>) -> Result<OpenKey> {
        let module = load(uri)?;
        let slot = find_token(&module, uri)?;
        let session = module.context.open_ro_session(slot).map_err(|e| error(&e))?;
        login(&module, &session, slot, pin)?;
        let mut template = vec![Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::Derive(true)];
        template.extend(named(uri));
        let keys = session.find_objects(&template).map_err(|e| error(&e))?;
        let ours = keys.into_iter().filter(|key| is_x25519(&session, *key));
        let key = only(ours)?;
        OpenKey::of(module, session, key)
    }

    fn generate(uri: &Uri, pin: Option<&Pin>) -> Result<OpenKey> {
        let label = uri.object.as_ref().ok_or(Error::InvalidArgument)?;
        let module = load(uri)?;
        let slot = find_token(&module, uri)?;
        let session = module.context.open_rw_session(slot).map_err(|e| error(&e))?;
        login(&module, &session, slot, pin)?;
        // Two keys of one name could not be told apart.
        if !session.find_objects(&named(uri)).map_err(|e| error(&e))?.is_empty() {
            return Err(Error::AlreadyExists);
        }
        let mut id = vec![0; 16];
        random(&mut id)?;
        let id = uri.id.clone().unwrap_or(id);
        let both = [Attribute::Token(true), Attribute::Label(label.as_bytes().to_vec()), Attribute::Id(id)];
        let public = [&both[..], &[Attribute::EcParams(X25519_PARAMS.to_vec())]].concat();
        let private = [
            &both[..],
            &[
                Attribute::Private(true),
                Attribute::Sensitive(true),
                Attribute::Extractable(false),
                Attribute::Derive(true),
            ],
        ]
        .concat();
        let mechanisms = module.context.get_mechanism_list(slot).map_err(|e| error(&e))?;
        // Older modules make X25519 keys as keys of type Edwards.
        let mechanism = if mechanisms.contains(&MechanismType::ECC_MONTGOMERY_KEY_PAIR_GEN) {
            Mechanism::EccMontgomeryKeyPairGen
        } else {
            Mechanism::EccEdwardsKeyPairGen
        };
        let (_, key) = session.generate_key_pair(&mechanism, &public, &private).map_err(|e| error(&e))?;
        OpenKey::of(module, session, key)
    }

    /// The public key is computed by the private key itself, which also tells the form that the module takes points in:
    /// what the token says of a public key beside it proves nothing.
    fn of(module: Module, session: Session, key: ObjectHandle) -> Result<OpenKey> {
        let mut open = OpenKey { module, session, key, public: PublicKey::BASE_POINT, form: PointForm::Raw };
        let computed = open.derive(&PublicKey::BASE_POINT).or_else(|error| {
            open.form = PointForm::Der;
            open.derive(&PublicKey::BASE_POINT).map_err(|_| error)
        });
        open.public = PublicKey(*computed?.bytes());
        Ok(open)
    }

    /// X25519 of the key and `peer`.
    fn derive(&self, peer: &PublicKey) -> Result<Secret<KEY_BYTES>> {
        let point = self.form.of(peer);
        let parameters = Ecdh1DeriveParams::new(EcKdf::null(), &point);
        let template = [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::GENERIC_SECRET),
            Attribute::Token(false),
            Attribute::Private(true),
            Attribute::Sensitive(false),
            Attribute::Extractable(true),
            Attribute::ValueLen((KEY_BYTES as u64).into()),
        ];
        let derived = self
            .session
            .derive_key(&Mechanism::Ecdh1Derive(parameters), self.key, &template)
            .map_err(|e| error(&e))?;
        let value = self.module.read_value(&self.session, derived);
        // If it cannot be destroyed now, it ends with the session.
        let _ = self.session.destroy_object(derived);
        value
    }

    fn agree(&self, peer: &PublicKey) -> Result<SharedKey> {
        SharedKey::of_agreement(&self.derive(peer)?)
    }
}

fn load(uri: &Uri) -> Result<Module> {
    let path = uri.module_path.as_deref().unwrap_or(Path::new(DEFAULT_MODULE));
    let module = Module::load(path)?;
    let info = module.context.get_library_info().map_err(|e| error(&e))?;
    let version = (info.library_version().major(), info.library_version().minor());
    let matches = says(&uri.library_description, info.library_description())
        && says(&uri.library_manufacturer, info.manufacturer_id())
        && uri.library_version.is_none_or(|wanted| wanted == version);
    if matches { Ok(module) } else { Err(Error::NotFound) }
}

/// Whether an attribute of the URI, if given, is what is there.
fn says(wanted: &Option<String>, there: &str) -> bool {
    wanted.as_ref().is_none_or(|wanted| wanted == there)
}

/// The one token that the URI describes; `NotFound` if there is none, `InvalidArgument` if there are several.
fn find_token(module: &Module, uri: &Uri) -> Result<Slot> {
    let slots = module.context.get_slots_with_token().map_err(|e| error(&e))?;
    only(slots.into_iter().filter(|slot| {
        let (Ok(token), Ok(place)) =
            (module.context.get_token_info(*slot), module.context.get_slot_info(*slot))
        else {
            // It was taken out just now.
            return false;
        };
        token.token_initialized()
            && says(&uri.token, token.label())
            && says(&uri.manufacturer, token.manufacturer_id())
            && says(&uri.model, token.model())
            && says(&uri.serial, token.serial_number())
            && says(&uri.slot_description, place.slot_description())
            && says(&uri.slot_manufacturer, place.manufacturer_id())
            && uri.slot_id.is_none_or(|id| id == slot.id())
    }))
}

/// The one thing there is.
fn only<T>(mut things: impl Iterator<Item = T>) -> Result<T> {
    let first = things.next().ok_or(Error::NotFound)?;
    if things.next().is_some() { Err(Error::InvalidArgument) } else { Ok(first) }
}

fn login(module: &Module, session: &Session, slot: Slot, pin: Option<&Pin>) -> Result<()> {
    let token = module.context.get_token_info(slot).map_err(|e| error(&e))?;
    let done = match pin {
        Some(pin) => session.login_with_raw(UserType::User, &pin.for_login()),
        // The token has keys of its own to type the PIN on.
        None if token.protected_authentication_path() => session.login(UserType::User, None),
        None if token.login_required() => return Err(Error::WrongPassphrase),
        None => return Ok(()),
    };
    match done {
        // By another session of this process.
        Err(cryptoki::error::Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
        done => done.map_err(|e| error(&e)),
    }
}

/// The attributes by which the URI names its key.
fn named(uri: &Uri) -> Vec<Attribute> {
    let label = uri.object.as_ref().map(|label| Attribute::Label(label.as_bytes().to_vec()));
    label.into_iter().chain(uri.id.clone().map(Attribute::Id)).collect()
}

/// Whether a private key is one for X25519: of type Montgomery, or, in older modules, Edwards with its parameters.
fn is_x25519(session: &Session, key: ObjectHandle) -> bool {
    let wanted = [AttributeType::KeyType, AttributeType::EcParams];
    let Ok(attributes) = session.get_attributes(key, &wanted) else { return false };
    let of_curve = |parameters: &[u8]| {
        // The object identifier, or the name as a printable string.
        parameters == X25519_PARAMS || parameters == b"\x13\x0acurve25519"
    };
    attributes.iter().all(|attribute| match attribute {
        Attribute::KeyType(kind) => *kind == KeyType::EC_MONTGOMERY || *kind == KeyType::EC_EDWARDS,
        Attribute::EcParams(parameters) => of_curve(parameters),
        _ => false,
    }) && attributes.len() == wanted.len()
}
