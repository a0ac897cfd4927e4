//! Makes a new key pair in a token. Everything that this needs is checked first, and a key that
//! cannot be used is removed.

use super::failure::{Explained, LeftKey, Pkcs11Failure, Pkcs11Part};
use super::module::Module;
use super::pin::Pin;
use super::session::{Session, Value};
use super::token::{OpenKey, TokenKey, X25519_PARAMS, about_token, enter, find_token, look, named};
use super::uri::Uri;
use crate::crypto::{PublicKey, random};
use crate::error::{Error, Result};
use cryptoki_sys::{
    CK_FALSE, CK_MECHANISM_TYPE, CK_OBJECT_HANDLE, CK_TRUE, CKA_DERIVE, CKA_EC_PARAMS, CKA_EXTRACTABLE,
    CKA_ID, CKA_LABEL, CKA_PRIVATE, CKA_SENSITIVE, CKA_TOKEN, CKF_WRITE_PROTECTED,
    CKM_EC_EDWARDS_KEY_PAIR_GEN, CKM_EC_MONTGOMERY_KEY_PAIR_GEN, CKM_ECDH1_DERIVE,
};

/// A token in which a key can be made. Everything that can be checked before has been checked.
pub(super) struct Maker {
    uri: Uri,
    pin: Option<Pin>,
    session: Session,
    mechanism: CK_MECHANISM_TYPE,
    id: Vec<u8>,
}

/// A key that was just made, and can still be taken back.
pub(super) struct Made {
    uri: Uri,
    pin: Option<Pin>,
    open: OpenKey,
    id: Vec<u8>,
    objects: [CK_OBJECT_HANDLE; 2],
}

impl Maker {
    pub(super) fn ready(uri: Uri, pin: Option<Pin>) -> Explained<Maker> {
        if uri.object.is_none() {
            return Err(Pkcs11Failure::of(Pkcs11Part::Uri, Error::InvalidArgument));
        }
        let (session, mechanism) = look(&uri, |module| Maker::enter(module, &uri, pin.as_ref()))?;
        let mut id = vec![0; 16];
        random(&mut id)?;
        let id = uri.id.clone().unwrap_or(id);
        Ok(Maker { uri, pin, session, mechanism, id })
    }

    fn enter(module: &Module, uri: &Uri, pin: Option<&Pin>) -> Result<(Session, CK_MECHANISM_TYPE)> {
        let slot = find_token(module, uri)?;
        if module.token_info(slot)?.flags & CKF_WRITE_PROTECTED != 0 {
            return Err(Error::ReadOnly);
        }
        let mechanisms = module.mechanisms(slot)?;
        // Older modules make X25519 keys with the key type Edwards.
        let mechanism = [CKM_EC_MONTGOMERY_KEY_PAIR_GEN, CKM_EC_EDWARDS_KEY_PAIR_GEN]
            .into_iter()
            .find(|mechanism| mechanisms.contains(mechanism))
            .filter(|_| mechanisms.contains(&CKM_ECDH1_DERIVE))
            .ok_or(Error::VaultFailed)?;
        let session = enter(module, slot, true, pin)?;
        // Two keys with the same name could not be told apart.
        if session.find(&named(uri))?.is_empty() {
            Ok((session, mechanism))
        } else {
            Err(Error::AlreadyExists)
        }
    }

    /// Makes the key in the token, which it never leaves. A key that cannot be used is removed.
    pub(super) fn make(self) -> Explained<Made> {
        let Maker { uri, pin, session, mechanism, id } = self;
        let label = uri.object.as_deref().unwrap_or_default();
        let both = [
            (CKA_TOKEN, Value::Flag(CK_TRUE)),
            (CKA_LABEL, Value::Bytes(label.as_bytes())),
            (CKA_ID, Value::Bytes(&id)),
        ];
        let public = [&both[..], &[(CKA_EC_PARAMS, Value::Bytes(&X25519_PARAMS))]].concat();
        let kept = [
            (CKA_PRIVATE, Value::Flag(CK_TRUE)),
            (CKA_SENSITIVE, Value::Flag(CK_TRUE)),
            (CKA_EXTRACTABLE, Value::Flag(CK_FALSE)),
            (CKA_DERIVE, Value::Flag(CK_TRUE)),
        ];
        let private = [&both[..], &kept].concat();
        let pair = session.generate_pair(mechanism, &public, &private);
        let (public, private) = pair.map_err(|error| {
            // Some tokens make one of the two keys, or both, and then fail.
            let objects = session.find(&both).unwrap_or_default();
            let left = (!remove(&session, &objects)).then(|| LeftKey { public: None, id: id.clone() });
            Pkcs11Failure { left, ..about_token(error) }
        })?;
        let mut open = OpenKey::unproven(session, private);
        let usable = open.find_out();
        let made = Made { uri, pin, open, id, objects: [private, public] };
        match usable {
            Ok(()) => Ok(made),
            Err(error) => Err(made.take_back(about_token(error))),
        }
    }
}

impl Made {
    pub(super) fn public_key(&self) -> &PublicKey {
        &self.open.public
    }

    pub(super) fn keep(self) -> TokenKey {
        TokenKey::of(self.uri, self.pin, self.open)
    }

    /// Removes the key again, because `failure` makes it useless.
    pub(super) fn take_back(self, failure: Pkcs11Failure) -> Pkcs11Failure {
        let known = self.open.public != PublicKey::BASE_POINT;
        let public = known.then_some(self.open.public);
        let removed = remove(&self.open.session, &self.objects);
        Pkcs11Failure { left: (!removed).then_some(LeftKey { public, id: self.id }), ..failure }
    }
}

/// Removes objects; returns whether all are gone.
fn remove(session: &Session, objects: &[CK_OBJECT_HANDLE]) -> bool {
    // Each is tried, whatever happens to the others.
    let refused = objects.iter().filter(|object| session.destroy(**object).is_err());
    refused.count() == 0
}
