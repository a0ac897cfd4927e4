//! Searches this process's whole address space for secrets.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// What a needle is XORed with, so that the test itself holds no copy to be found.
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

    /// Gives the secret for a moment.
    pub fn with<R>(&self, use_it: impl FnOnce(&mut [u8]) -> R) -> R {
        let mut secret: Vec<u8> = self.0.iter().map(|byte| byte ^ MASK).collect();
        let result = use_it(&mut secret);
        secret.fill(0);
        std::hint::black_box(&secret);
        result
    }

    /// Where it stands in `bytes`, looked for by its first byte.
    fn places(&self, bytes: &[u8]) -> impl Iterator<Item = usize> {
        let first = i32::from(self.0[0] ^ MASK);
        let mut from = 0;
        std::iter::from_fn(move || {
            // SAFETY: the pointer is within `bytes` and the length is what is left of it.
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

    /// How many times the secret stands in memory that this process can read, at any alignment.
    pub fn count(&self) -> usize {
        let memory = File::open("/proc/self/mem").unwrap();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let mut scratch = vec![0u8; SCRATCH];
        let ours = scratch.as_ptr() as u64..scratch.as_ptr() as u64 + SCRATCH as u64;
        let mut hits = 0;
        for line in maps.lines().filter(|line| !line.contains("[v")) {
            let (range, rest) = line.split_once(' ').unwrap();
            // A file's own pages that nobody can write hold no secret of ours.
            let of_file = rest.split_whitespace().nth(3) != Some("0");
            if !rest.starts_with('r') || (of_file && !rest.starts_with("rw")) {
                continue;
            }
            let (start, end) = range.split_once('-').unwrap();
            let mut at = u64::from_str_radix(start, 16).unwrap();
            let end = u64::from_str_radix(end, 16).unwrap();
            // Pieces overlap by a needle less a byte, so that none hides on a border.
            while at + self.0.len() as u64 <= end {
                let len = SCRATCH.min((end - at) as usize);
                let Ok(len) = memory.read_at(&mut scratch[..len], at) else { break };
                hits += self
                    .places(&scratch[..len])
                    .filter(|place| !ours.contains(&(at + *place as u64)))
                    .count();
                if len < SCRATCH {
                    break;
                }
                at += (SCRATCH - self.0.len() + 1) as u64;
            }
        }
        scratch.fill(0);
        hits
    }
}
