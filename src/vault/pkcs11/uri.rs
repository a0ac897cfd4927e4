//! PKCS #11 URIs (RFC 7512), as far as they identify a key pair.
//!
//! A URI is `pkcs11:` and attributes, `name=value`, separated by `;`, then optionally `?` and more,
//! separated by `&`. Values are percent-encoded. A URI must be understood in full: an attribute
//! that is unknown, or given twice, is refused rather than ignored.

use super::pin::Pin;
use crate::crypto::wipe;
use crate::decimal::digits;
use crate::error::{Error, Result};
use cryptoki_sys::CK_SLOT_ID;
use std::path::PathBuf;

/// A parsed URI. Attributes that it does not have are `None`.
#[derive(Default)]
pub(super) struct Uri {
    /// The token's label.
    pub token: Option<String>,
    pub manufacturer: Option<String>,
    pub model: Option<String>,
    pub serial: Option<String>,
    pub slot_id: Option<CK_SLOT_ID>,
    pub slot_description: Option<String>,
    pub slot_manufacturer: Option<String>,
    pub library_description: Option<String>,
    pub library_manufacturer: Option<String>,
    /// The major and the minor number.
    pub library_version: Option<(u8, u8)>,
    /// The key's label.
    pub object: Option<String>,
    /// The key's identifier.
    pub id: Option<Vec<u8>>,
    /// Set if the URI says that a private key is meant, which is always the case.
    private: Option<()>,
    /// The library to load.
    pub module_path: Option<PathBuf>,
    pub pin_value: Option<Pin>,
    /// The file whose first line is the PIN.
    pub pin_source: Option<PathBuf>,
    /// The path of the file in which the bound of the counter is kept: curve_tun's own attribute,
    /// `x-curve-tun-state`.
    pub state: Option<PathBuf>,
}

impl Uri {
    /// Parses a URI.
    ///
    /// # Errors
    /// `InvalidArgument` for anything that is not such a URI.
    pub(super) fn parse(text: &str) -> Result<Uri> {
        let rest = strip_scheme(text).ok_or(Error::InvalidArgument)?;
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        let mut uri = Uri::default();
        for attribute in attributes(path, ';') {
            uri.take_from_path(attribute?)?;
        }
        for attribute in query.into_iter().flat_map(|query| attributes(query, '&')) {
            uri.take_from_query(attribute?)?;
        }
        if uri.pin_value.is_some() && uri.pin_source.is_some() {
            return Err(Error::InvalidArgument);
        }
        Ok(uri)
    }

    fn take_from_path(&mut self, (name, value): (&str, &str)) -> Result<()> {
        let value = decoded(value, b":[]@!$'()*+,=&")?;
        match name {
            "token" => once(&mut self.token, text(value)?),
            "manufacturer" => once(&mut self.manufacturer, text(value)?),
            "model" => once(&mut self.model, text(value)?),
            "serial" => once(&mut self.serial, text(value)?),
            "slot-id" => once(&mut self.slot_id, number(&text(value)?)?),
            "slot-description" => once(&mut self.slot_description, text(value)?),
            "slot-manufacturer" => once(&mut self.slot_manufacturer, text(value)?),
            "library-description" => once(&mut self.library_description, text(value)?),
            "library-manufacturer" => once(&mut self.library_manufacturer, text(value)?),
            "library-version" => once(&mut self.library_version, version(&text(value)?)?),
            "object" => once(&mut self.object, text(value)?),
            "id" => once(&mut self.id, value),
            // Only a private key can be used here.
            "type" if value == b"private" => once(&mut self.private, ()),
            _ => Err(Error::InvalidArgument),
        }
    }

    fn take_from_query(&mut self, (name, value): (&str, &str)) -> Result<()> {
        let mut value = decoded(value, b":[]@!$'()*+,=/?|")?;
        match name {
            "module-path" => once(&mut self.module_path, path(value)?),
            "pin-source" => {
                let source = text(value)?;
                // The source is a file, given by its path or as a URI. No command is run to get a
                // PIN.
                let source =
                    source.strip_prefix("file://").or(source.strip_prefix("file:")).unwrap_or(&source);
                once(&mut self.pin_source, path(source.as_bytes().to_vec())?)
            }
            "pin-value" => {
                let pin = Pin::new(&value);
                wipe(&mut value);
                once(&mut self.pin_value, pin?)
            }
            "x-curve-tun-state" => once(&mut self.state, path(value)?),
            _ => Err(Error::InvalidArgument),
        }
    }
}

/// Parses a URI and returns its attributes, in no particular order, for the project's fuzzing.
///
/// # Errors
/// `InvalidArgument` for anything that is not such a URI.
#[cfg(feature = "test-util")]
pub fn read_pkcs11_uri(text: &str) -> Result<Vec<(&'static str, Vec<u8>)>> {
    crate::crypto::init()?;
    let uri = Uri::parse(text)?;
    let text = |text: Option<String>| text.map(String::into_bytes);
    let path = |path: Option<PathBuf>| path.map(|path| path.into_os_string().into_encoded_bytes());
    let said = [
        ("token", text(uri.token)),
        ("manufacturer", text(uri.manufacturer)),
        ("model", text(uri.model)),
        ("serial", text(uri.serial)),
        ("slot-id", text(uri.slot_id.map(|id| id.to_string()))),
        ("slot-description", text(uri.slot_description)),
        ("slot-manufacturer", text(uri.slot_manufacturer)),
        ("library-description", text(uri.library_description)),
        ("library-manufacturer", text(uri.library_manufacturer)),
        ("library-version", text(uri.library_version.map(|(major, minor)| format!("{major}.{minor}")))),
        ("object", text(uri.object)),
        ("id", uri.id),
        ("type", uri.private.map(|()| b"private".to_vec())),
        ("module-path", path(uri.module_path)),
        ("pin-source", path(uri.pin_source)),
        ("pin-value", uri.pin_value.map(|pin| pin.bytes().to_vec())),
        ("x-curve-tun-state", path(uri.state)),
    ];
    Ok(said.into_iter().filter_map(|(name, value)| Some((name, value?))).collect())
}

/// Returns what follows the scheme `pkcs11:`, which may be in upper or lower case.
fn strip_scheme(text: &str) -> Option<&str> {
    let (scheme, rest) = text.split_once(':')?;
    scheme.eq_ignore_ascii_case("pkcs11").then_some(rest)
}

/// Returns the names and values of a list, still encoded; none for an empty list.
fn attributes(list: &str, separator: char) -> impl Iterator<Item = Result<(&str, &str)>> {
    let whole = (!list.is_empty()).then_some(list);
    let split = whole.into_iter().flat_map(move |list| list.split(separator));
    split.map(|attribute| attribute.split_once('=').ok_or(Error::InvalidArgument))
}

/// Decodes percent-encoding. Apart from letters, digits and `-._~`, only the bytes in `reserved`
/// may stand for themselves.
fn decoded(value: &str, reserved: &[u8]) -> Result<Vec<u8>> {
    // The whole vector is allocated at once, because a vector that grows leaves copies of a PIN
    // behind.
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        let itself = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || reserved.contains(&byte);
        match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                let (high, low) = (digit(), digit());
                let (high, low) = high.zip(low).ok_or(Error::InvalidArgument)?;
                bytes.push((high << 4 | low) as u8);
            }
            byte if itself => bytes.push(byte),
            _ => return Err(Error::InvalidArgument),
        }
    }
    Ok(bytes)
}

fn once<T>(field: &mut Option<T>, value: T) -> Result<()> {
    if field.is_some() {
        return Err(Error::InvalidArgument);
    }
    *field = Some(value);
    Ok(())
}

fn text(bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(|_| Error::InvalidArgument)
}

/// Parses a path, which must be absolute, so that it means the same in every working directory.
fn path(bytes: Vec<u8>) -> Result<PathBuf> {
    let path = PathBuf::from(text(bytes)?);
    if path.is_absolute() { Ok(path) } else { Err(Error::InvalidArgument) }
}

/// Parses decimal digits, and nothing else.
fn number<N: std::str::FromStr>(text: &str) -> Result<N> {
    digits(text).ok_or(Error::InvalidArgument)
}

/// Parses `major.minor`, or only `major`.
fn version(text: &str) -> Result<(u8, u8)> {
    match text.split_once('.') {
        Some((major, minor)) => Ok((number(major)?, number(minor)?)),
        None => Ok((number(text)?, 0)),
    }
}

#[cfg(test)]
mod tests;
