//! Bytes that nobody should send: random ones, and valid messages with something wrong. The same seed makes the same bytes.
//!
//! In: a seed, valid messages. Out: datagrams. Elsewhere: who sends them and what must hold (`tests/hostile.rs`).

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

/// What fits a UDP datagram over IPv4.
const DATAGRAM_MAX: usize = 65_507;

/// Numbers that parsers stumble over.
const NUMBERS: [&str; 10] = [
    "0",
    "-1",
    "4294967295",
    "4294967296",
    "18446744073709551616",
    "99999999999999999999999999999999",
    "1e9",
    "0x10",
    "",
    " ",
];

/// Texts that mean something to some grammar.
const TOKENS: [&str; 24] = [
    "\r\n",
    "\r\n ",
    "\r\n\r\n",
    "\n",
    "\0",
    "\"",
    "\\",
    "<",
    ">",
    ",",
    ";",
    ";;",
    "=",
    "@",
    ":",
    "%00",
    "%",
    "[::1]",
    "sip:",
    "sips:;transport=tls",
    "tel:+1;phone-context=x",
    "*",
    "\u{fffd}",
    "multipart/mixed;boundary=x",
];

/// A source of bad datagrams.
pub struct Mutator {
    rng: StdRng,
    valid: Vec<Vec<u8>>,
}

impl Mutator {
    /// From a seed and messages to spoil.
    pub fn new(seed: u64, valid: Vec<Vec<u8>>) -> Mutator {
        Mutator { rng: StdRng::seed_from_u64(seed), valid }
    }

    /// The next datagram.
    pub fn datagram(&mut self) -> Vec<u8> {
        let mut octets = match self.rng.random_range(0..100) {
            0..10 => self.noise(),
            10..12 => self.oversized(),
            12..15 => self.nested(),
            15..18 => self.stun_like(),
            18..21 => self.repeated(),
            _ => self.spoiled(),
        };
        octets.truncate(DATAGRAM_MAX);
        octets
    }

    /// A message with one to eight things wrong.
    pub fn spoiled(&mut self) -> Vec<u8> {
        let mut octets = self.any_valid();
        for _ in 0..self.rng.random_range(1..=8) {
            self.spoil(&mut octets);
        }
        octets.truncate(DATAGRAM_MAX);
        octets
    }

    /// Random octets.
    pub fn noise(&mut self) -> Vec<u8> {
        let length = self.rng.random_range(0..1500);
        let mut octets = vec![0; length];
        self.rng.fill_bytes(&mut octets);
        octets
    }

    fn any_valid(&mut self) -> Vec<u8> {
        let index = self.rng.random_range(0..self.valid.len());
        self.valid[index].clone()
    }

    fn spoil(&mut self, octets: &mut Vec<u8>) {
        if octets.is_empty() {
            return;
        }
        let at = self.rng.random_range(0..octets.len());
        match self.rng.random_range(0..9) {
            0 => octets[at] = self.rng.random(),
            1 => octets[at] ^= 1 << self.rng.random_range(0..8),
            2 => octets.truncate(at),
            3 => drop(octets.remove(at)),
            4 => self.insert(octets, at),
            5 => {
                let end = (at + self.rng.random_range(1..40)).min(octets.len());
                octets.drain(at..end);
            }
            6 => {
                let end = (at + self.rng.random_range(1..200)).min(octets.len());
                let part = octets[at..end].to_vec();
                let to = self.rng.random_range(0..=octets.len());
                octets.splice(to..to, part);
            }
            7 => self.number(octets, at),
            _ => self.line(octets),
        }
    }

    fn insert(&mut self, octets: &mut Vec<u8>, at: usize) {
        let token = TOKENS[self.rng.random_range(0..TOKENS.len())];
        octets.splice(at..at, token.bytes());
    }

    /// Replaces the digits at or after a place.
    fn number(&mut self, octets: &mut Vec<u8>, at: usize) {
        let Some(from) = octets[at..].iter().position(u8::is_ascii_digit).map(|digit| at + digit) else {
            return;
        };
        let digits = octets[from..].iter().take_while(|octet| octet.is_ascii_digit()).count();
        let number = NUMBERS[self.rng.random_range(0..NUMBERS.len())];
        octets.splice(from..from + digits, number.bytes());
    }

    /// Removes, repeats or moves a line.
    fn line(&mut self, octets: &mut Vec<u8>) {
        let mut lines: Vec<&[u8]> = octets.split_inclusive(|octet| *octet == b'\n').collect();
        let (from, to) = (self.rng.random_range(0..lines.len()), self.rng.random_range(0..lines.len()));
        match self.rng.random_range(0..3) {
            0 => drop(lines.remove(from)),
            1 => {
                let line = lines[from];
                (0..self.rng.random_range(1..300)).for_each(|_| lines.insert(to, line));
            }
            _ => lines.swap(from, to),
        }
        *octets = lines.concat();
    }

    /// A header or body as long as a datagram can be.
    fn oversized(&mut self) -> Vec<u8> {
        let mut octets = self.any_valid();
        let at = self.rng.random_range(0..=octets.len());
        let filler = [b'a', b' ', b'(', b'"', b',', b';', 0xff][self.rng.random_range(0..7)];
        let length = DATAGRAM_MAX - octets.len().min(DATAGRAM_MAX);
        octets.splice(at..at, std::iter::repeat_n(filler, length));
        octets
    }

    /// Comments within comments, parts within parts.
    fn nested(&mut self) -> Vec<u8> {
        let mut octets = self.any_valid();
        let depth = self.rng.random_range(1..2000);
        let (open, close) = [
            ("(", ")"),
            ("<", ">"),
            ("--x\r\nContent-Type: multipart/mixed;boundary=x\r\n\r\n", "--x--\r\n"),
        ][self.rng.random_range(0..3)];
        let at = self.rng.random_range(0..=octets.len());
        octets.splice(at..at, format!("{}{}", open.repeat(depth), close.repeat(depth / 2)).into_bytes());
        octets
    }

    /// A STUN header before random attributes.
    fn stun_like(&mut self) -> Vec<u8> {
        let mut octets = self.noise();
        let length = u16::try_from(octets.len()).unwrap_or(u16::MAX).to_be_bytes();
        let magic = [0, 1, length[0], length[1], 0x21, 0x12, 0xa4, 0x42];
        octets.splice(0..0, magic);
        octets
    }

    /// Several messages, or keep-alives, in one datagram.
    fn repeated(&mut self) -> Vec<u8> {
        let unit = if self.rng.random() { b"\r\n\r\n".to_vec() } else { self.any_valid() };
        unit.repeat(self.rng.random_range(1..40))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_the_same_datagrams_and_another_makes_others() {
        let valid = || vec![b"OPTIONS sip:a SIP/2.0\r\nCSeq: 1 OPTIONS\r\n\r\n".to_vec()];
        let some = |seed| {
            let mut mutator = Mutator::new(seed, valid());
            (0..500).map(|_| mutator.datagram()).collect::<Vec<_>>()
        };
        assert_eq!(some(1), some(1));
        assert_ne!(some(1), some(2));
        assert!(some(1).iter().all(|datagram| datagram.len() <= DATAGRAM_MAX));
    }
}
