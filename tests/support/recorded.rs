//! Recorded connections of the original application, and the vault that repeats a recording.

use super::sodium::{BoxKey, KEY_BYTES, public_of};
use curve_tun::vault::{LongTermNonce, Purpose, Vault};
use curve_tun::{Error, PublicKey};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Who sent a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    Client,
    Server,
}

pub struct Message {
    pub sender: Sender,
    /// As on the wire, length field included.
    pub frame: Vec<u8>,
    pub plaintext: Vec<u8>,
}

/// One recorded connection, with every secret that went into it.
pub struct Recording {
    pub name: String,
    pub client_secret: [u8; KEY_BYTES],
    pub client_short_secret: [u8; KEY_BYTES],
    pub server_secret: [u8; KEY_BYTES],
    pub server_short_secret: [u8; KEY_BYTES],
    pub minute_key: [u8; KEY_BYTES],
    pub client_nonce: LongTermNonce,
    /// The nonce of the cookie packet's box, and of the cookie's secret box too.
    pub server_nonce: LongTermNonce,
    pub hello: Vec<u8>,
    pub cookie: Vec<u8>,
    pub initiate: Vec<u8>,
    /// In the order seen.
    pub messages: Vec<Message>,
}

impl Recording {
    pub fn server_public(&self) -> PublicKey {
        PublicKey(public_of(&self.server_secret))
    }

    pub fn client_public(&self) -> PublicKey {
        PublicKey(public_of(&self.client_secret))
    }
}

/// The project's own recordings, or those in the folder named by `CURVE_TUN_VECTORS`.
pub fn folder() -> PathBuf {
    match std::env::var_os("CURVE_TUN_VECTORS") {
        Some(folder) => folder.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/original"),
    }
}

/// Loads every recording in `folder`; fails if there is none, or an unreadable one.
pub fn load(folder: &Path) -> Result<Vec<Recording>, String> {
    let entries = std::fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut files: Vec<PathBuf> =
        entries.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>().map_err(|e| e.to_string())?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    if files.is_empty() {
        return Err(format!("{}: no recordings", folder.display()));
    }
    files.iter().map(|file| read(file).map_err(|e| format!("{}: {e}", file.display()))).collect()
}

fn read(file: &Path) -> Result<Recording, String> {
    let text = std::fs::read_to_string(file).map_err(|e| e.to_string())?;
    let json: Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
    let plaintexts = array(&json, "messages")?;
    let (mut handshake, mut messages) = (Vec::new(), Vec::new());
    for packet in array(&json, "packets")? {
        let sender = sender(packet)?;
        let frame = hex(&packet["frame_hex"])?;
        match (packet["kind"].as_str(), sender, handshake.len()) {
            (Some("hello"), Sender::Client, 0)
            | (Some("cookie"), Sender::Server, 1)
            | (Some("initiate"), Sender::Client, 2) => handshake.push(frame),
            (Some("message"), _, 3) => {
                let counter = frame.get(10..18).ok_or("a message packet is too short")?;
                let counter = u64::from_be_bytes(counter.try_into().map_err(|_| "no counter")?);
                let mut said = plaintexts.iter().filter(|message| message["counter"] == counter);
                let said = said.find(|message| message["direction"] == packet["direction"]);
                let plaintext = hex(&said.ok_or("a message packet without its plaintext")?["plaintext_hex"])?;
                messages.push(Message { sender, frame, plaintext });
            }
            (kind, ..) => return Err(format!("{kind:?} is out of place")),
        }
    }
    let [hello, cookie, initiate] = handshake.try_into().map_err(|_| "the handshake is not whole")?;
    if messages.len() != plaintexts.len() {
        return Err("a plaintext without its message packet".into());
    }
    Ok(Recording {
        name: file.display().to_string(),
        client_secret: exact(&json["client"]["long_term_secret"])?,
        client_short_secret: exact(&json["client"]["ephemeral_secret"])?,
        server_secret: exact(&json["server"]["long_term_secret"])?,
        server_short_secret: exact(&json["server"]["ephemeral_secret"])?,
        minute_key: exact(&json["server"]["minute_key"])?,
        client_nonce: exact(&json["nonces"]["client_safe_nonce"])?,
        server_nonce: exact(&json["nonces"]["server_safe_nonce"])?,
        hello,
        cookie,
        initiate,
        messages,
    })
}

fn array<'a>(json: &'a Value, name: &str) -> Result<&'a Vec<Value>, String> {
    json[name].as_array().ok_or_else(|| format!("no {name}"))
}

fn sender(packet: &Value) -> Result<Sender, String> {
    match packet["direction"].as_str() {
        Some("client_to_server") => Ok(Sender::Client),
        Some("server_to_client") => Ok(Sender::Server),
        other => Err(format!("direction {other:?}")),
    }
}

fn hex(text: &Value) -> Result<Vec<u8>, String> {
    let text = text.as_str().ok_or("hexadecimal digits are missing")?;
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return Err("not hexadecimal".into());
    }
    let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).map_err(|e| e.to_string());
    (0..text.len()).step_by(2).map(byte).collect()
}

fn exact<const N: usize>(text: &Value) -> Result<[u8; N], String> {
    hex(text)?.try_into().map_err(|bytes: Vec<u8>| format!("{} bytes where {N} belong", bytes.len()))
}

/// A vault that returns a recorded long-term nonce: a second implementation of the trait.
pub struct RecordedVault {
    pub secret: [u8; KEY_BYTES],
    pub nonce: LongTermNonce,
}

impl RecordedVault {
    fn key(&self, peer: &PublicKey) -> Result<BoxKey, Error> {
        BoxKey::agree(&self.secret, &peer.0).ok_or(Error::WeakKey)
    }
}

impl Vault for RecordedVault {
    fn public_key(&self) -> PublicKey {
        PublicKey(public_of(&self.secret))
    }

    fn box_seal(
        &self,
        purpose: Purpose,
        peer: &PublicKey,
        message: &[u8],
        sealed: &mut [u8],
    ) -> Result<LongTermNonce, Error> {
        self.key(peer)?.seal(&purpose.nonce(&self.nonce)?, message, sealed);
        Ok(self.nonce)
    }

    fn box_open(
        &self,
        purpose: Purpose,
        peer: &PublicKey,
        nonce: &[u8],
        sealed: &[u8],
        message: &mut [u8],
    ) -> Result<(), Error> {
        let opened = self.key(peer)?.opened(&purpose.nonce(nonce)?, sealed).ok_or(Error::BadPacket)?;
        message.copy_from_slice(&opened);
        Ok(())
    }
}
