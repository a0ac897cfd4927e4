//! Searches the whole address space of this process, or of another, for secrets.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// The mask that a needle is XORed with, so that the test itself holds no copy to be found.
const MASK: u8 = 0xa5;
const SCRATCH: usize = 1 << 16;

/// A secret that the test remembers only masked.
pub struct Needle(Vec<u8>);

impl Needle {
    /// Remembers `secret` and wipes it.
    pub fn take(secret: &mut [u8]) -> Needle {
        assert!(secret.len() >= 16, "too short to be told from chance");
        let masked = secret.iter().map(|byte| byte ^ MASK).collect();
        secret.fill(0);
        std::hint::black_box(secret);
        Needle(masked)
    }

    /// Lends the secret for a moment.
    pub fn with<R>(&self, use_it: impl FnOnce(&mut [u8]) -> R) -> R {
        let mut secret: Vec<u8> = self.0.iter().map(|byte| byte ^ MASK).collect();
        let result = use_it(&mut secret);
        secret.fill(0);
        std::hint::black_box(&secret);
        result
    }

    /// Returns its positions in `bytes`, searching for its first byte.
    fn places(&self, bytes: &[u8]) -> impl Iterator<Item = usize> {
        let first = i32::from(self.0[0] ^ MASK);
        let mut from = 0;
        std::iter::from_fn(move || {
            // SAFETY: the pointer is within `bytes`, and the length is the rest of it.
            let found = unsafe { libc::memchr(bytes[from..].as_ptr().cast(), first, bytes.len() - from) };
            let place = (!found.is_null()).then(|| found as usize - bytes.as_ptr() as usize)?;
            from = place + 1;
            Some(place)
        })
        .filter(|place| {
            let there = bytes.get(*place..place + self.0.len());
            there.is_some_and(|there| there.iter().zip(&self.0).all(|(a, b)| a ^ MASK == *b))
        })
    }

    /// Returns how often the secret occurs in memory that this process can read, at any alignment.
    pub fn count(&self) -> usize {
        let mut hits = 0;
        each_piece("self", self.0.len(), |bytes, ours| {
            hits += self.places(bytes).filter(|place| !ours(*place)).count();
        });
        hits
    }

    /// Its first four bytes.
    fn start(&self) -> [u8; 4] {
        std::array::from_fn(|i| self.0[i] ^ MASK)
    }
}

/// Returns how often each of the secrets, of one length, occurs in the memory of the process with
/// this number.
pub fn counts(process: u32, needles: &[&Needle]) -> Vec<usize> {
    let mut search = Search::of(needles);
    each_piece(&process.to_string(), search.len, |bytes, _| search.look(bytes));
    search.hits
}

/// Returns how often each of the secrets, of one length, occurs in the bytes.
pub fn counts_in(bytes: &[u8], needles: &[&Needle]) -> Vec<usize> {
    let mut search = Search::of(needles);
    search.look(bytes);
    search.hits
}

/// A search for many secrets at once.
struct Search<'a> {
    needles: &'a [&'a Needle],
    /// The length of each.
    len: usize,
    /// Which needles start with these bytes.
    starts: HashMap<[u8; 4], Vec<usize>>,
    /// Whether any starts with these two bytes.
    pairs: Vec<bool>,
    hits: Vec<usize>,
}

impl<'a> Search<'a> {
    fn of(needles: &'a [&'a Needle]) -> Search<'a> {
        let len = needles[0].0.len();
        let mut starts = HashMap::<_, Vec<_>>::new();
        let mut pairs = vec![false; 1 << 16];
        for (index, needle) in needles.iter().enumerate() {
            assert_eq!(needle.0.len(), len, "secrets of one length");
            let start = needle.start();
            starts.entry(start).or_default().push(index);
            pairs[usize::from(u16::from_ne_bytes([start[0], start[1]]))] = true;
        }
        Search { needles, len, starts, pairs, hits: vec![0; needles.len()] }
    }

    fn look(&mut self, bytes: &[u8]) {
        for (place, window) in bytes.windows(self.len).enumerate() {
            if !self.pairs[usize::from(u16::from_ne_bytes([window[0], window[1]]))] {
                continue;
            }
            let Some(candidates) = self.starts.get(&window[..4]) else { continue };
            let there = &bytes[place..place + self.len];
            for index in candidates {
                let needle = &self.needles[*index].0;
                self.hits[*index] += usize::from(there.iter().zip(needle).all(|(a, b)| a ^ MASK == *b));
            }
        }
    }
}

/// Passes all readable memory of a process to `look`, in pieces that overlap by `len` less a byte,
/// so that nothing of that length is missed at a border; each comes with a function that says
/// whether a position in it belongs to this search.
fn each_piece(process: &str, len: usize, mut look: impl FnMut(&[u8], &dyn Fn(usize) -> bool)) {
    let memory = File::open(format!("/proc/{process}/mem")).unwrap();
    let maps = std::fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
    let mut scratch = vec![0u8; SCRATCH];
    let start = scratch.as_ptr() as u64;
    let ours = if process == "self" { start..start + SCRATCH as u64 } else { 0..0 };
    for line in maps.lines().filter(|line| !line.contains("[v")) {
        let (range, rest) = line.split_once(' ').unwrap();
        // Read-only pages of a file hold no secret of the tests.
        let of_file = rest.split_whitespace().nth(3) != Some("0");
        if !rest.starts_with('r') || (of_file && !rest.starts_with("rw")) {
            continue;
        }
        let (start, end) = range.split_once('-').unwrap();
        let mut at = u64::from_str_radix(start, 16).unwrap();
        let end = u64::from_str_radix(end, 16).unwrap();
        while at + len as u64 <= end {
            let piece = SCRATCH.min((end - at) as usize);
            let Ok(piece) = memory.read_at(&mut scratch[..piece], at) else { break };
            look(&scratch[..piece], &|place| ours.contains(&(at + place as u64)));
            if piece < SCRATCH {
                break;
            }
            at += (SCRATCH - len + 1) as u64;
        }
    }
    scratch.fill(0);
}
