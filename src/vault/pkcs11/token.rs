//! A key pair in a token: how it is found, made, and used to agree keys.

use super::failure::{Explained, Pkcs11Failure, Pkcs11Part};
use super::module::Module;
use super::pin::Pin;
use super::session::{Attribute, Session, Value};
use super::uri::Uri;
use crate::crypto::{KEY_BYTES, PublicKey, Secret, SharedKey};
use crate::error::{Error, Result};
use crate::vault::local::Agree;
use cryptoki_sys::{
    CK_FALSE, CK_OBJECT_HANDLE, CK_SLOT_ID, CK_TRUE, CKA_CLASS, CKA_DERIVE, CKA_EC_PARAMS, CKA_EXTRACTABLE,
    CKA_ID, CKA_KEY_TYPE, CKA_LABEL, CKA_PRIVATE, CKA_SENSITIVE, CKA_TOKEN, CKA_VALUE_LEN,
    CKF_LOGIN_REQUIRED, CKF_PROTECTED_AUTHENTICATION_PATH, CKF_TOKEN_INITIALIZED, CKF_USER_PIN_LOCKED,
    CKK_EC_EDWARDS, CKK_EC_MONTGOMERY, CKK_GENERIC_SECRET, CKO_PRIVATE_KEY, CKO_SECRET_KEY,
};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// The library to use if the URI names none. It gives access to all libraries that the system has
/// configured.
const DEFAULT_MODULE: &str = "p11-kit-proxy.so";
/// `CKA_EC_PARAMS` of X25519: the object identifier 1.3.101.110.
pub(super) const X25519_PARAMS: [u8; 5] = [0x06, 0x03, 0x2b, 0x65, 0x6e];
/// The same, as the name of the curve in a printable string.
const X25519_NAME: &[u8] = b"\x13\x0acurve25519";

/// The private key that a URI names.
pub(super) struct TokenKey {
    uri: Uri,
    pin: Option<Pin>,
    /// The public key. A key that comes back must have the same one.
    public: PublicKey,
    line: Mutex<Line>,
}

/// The state of the token.
enum Line {
    Closed,
    Open(OpenKey),
    /// The token refused the PIN, for this reason. Trying again automatically would lock the token.
    PinRefused(Error),
}

/// A session in which the key was found, and the key.
pub(super) struct OpenKey {
    pub session: Session,
    key: CK_OBJECT_HANDLE,
    pub public: PublicKey,
    form: PointForm,
}

/// The form in which a module takes the point of a peer. Some modules know only one form.
#[derive(Clone, Copy)]
enum PointForm {
    /// The 32 bytes of the point.
    Raw,
    /// The 32 bytes as a DER octet string.
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
    /// Opens an existing key, and returns it with its public key.
    pub(super) fn open(uri: Uri, pin: Option<Pin>) -> Explained<(TokenKey, PublicKey)> {
        let open = OpenKey::find(&uri, pin.as_ref())?;
        let public = open.public;
        Ok((TokenKey::of(uri, pin, open), public))
    }

    pub(super) fn of(uri: Uri, pin: Option<Pin>, open: OpenKey) -> TokenKey {
        TokenKey { uri, pin, public: open.public, line: Mutex::new(Line::Open(open)) }
    }

    /// Opens a session again, after the token was away or the session was lost.
    fn reopen(&self, line: &mut Line) -> Result<()> {
        if let Line::PinRefused(error) = line {
            return Err(*error);
        }
        *line = Line::Closed;
        let found = OpenKey::find(&self.uri, self.pin.as_ref()).map_err(|failure| match failure {
            // Some libraries cannot be initialised while their token is away.
            Pkcs11Failure { part: Pkcs11Part::Module(_), error: Error::VaultFailed, .. } => Error::NotFound,
            failure => failure.error,
        });
        if let Err(error @ (Error::WrongPassphrase | Error::PinLocked)) = found {
            *line = Line::PinRefused(error);
        }
        let open = found?;
        // The key that is there now must be the same as before.
        if open.public != self.public {
            return Err(Error::VaultFailed);
        }
        *line = Line::Open(open);
        Ok(())
    }
}

impl Agree for TokenKey {
    fn agree(&self, peer: &PublicKey) -> Result<SharedKey> {
        // Tokens differ in what they do with a weak key, so they never get one.
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
    fn find(uri: &Uri, pin: Option<&Pin>) -> Explained<OpenKey> {
        look(uri, |module| OpenKey::find_by(module, uri, pin))
    }

    fn find_by(module: &Module, uri: &Uri, pin: Option<&Pin>) -> Result<OpenKey> {
        let session = enter(module, find_token(module, uri)?, false, pin)?;
        let wanted = [(CKA_CLASS, Value::Number(CKO_PRIVATE_KEY)), (CKA_DERIVE, Value::Flag(CK_TRUE))];
        let keys = session.find(&[&wanted[..], &named(uri)].concat())?;
        let key = only(keys.into_iter().filter(|key| is_x25519(&session, *key)))?;
        OpenKey::of(session, key)
    }

    /// Computes the public key with the private key itself. This also shows the form in which the
    /// module takes points. A public key that the token stores beside the private key proves
    /// nothing.
    fn of(session: Session, key: CK_OBJECT_HANDLE) -> Result<OpenKey> {
        let mut open = OpenKey::unproven(session, key);
        open.find_out()?;
        Ok(open)
    }

    /// Makes a key of which nothing is known before [`OpenKey::find_out`].
    pub(super) fn unproven(session: Session, key: CK_OBJECT_HANDLE) -> OpenKey {
        OpenKey { session, key, public: PublicKey::BASE_POINT, form: PointForm::Raw }
    }

    pub(super) fn find_out(&mut self) -> Result<()> {
        let computed = self.derive(&PublicKey::BASE_POINT).or_else(|error| {
            self.form = PointForm::Der;
            self.derive(&PublicKey::BASE_POINT).map_err(|_| error)
        });
        self.public = PublicKey(*computed?.bytes());
        Ok(())
    }

    /// Computes X25519 of the key and `peer`.
    fn derive(&self, peer: &PublicKey) -> Result<Secret<KEY_BYTES>> {
        let template = [
            (CKA_CLASS, Value::Number(CKO_SECRET_KEY)),
            (CKA_KEY_TYPE, Value::Number(CKK_GENERIC_SECRET)),
            (CKA_TOKEN, Value::Flag(CK_FALSE)),
            (CKA_PRIVATE, Value::Flag(CK_TRUE)),
            (CKA_SENSITIVE, Value::Flag(CK_FALSE)),
            (CKA_EXTRACTABLE, Value::Flag(CK_TRUE)),
            (CKA_VALUE_LEN, Value::Number(KEY_BYTES as _)),
        ];
        let derived = self.session.derive(self.key, &self.form.of(peer), &template)?;
        let value = self.session.secret(derived);
        // If the secret cannot be destroyed now, it ends with the session.
        let _ = self.session.destroy(derived);
        value
    }

    fn agree(&self, peer: &PublicKey) -> Result<SharedKey> {
        SharedKey::of_agreement(&self.derive(peer)?)
    }
}

/// Looks for something in the token. If it is not found, tries once more after the library has
/// looked for its tokens again.
pub(super) fn look<T>(uri: &Uri, find: impl Fn(&Module) -> Result<T>) -> Explained<T> {
    let module = load(uri)?;
    let epoch = module.epoch();
    let found = find(&module);
    if let Err(Error::NotFound | Error::VaultFailed) = found
        && module.renew(epoch).map_err(|error| about_module(uri, error))?
    {
        return find(&module).map_err(about_token);
    }
    found.map_err(about_token)
}

fn load(uri: &Uri) -> Explained<Module> {
    let module = Module::load(module_path(uri)).map_err(|error| about_module(uri, error))?;
    let info = module.info().map_err(|error| about_module(uri, error))?;
    let version = (info.libraryVersion.major, info.libraryVersion.minor);
    let matches = says(uri.library_description.as_deref(), &info.libraryDescription)
        && says(uri.library_manufacturer.as_deref(), &info.manufacturerID)
        && uri.library_version.is_none_or(|wanted| wanted == version);
    if matches { Ok(module) } else { Err(about_module(uri, Error::NotFound)) }
}

fn module_path(uri: &Uri) -> &Path {
    uri.module_path.as_deref().unwrap_or(Path::new(DEFAULT_MODULE))
}

fn about_module(uri: &Uri, error: Error) -> Pkcs11Failure {
    Pkcs11Failure::of(Pkcs11Part::Module(module_path(uri).to_owned()), error)
}

pub(super) fn about_token(error: Error) -> Pkcs11Failure {
    Pkcs11Failure::of(Pkcs11Part::Token, error)
}

/// Returns whether an attribute of the URI, if given, equals the token's padded field.
fn says(wanted: Option<&str>, there: &[u8]) -> bool {
    let padding = there.iter().rev().take_while(|byte| matches!(byte, b' ' | 0)).count();
    wanted.is_none_or(|wanted| wanted.as_bytes() == &there[..there.len() - padding])
}

/// Returns the one token that the URI describes; `NotFound` if there is none, `InvalidArgument` if
/// there are several.
pub(super) fn find_token(module: &Module, uri: &Uri) -> Result<CK_SLOT_ID> {
    only(module.slots()?.into_iter().filter(|slot| {
        let (Ok(token), Ok(place)) = (module.token_info(*slot), module.slot_info(*slot)) else {
            // The token was removed just now.
            return false;
        };
        token.flags & CKF_TOKEN_INITIALIZED != 0
            && says(uri.token.as_deref(), &token.label)
            && says(uri.manufacturer.as_deref(), &token.manufacturerID)
            && says(uri.model.as_deref(), &token.model)
            && says(uri.serial.as_deref(), &token.serialNumber)
            && says(uri.slot_description.as_deref(), &place.slotDescription)
            && says(uri.slot_manufacturer.as_deref(), &place.manufacturerID)
            && uri.slot_id.is_none_or(|id| id == *slot)
    }))
}

/// Returns the only element; `NotFound` if there is none, `InvalidArgument` if there are several.
fn only<T>(mut things: impl Iterator<Item = T>) -> Result<T> {
    let first = things.next().ok_or(Error::NotFound)?;
    if things.next().is_some() { Err(Error::InvalidArgument) } else { Ok(first) }
}

/// Opens a session and logs in.
pub(super) fn enter(module: &Module, slot: CK_SLOT_ID, to_write: bool, pin: Option<&Pin>) -> Result<Session> {
    let session = Session::open(module.clone(), slot, to_write)?;
    let flags = module.token_info(slot)?.flags;
    let is = |flag| flags & flag != 0;
    if is(CKF_USER_PIN_LOCKED) {
        return Err(Error::PinLocked);
    }
    // A token with its own keypad needs no PIN from here.
    if pin.is_some() || is(CKF_PROTECTED_AUTHENTICATION_PATH) {
        session.login(pin)?;
    } else if is(CKF_LOGIN_REQUIRED) {
        return Err(Error::WrongPassphrase);
    }
    Ok(session)
}

/// Returns the attributes by which the URI names its key.
pub(super) fn named(uri: &Uri) -> Vec<Attribute<'_>> {
    let label = uri.object.as_ref().map(|label| (CKA_LABEL, Value::Bytes(label.as_bytes())));
    let id = uri.id.as_ref().map(|id| (CKA_ID, Value::Bytes(id)));
    label.into_iter().chain(id).collect()
}

/// Returns whether a private key is for X25519. Its type must be Montgomery or, in older modules,
/// Edwards, and its parameters must be those of X25519.
fn is_x25519(session: &Session, key: CK_OBJECT_HANDLE) -> bool {
    let kind = session.number(key, CKA_KEY_TYPE);
    let mut parameters = [0; 64];
    let Ok(len) = session.read(key, CKA_EC_PARAMS, &mut parameters) else { return false };
    matches!(kind, Ok(CKK_EC_MONTGOMERY | CKK_EC_EDWARDS))
        && [&X25519_PARAMS[..], X25519_NAME].contains(&&parameters[..len])
}
