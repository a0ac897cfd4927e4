//! The grammar of the registry file, one line at a time (`docs/REGISTRIES.md`).

use crate::crypto::PublicKey;
use crate::error::{Error, Result};
use crate::registry::{Place, ServerName};
use std::io::{BufRead, Read};
use std::{fmt, str::FromStr};

/// The most bytes in a line, without its end.
pub(super) const LINE_MAX: usize = 4096;
/// The most bytes in a comment that is written.
const COMMENT_MAX: usize = 1024;

/// What an entry speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Clients that come from this place.
    Client(Place),
    /// The server that goes by this name.
    Server(ServerName),
}

impl FromStr for Subject {
    type Err = Error;

    /// `Error::BadAddress` for anything but `[host]:port`, `*`, `!`, an address or a network.
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
    /// Whom it is about.
    pub subject: Subject,
    /// The public key.
    pub key: PublicKey,
    /// What the operator noted; may be empty.
    pub comment: String,
}

impl fmt::Display for Entry {
    /// The line that the file has for it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.subject, self.key)?;
        if self.comment.is_empty() { Ok(()) } else { write!(f, " {}", self.comment) }
    }
}

/// `InvalidArgument` for a comment that does not fit into a line.
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
    /// It has a control character other than a tab.
    ControlCharacter,
    /// It does not begin with `*`, `!`, an address or a network.
    BadPlace,
    /// It begins with `[`, but not with `[host]:port`.
    BadServer,
    /// It has no key.
    MissingKey,
    /// Its key is not 44 characters of base64.
    BadKey,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Problem::TooLong => "the line is over 4096 bytes",
            Problem::NotUtf8 => "the line is not UTF-8",
            Problem::ControlCharacter => "there is a control character",
            Problem::BadPlace => "this is not *, !, an address, a network or [host]:port",
            Problem::BadServer => "this is not [host]:port",
            Problem::MissingKey => "a public key is missing",
            Problem::BadKey => "this is not a public key: 44 characters of base64",
        })
    }
}

/// Where a file is wrong. Lines count from 1, columns too, in bytes.
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

/// The entry of a line, or `None` for a blank line or a comment; else how many bytes come before which problem.
pub(super) fn parse(line: &[u8]) -> std::result::Result<Option<Entry>, (usize, Problem)> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.len() > LINE_MAX {
        return Err((LINE_MAX, Problem::TooLong));
    }
    let line = std::str::from_utf8(line).map_err(|e| (e.valid_up_to(), Problem::NotUtf8))?;
    if let Some(at) = line.find(|c: char| c.is_control() && c != '\t') {
        return Err((at, Problem::ControlCharacter));
    }
    let (start, subject, rest) = word(line, 0);
    if subject.is_empty() || subject.starts_with('#') {
        return Ok(None);
    }
    let problem = if subject.starts_with('[') { Problem::BadServer } else { Problem::BadPlace };
    let subject = subject.parse().map_err(|_| (start, problem))?;
    let (start, key, rest) = word(line, rest);
    if key.is_empty() {
        return Err((start, Problem::MissingKey));
    }
    let key = key.parse().map_err(|_| (start, Problem::BadKey))?;
    Ok(Some(Entry { subject, key, comment: line[rest..].trim().to_owned() }))
}

/// The first word at or after byte `from`: where it begins, itself, and where it ends.
fn word(line: &str, from: usize) -> (usize, &str, usize) {
    let blank = [' ', '\t'];
    let start = line[from..].find(|c| !blank.contains(&c)).map_or(line.len(), |skip| from + skip);
    let end = line[start..].find(blank).map_or(line.len(), |len| start + len);
    (start, &line[start..end], end)
}

/// What stops the reading of a file.
pub(super) enum Stopped {
    Malformed(Malformed),
    Io(std::io::Error),
}

/// Shows each entry to `take`, with its line as it stands, without its end; lines without an entry come as `None`.
pub(super) fn each_line(
    mut file: impl BufRead,
    mut take: impl FnMut(Option<Entry>, &[u8]),
) -> std::result::Result<(), Stopped> {
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        // One more byte than is allowed, a carriage return and the line feed.
        let most = LINE_MAX as u64 + 3;
        if file.by_ref().take(most).read_until(b'\n', &mut line).map_err(Stopped::Io)? == 0 {
            break;
        }
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let entry = parse(text).map_err(|(before, problem)| {
            Stopped::Malformed(Malformed { line: number, column: before as u64 + 1, problem })
        })?;
        take(entry, text);
    }
    Ok(())
}
