//! The grammar of the registry file, one line at a time (`docs/REGISTRIES.md`).

use crate::crypto::PublicKey;
use crate::error::{Error, Result};
use crate::registry::{Network, Place, ServerName, network, server_name};
use std::io::{BufRead, Read};
use std::{fmt, str::FromStr};

/// The most bytes in a line, without its line end.
pub(super) const LINE_MAX: usize = 4096;
/// The most bytes in a comment that this module writes.
const COMMENT_MAX: usize = 1024;

/// What an entry is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Clients that connect from this place.
    Client(Place),
    /// The server of this name.
    Server(ServerName),
}

impl FromStr for Subject {
    type Err = Error;

    /// Parses `[host]:port`, `*`, `!`, an address or a network; returns `Error::BadAddress` for
    /// anything else.
    fn from_str(text: &str) -> Result<Subject> {
        if text.starts_with('[') {
            text.parse().map(Subject::Server).map_err(|_| Error::BadAddress)
        } else {
            text.parse().map(Subject::Client)
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Client(place) => place.fmt(f),
            Subject::Server(name) => name.fmt(f),
        }
    }
}

/// One entry of a registry file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The clients or the server that the entry is about.
    pub subject: Subject,
    /// The public key.
    pub key: PublicKey,
    /// The operator's note; may be empty.
    pub comment: String,
}

impl fmt::Display for Entry {
    /// Writes the line that stands for the entry in the file, without its line end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.subject, self.key)?;
        if self.comment.is_empty() { Ok(()) } else { write!(f, " {}", self.comment) }
    }
}

/// Returns `InvalidArgument` for a comment that does not fit into a line.
pub(super) fn check_comment(comment: &str) -> Result<()> {
    let fits =
        comment.len() <= COMMENT_MAX && comment.trim() == comment && !comment.contains(char::is_control);
    if fits { Ok(()) } else { Err(Error::InvalidArgument) }
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// It has over 4096 bytes.
    TooLong,
    /// It is not UTF-8.
    NotUtf8,
    /// It begins with a byte order mark.
    ByteOrderMark,
    /// It has a control character other than a tab.
    ControlCharacter,
    /// It does not begin with `*`, `!`, an address or a network.
    BadPlace,
    /// The address of the network has bits set after the prefix; this is the network that was
    /// meant.
    BitsAfterPrefix(Network),
    /// It begins with a client's address that has a scope, such as `%eth0`.
    ScopedPlace,
    /// It begins with `[`, but not with `[host]:port`.
    BadServer,
    /// The host in brackets has over 253 characters, or over 63 between two dots.
    LongName,
    /// The host in brackets has a scope, such as `%eth0`, but is not a link-local address, or the
    /// scope cannot be the name of an interface.
    BadScope,
    /// It has no key.
    MissingKey,
    /// Its key is not 44 characters of base64.
    BadKey,
}

impl Problem {
    /// Returns what is wrong with a text that is not a [`Subject`].
    pub fn of_subject(text: &str) -> Problem {
        match text.strip_prefix('[') {
            Some(server) if server_name::is_too_long(server) => Problem::LongName,
            Some(server) if server_name::has_bad_scope(server) => Problem::BadScope,
            Some(_) => Problem::BadServer,
            None if network::read_address(text).is_ok() => Problem::ScopedPlace,
            None => Network::meant(text).map_or(Problem::BadPlace, Problem::BitsAfterPrefix),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Problem::TooLong => "the line is over 4096 bytes",
            Problem::NotUtf8 => "the line is not UTF-8",
            Problem::ByteOrderMark => "there is a byte order mark: save the file without one, as plain UTF-8",
            Problem::ControlCharacter => "there is a control character",
            Problem::BadPlace => "this is not *, !, an address, a network or [host]:port",
            Problem::BitsAfterPrefix(network) => {
                return write!(
                    f,
                    "this is no network, for it has bits after its length: the network is {network}"
                );
            }
            Problem::ScopedPlace => {
                "clients are let in by address or network alone: leave out % and what follows"
            }
            Problem::BadServer => "this is not [host]:port",
            Problem::LongName => "a host has at most 253 characters, and at most 63 between dots",
            Problem::BadScope => "what follows % is an interface, of an address in fe80::/10",
            Problem::MissingKey => "a public key is missing",
            Problem::BadKey => "this is not a public key: 44 characters of base64",
        })
    }
}

/// Where a file is wrong. Lines and columns count from 1; columns are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The line.
    pub line: u64,
    /// The byte in the line at which the problem begins.
    pub column: u64,
    /// What is wrong there.
    pub problem: Problem,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.problem)
    }
}

impl std::error::Error for Malformed {}

/// Parses a line. Returns its entry, or `None` for a blank line or a comment. The error is the
/// number of bytes before the problem, and the problem.
pub(super) fn parse(line: &[u8]) -> std::result::Result<Option<Entry>, (usize, Problem)> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.len() > LINE_MAX {
        return Err((LINE_MAX, Problem::TooLong));
    }
    let line = std::str::from_utf8(line).map_err(|e| (e.valid_up_to(), Problem::NotUtf8))?;
    if let Some(at) = line.find(|c: char| c.is_control() && c != '\t') {
        return Err((at, Problem::ControlCharacter));
    }
    if line.starts_with('\u{feff}') {
        return Err((0, Problem::ByteOrderMark));
    }
    let (start, subject, rest) = word(line, 0);
    if subject.is_empty() || subject.starts_with('#') {
        return Ok(None);
    }
    let subject = subject.parse().map_err(|_| (start, Problem::of_subject(subject)))?;
    let (start, key, rest) = word(line, rest);
    if key.is_empty() {
        return Err((start, Problem::MissingKey));
    }
    let key = key.parse().map_err(|_| (start, Problem::BadKey))?;
    Ok(Some(Entry { subject, key, comment: line[rest..].trim().to_owned() }))
}

/// Returns the first word at or after byte `from`: where it begins, the word itself, and where it
/// ends.
fn word(line: &str, from: usize) -> (usize, &str, usize) {
    let blank = [' ', '\t'];
    let start = line[from..].find(|c| !blank.contains(&c)).map_or(line.len(), |skip| from + skip);
    let end = line[start..].find(blank).map_or(line.len(), |len| start + len);
    (start, &line[start..end], end)
}

/// A line of a file, or a part of one that is too long.
pub(super) struct Line<'a> {
    /// How many bytes of the file come before it.
    pub at: u64,
    /// All its bytes, with its line end if it has one.
    pub raw: &'a [u8],
    pub entry: Option<Entry>,
}

impl Line<'_> {
    /// Returns the offset in the file of the first byte that is not blank.
    pub(super) fn first(&self) -> u64 {
        let blanks = self.raw.iter().take_while(|b| [b' ', b'\t'].contains(b)).count();
        self.at + blanks as u64
    }
}

/// Passes each line to `take`, including those after a wrong line. Returns the first wrong line.
pub(super) fn each_line(
    mut file: impl BufRead,
    mut take: impl FnMut(Line<'_>),
) -> std::io::Result<Option<Malformed>> {
    let (mut raw, mut at, mut number, mut continued, mut wrong) = (Vec::new(), 0, 0, false, None);
    loop {
        raw.clear();
        // One more byte than is allowed, plus a carriage return and the line feed.
        let most = LINE_MAX as u64 + 3;
        if file.by_ref().take(most).read_until(b'\n', &mut raw)? == 0 {
            return Ok(wrong);
        }
        let text = raw.strip_suffix(b"\n").unwrap_or(&raw);
        let mut entry = None;
        if !continued {
            number += 1;
            match parse(text) {
                Ok(read) => entry = read,
                Err((before, problem)) => {
                    let column = before as u64 + 1;
                    wrong = wrong.or(Some(Malformed { line: number, column, problem }));
                }
            }
        }
        continued = text.len() == raw.len();
        take(Line { at, raw: &raw, entry });
        at += raw.len() as u64;
    }
}
