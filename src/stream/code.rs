//! Why a stream was aborted: PROTOCOL.md, section 13.3.

use std::fmt;

macro_rules! codes {
    ($($(#[doc = $doc:literal])* $number:literal $name:ident $sentence:literal;)*) => {
        /// Why a stream was aborted.
        ///
        /// The numbers are those on the wire (PROTOCOL.md, section 13.3).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        #[non_exhaustive]
        pub enum AbortCode {
            $($(#[doc = $doc])* $name = $number,)*
        }

        impl AbortCode {
            /// Returns the code of this number; a number that is not known here means `GivenUp`.
            #[must_use]
            pub const fn from_number(number: u16) -> AbortCode {
                match number {
                    $($number => AbortCode::$name,)*
                    _ => AbortCode::GivenUp,
                }
            }

            /// Returns every code, in the order of their numbers.
            #[must_use]
            pub const fn all() -> &'static [AbortCode] {
                &[$(AbortCode::$name,)*]
            }

            const fn sentence(self) -> &'static str {
                match self {
                    $(AbortCode::$name => $sentence,)*
                }
            }
        }
    };
}

codes! {
    /// The program has given the stream up, or ended without finishing it.
    0 GivenUp "the peer gave the stream up";
    /// The peer broke a rule of the stream layer.
    1 Protocol "the peer says that a rule of the stream layer was broken";
    /// A defect, or something that the system refused.
    2 Internal "the peer failed inside";
    /// What the stream was forwarded from or to has been reset.
    3 LocalReset "the connection behind the peer was reset";
    /// The program is about to end.
    4 ShuttingDown "the peer is shutting down";
    /// A limit of time has passed.
    5 TimeLimit "a limit of time has passed at the peer";
    /// There is no service of this name for this key.
    6 NoService "the peer offers no such service, or not to this key";
    /// Nothing listens at the address behind the peer.
    8 TargetRefused "the target behind the peer refused the connection";
    /// The address behind the peer cannot be reached.
    9 TargetUnreachable "the target behind the peer cannot be reached";
    /// A message was announced that is larger than the receiver takes.
    10 TooLarge "a message is larger than the peer takes";
    /// A limit of connections or of memory is reached.
    11 Busy "the peer is at a limit of its connections or of its memory";
}

impl AbortCode {
    /// Returns the number that stands for it on the wire.
    #[must_use]
    pub const fn number(self) -> u16 {
        self as u16
    }
}

impl fmt::Display for AbortCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence())
    }
}

/// An abort that came from the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Abort {
    /// Why.
    pub code: AbortCode,
    /// What an operator on the other side wanted to be told beside it, mostly nothing; at most 255
    /// bytes. Escape control characters where it is shown.
    pub text: String,
}
