//! A peer that keeps no rule, beside the rules written down once more: as what may stand after a whole
//! history, where the layer keeps a state.

use super::{message, open_messages, open_stream};
use curve_tun::Error;
use curve_tun::stream::{Event, Machine, Mode, Options};
use proptest::prelude::*;

const MAX: u32 = 200_000;

#[derive(Clone, Debug)]
enum Step {
    /// A message comes.
    Came(Vec<u8>),
    /// The program takes the stream, if it is a server's.
    Accept,
    /// All that is to be sent is taken.
    Take,
    /// The program asks whether the peer is there.
    Ping([u8; 8]),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Good,
    Aborts,
    Violates,
    TooLarge,
    NotAStream,
    Dropped,
}

#[derive(Clone, Copy, Debug)]
struct Setup {
    mode: Mode,
    server: bool,
}

/// The history of one end.
struct History<'a> {
    setup: Setup,
    steps: &'a [Step],
}

impl History<'_> {
    /// The messages that came before step `at`.
    fn before(&self, at: usize) -> impl Iterator<Item = (usize, &[u8])> {
        self.steps[..at].iter().enumerate().filter_map(|(at, step)| match step {
            Step::Came(message) => Some((at, &message[..])),
            _ => None,
        })
    }

    /// The step at which the own OPEN was taken, of those before `at`.
    fn opened(&self, at: usize) -> Option<usize> {
        let from = if self.setup.server {
            let first = self.before(at).next()?.0;
            first + self.steps[first..at].iter().position(|step| matches!(step, Step::Accept))?
        } else {
            0
        };
        let taken = self.steps[from..at].iter().position(|step| matches!(step, Step::Take))?;
        Some(from + taken)
    }

    /// What is left of a large message before step `at`.
    fn left(&self, at: usize) -> i64 {
        let began = self.before(at).filter(|(_, message)| message[0] == 4).last();
        let Some((began, first)) = began else { return 0 };
        let total = i64::from(u32::from_be_bytes(first[1..5].try_into().unwrap()));
        let after = self.before(at).filter(|(at, message)| *at > began && message[0] == 0);
        let left = total - (first.len() as i64 - 5);
        // Small messages that come after it count, too.
        (left - after.map(|(_, message)| message.len() as i64 - 1).sum::<i64>()).max(0)
    }

    fn verdict(&self, at: usize) -> Verdict {
        let Step::Came(bytes) = &self.steps[at] else { return Verdict::Good };
        if self.before(at).any(|(at, _)| self.verdict(at) != Verdict::Good) {
            return Verdict::Dropped;
        }
        let messages = self.setup.mode == Mode::Messages;
        let (ended, left) = (self.before(at).any(|(_, m)| m[0] == 1), self.left(at));
        let good = |good: bool| if good { Verdict::Good } else { Verdict::Violates };
        let abort =
            |bytes: &[u8]| (3..=258).contains(&bytes.len()) && std::str::from_utf8(&bytes[3..]).is_ok();
        if self.before(at).next().is_none() {
            return match bytes.first() {
                Some(2) if abort(bytes) => Verdict::Aborts,
                Some(3) if bytes[1..].starts_with(b"ctstrm01") => good(self.opens(&bytes[9..])),
                _ => Verdict::NotAStream,
            };
        }
        let Some((kind, body)) = bytes.split_first() else { return Verdict::Violates };
        match kind {
            0 if ended => Verdict::Violates,
            0 if left > 0 => good((1..=left).contains(&(body.len() as i64))),
            0 => good(messages || !body.is_empty()),
            1 => good(!ended && left == 0 && body.is_empty()),
            2 if abort(bytes) => Verdict::Aborts,
            4 if messages && !ended && left == 0 && body.len() > 4 && self.opened(at).is_some() => {
                match u32::from_be_bytes(body[..4].try_into().unwrap()) {
                    ..=65_502 => Verdict::Violates,
                    65_503..=MAX => Verdict::Good,
                    _ => Verdict::TooLarge,
                }
            }
            5 => {
                // The last answer that went out, if any could.
                let opened = self.opened(at).unwrap_or(at);
                let taken = |step: usize| step >= opened && matches!(self.steps[step], Step::Take);
                let answered = (0..at).rev().find(|step| taken(*step)).unwrap_or(0);
                let owed = self.before(at).any(|(at, m)| m[0] == 5 && at >= answered);
                good(body.len() == 8 && !owed)
            }
            6 => good(self.asked(at).is_some_and(|value| body == value)),
            _ => Verdict::Violates,
        }
    }

    /// The own ping that is not answered before step `at`.
    fn asked(&self, at: usize) -> Option<[u8; 8]> {
        let opened = self.opened(at)?;
        let mut asked = None;
        for (at, step) in self.steps[..at].iter().enumerate() {
            match step {
                Step::Ping(value) if at > opened => asked = asked.or(Some(*value)),
                Step::Came(message) if message.first() == Some(&6) => asked = None,
                _ => {}
            }
        }
        asked
    }

    /// Whether what stands after the magic of an OPEN is as it has to be; these have no fields that
    /// the layer knows.
    fn opens(&self, rest: &[u8]) -> bool {
        let Some((head, mut fields)) = rest.split_at_checked(5) else { return false };
        let size = u32::from_be_bytes(head[1..].try_into().unwrap());
        let fits = match self.setup.mode {
            Mode::Stream => head[0] == 0 && size == 0,
            Mode::Messages => head[0] == 1 && size >= 65_502,
        };
        let mut numbers = vec![0];
        while let [number, high, low, more @ ..] = fields {
            let len = usize::from(u16::from_be_bytes([*high, *low]));
            if more.len() < len || *number >= 128 {
                return false;
            }
            numbers.push(*number);
            fields = &more[len..];
        }
        fits && fields.is_empty() && numbers.is_sorted_by(|a, b| a < b)
    }
}

fn came() -> impl Strategy<Value = Vec<u8>> {
    let bytes = |len: std::ops::Range<usize>| prop::collection::vec(any::<u8>(), len);
    let value = prop_oneof![Just(*b"11111111"), Just(*b"22222222")];
    let begin = prop_oneof![Just(65_502), Just(65_503), 65_504..MAX + 2, Just(MAX), Just(u32::MAX)];
    let fields = prop::collection::vec((3..=130u8, bytes(0..3)), 0..3).prop_map(|fields| {
        let field = |(number, value): (u8, Vec<u8>)| [&[number, 0, value.len() as u8], &value[..]].concat();
        fields.into_iter().flat_map(field).collect::<Vec<u8>>()
    });
    let opens = (prop_oneof![Just(open_stream()), Just(open_messages(MAX))], fields);
    prop_oneof![
        6 => bytes(0..5).prop_map(|body| message(0, &body)),
        4 => prop_oneof![Just(65_502usize), Just(65_000), Just(5)].prop_map(|len| message(0, &vec![7; len])),
        2 => Just(message(1, b"")),
        1 => bytes(0..4).prop_map(|body| message(2, &body)),
        1 => opens.prop_map(|(open, fields)| [open, fields].concat()),
        4 => (begin, bytes(0..3)).prop_map(|(total, first): (u32, _)| {
            message(4, &[&total.to_be_bytes()[..], &first].concat())
        }),
        3 => value.clone().prop_map(|value| message(5, &value)),
        3 => value.prop_map(|value| message(6, &value)),
        1 => bytes(0..12),
        1 => (0..8u8, bytes(0..10)).prop_map(|(kind, body)| message(kind, &body)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let value = prop_oneof![Just(*b"11111111"), Just(*b"22222222")];
    prop_oneof![
        10 => came().prop_map(Step::Came),
        4 => Just(Step::Take),
        2 => Just(Step::Accept),
        2 => value.prop_map(Step::Ping),
    ]
}

/// Histories that mostly begin as they have to.
fn history() -> impl Strategy<Value = (Setup, Vec<Step>)> {
    let mode = prop_oneof![Just(Mode::Stream), Just(Mode::Messages)];
    let steps = prop::collection::vec(step(), 0..25);
    (mode, any::<bool>(), prop::bool::weighted(0.9), steps).prop_map(|(mode, server, opened, steps)| {
        let first = if mode == Mode::Stream { open_stream() } else { open_messages(MAX) };
        let beginning = [Step::Came(first), Step::Accept, Step::Take];
        let beginning = beginning.into_iter().take(if opened { 3 } else { 0 });
        (Setup { mode, server }, beginning.chain(steps).collect())
    })
}

fn machine(setup: Setup) -> Machine {
    let mut options = if setup.mode == Mode::Stream { Options::stream() } else { Options::messages() };
    options.message_max = MAX;
    if setup.server { Machine::server(&options) } else { Machine::client(&options) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn whatever_comes_is_judged_by_the_rules((setup, steps) in history()) {
        let mut machine = machine(setup);
        let history = History { setup, steps: &steps };
        let mut refusals = Vec::new();
        for (at, step) in steps.iter().enumerate() {
            let bytes = match step {
                Step::Came(bytes) => bytes,
                Step::Accept => {
                    // Not twice, not too early, not by a client.
                    let _ = machine.accept();
                    continue;
                }
                Step::Take => {
                    while machine.next_message().is_some() {}
                    continue;
                }
                Step::Ping(value) => {
                    let _ = machine.ping(*value);
                    continue;
                }
            };
            let had_end = machine.received_end() == Ok(true);
            let received = machine.receive(bytes);
            let verdict = history.verdict(at);
            let expected = match verdict {
                Verdict::Violates => Err(Error::BadPacket),
                Verdict::TooLarge => Err(Error::TooLarge),
                Verdict::NotAStream => Err(Error::NotAStream),
                Verdict::Dropped | Verdict::Aborts | Verdict::Good => Ok(()),
            };
            prop_assert_eq!(received.as_ref().map(|_| ()).map_err(|e| *e), expected, "{} {:?}", at, verdict);
            prop_assert_eq!(received == Ok(Event::Aborted), verdict == Verdict::Aborts);
            if verdict == Verdict::Dropped {
                prop_assert_eq!(received, Ok(Event::Nothing));
            }
            prop_assert!(!had_end || machine.received_end() == Ok(true), "an end was taken back");
            refusals.extend(expected.err());
            if let Some(refused) = expected.err() {
                // What was waiting does not go out before, and nothing after.
                let said = machine.next_message();
                let abort = match refused {
                    Error::NotAStream => None,
                    Error::TooLarge => Some(vec![2, 0, 10]),
                    _ => Some(vec![2, 0, 1]),
                };
                prop_assert_eq!(said, abort);
                prop_assert_eq!(machine.next_message(), None);
                prop_assert!(machine.data(b"x").is_err());
            }
        }
        prop_assert!(refusals.len() <= 1, "one refusal at most");
    }
}
