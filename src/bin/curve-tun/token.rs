//! How subcommands use keys in PKCS#11 tokens: where a PIN comes from, and what errors say.

#[cfg(feature = "pkcs11")]
pub use built_in::{generate, inspect, open};
#[cfg(not(feature = "pkcs11"))]
pub use left_out::{generate, inspect, open};

#[cfg(feature = "pkcs11")]
mod built_in {
    use crate::failure::{Failure, PIN_REFUSED};
    use crate::input::exposed_hint;
    use crate::terminal::ask;
    use crate::vault::PassphraseArgs;
    use curve_tun::vault::{LeftKey, Pkcs11Failure, Pkcs11Part, Pkcs11Vault};
    use curve_tun::{Error, PublicKey};
    use std::fmt::Write;
    use std::path::Path;

    /// Opens the key that the URI names.
    pub fn open(uri: &str, pin: &PassphraseArgs) -> Result<Pkcs11Vault, Failure> {
        let explain = |failure| explain("open the key in the token", failure, "");
        with_pin(uri, pin, |pin| Pkcs11Vault::open_explained(uri, pin), explain)
    }

    /// Makes a key and opens it.
    pub fn generate(uri: &str, pin: &PassphraseArgs) -> Result<Pkcs11Vault, Failure> {
        let explain = |failure| explain("make a key in the token", failure, " No key was made.");
        with_pin(uri, pin, |pin| Pkcs11Vault::generate_explained(uri, pin), explain)
    }

    /// Returns the public key, as the token gives it.
    pub fn inspect(uri: &str, pin: &PassphraseArgs) -> Result<PublicKey, Failure> {
        let explain = |failure| explain("use the key in the token", failure, "");
        with_pin(uri, pin, |pin| Pkcs11Vault::inspect_explained(uri, pin), explain)
    }

    /// Opens a token with its PIN. Asks for the PIN only if neither the URI nor an option has one
    /// and the token wants one, because each refused PIN brings a token closer to its lock.
    fn with_pin<T>(
        uri: &str,
        given: &PassphraseArgs,
        open: impl Fn(Option<&[u8]>) -> Result<T, Pkcs11Failure>,
        explain: impl FnOnce(Pkcs11Failure) -> Failure,
    ) -> Result<T, Failure> {
        let pin = if given.given() { Some(given.read()?) } else { None };
        let opened = match open(pin.as_deref().map(Vec::as_slice)) {
            Err(failure) if failure.error == Error::WrongPassphrase && pin.is_none() && !has_pin(uri) => {
                open(Some(&ask("PIN: ")?))
            }
            opened => opened,
        };
        opened.map_err(explain)
    }

    /// Returns whether a URI has a PIN, or names the file of one (RFC 7512, 2.4).
    fn has_pin(uri: &str) -> bool {
        let query = uri.split_once('?').map_or("", |(_, query)| query);
        query.split('&').any(|part| part.starts_with("pin-source=") || part.starts_with("pin-value="))
    }

    /// Returns the failure, with what to do about it, then `otherwise` unless a key was left in the
    /// token. It does not repeat the URI, which may have a PIN.
    fn explain(what: &str, failure: Pkcs11Failure, otherwise: &str) -> Failure {
        let Pkcs11Failure { error, ref part, ref left, .. } = failure;
        let hint = match part {
            Pkcs11Part::Uri => of_uri().to_owned(),
            Pkcs11Part::PinFile(path) if error == Error::VaultPermissions => exposed_hint(path),
            Pkcs11Part::Pin | Pkcs11Part::PinFile(_) => {
                "The first line of the PIN's file must be the PIN alone: 1 to 255 bytes.".to_owned()
            }
            Pkcs11Part::Module(path) => of_module(path, error),
            Pkcs11Part::Token => of_token(error).to_owned(),
            Pkcs11Part::State(path) => of_state(path.as_deref(), error),
            _ => "The module's own tools may tell more.".to_owned(),
        };
        let hint = hint + &left.as_ref().map_or_else(|| otherwise.to_owned(), of_left);
        let told = Failure::new(format_args!("cannot {what}: {failure}")).hint(hint);
        let refused = matches!(error, Error::WrongPassphrase | Error::PinLocked);
        if refused { told.code(PIN_REFUSED) } else { told }
    }

    fn of_uri() -> &'static str {
        "The URI is malformed, has an unknown attribute, or lacks the \"object\" of a new key. Write \
         pkcs11:token=NAME;object=NAME?module-path=/PATH, with special characters as %20 and the like."
    }

    fn of_module(path: &Path, error: Error) -> String {
        match error {
            Error::FileNotFound => "Check module-path in the URI.".to_owned(),
            Error::NotFound => "It is not the library that the URI says has to answer.".to_owned(),
            _ if path.is_relative() => {
                "It is taken when the URI names no module, and is part of p11-kit: install that, or write module-path=/PATH \
                 in the URI."
                    .to_owned()
            }
            _ => format!(
                "It cannot be loaded or initialised as a PKCS#11 library. \"pkcs11-tool --module {} \
                 --list-token-slots\" may tell more.",
                path.display()
            ),
        }
    }

    fn of_token(error: Error) -> &'static str {
        match error {
            Error::NotFound => {
                "No token, or no X25519 key in it, fits the URI. Is it plugged in? \
                 \"pkcs11-tool --module PATH --list-token-slots\" shows what there is."
            }
            Error::InvalidArgument => {
                "Several tokens or keys fit the URI: name one, by its serial, object or id."
            }
            Error::WrongPassphrase => {
                "A token locks after a few wrong PINs: nothing should try again by itself."
            }
            Error::PinLocked => "The token's security officer sets a new one.",
            Error::AlreadyExists => "The token has an object of that name. Choose another.",
            Error::ReadOnly => "The token is write-protected.",
            _ => {
                "Does the token know X25519 (CKM_ECDH1_DERIVE, and the making of Montgomery or Edwards keys)? \
                 The module's own tools may tell more."
            }
        }
    }

    /// Returns the hint for a failure with the state. The message has named the path already.
    fn of_state(path: Option<&Path>, error: Error) -> String {
        if path.is_none() {
            return "Set HOME or XDG_STATE_HOME, or name a file with x-curve-tun-state=/PATH in the URI."
                .to_owned();
        }
        let hint = match error {
            Error::AlreadyExists => "It is there already. A new key needs a new one: choose another path.",
            Error::VaultInUse => "Another process uses this key. Have both use one \"curve-tun agent\".",
            Error::VaultCorrupt => {
                "It is damaged, or another key's. It holds nothing that is lost with it: move it away, and a new \
                 one is made."
            }
            Error::VaultPermissions => "It must be a regular file of your own with mode 0600.",
            Error::DiskFull => "Make room on the disk.",
            _ => {
                "The bound of the key's counter is kept there: its folder must exist and be one that this user can \
                 write. Name another file with x-curve-tun-state=/PATH in the URI."
            }
        };
        hint.to_owned()
    }

    /// Returns how to go on with a new key that cannot be used and could not be removed.
    fn of_left(left: &LeftKey) -> String {
        let id = left.id.iter().fold(String::new(), |mut id, byte| {
            // Writing to a string cannot fail.
            let _ = write!(id, "{byte:02x}");
            id
        });
        let public = left.public.map_or_else(String::new, |key| format!(" Its public key is {key}."));
        format!(
            "\nThe new key, of id {id}, is in the token and could not be removed.{public} \"curve-tun public \
             --pkcs11 URI\" shows whether it can be used; \"pkcs11-tool --login --delete-object --type privkey \
             --id {id}\", and again with \"pubkey\", removes it."
        )
    }
}

/// Replaces the above in a build without the feature.
#[cfg(not(feature = "pkcs11"))]
mod left_out {
    use crate::failure::Failure;
    use crate::vault::PassphraseArgs;
    use curve_tun::vault::FileVault;
    use curve_tun::{Error, PublicKey};

    pub fn open(_: &str, _: &PassphraseArgs) -> Result<FileVault, Failure> {
        Err(unsupported())
    }

    pub fn generate(_: &str, _: &PassphraseArgs) -> Result<FileVault, Failure> {
        Err(unsupported())
    }

    pub fn inspect(_: &str, _: &PassphraseArgs) -> Result<PublicKey, Failure> {
        Err(unsupported())
    }

    fn unsupported() -> Failure {
        Failure::from(Error::Unsupported).hint("Build curve-tun with --features cli,pkcs11.")
    }
}
