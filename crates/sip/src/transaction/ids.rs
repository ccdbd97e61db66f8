//! How messages find their transaction (RFC 3261 sections 17.1.3 and 17.2.3).
//!
//! In: parsed messages and a secret key. Out: fingerprints of requests (keyed, so that nobody outside can aim at a
//! bucket), the branches of our own requests, To tags that repeat for a repeated request. Elsewhere: the table they index.

use crate::header::{BRANCH_COOKIE, Via};
use crate::msg::{HeaderId, Message, Method};
use crate::uri::Host;
use rand::Rng;

/// Two fingerprints are equal when branch and sent-by are (or, without the magic cookie, all that RFC 2543 compares). 128 bits under a secret key stand for the bytes themselves: no transaction needs to keep them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Print(pub(super) u128);

/// A method as a number: known ones are small, others hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MethodCode(u64);

impl MethodCode {
    pub(super) const INVITE: MethodCode = MethodCode(0);
    pub(super) const CANCEL: MethodCode = MethodCode(3);
    /// The known methods a CANCEL could be meant for, although it stops none of them (section 9.2).
    pub(super) const NOT_STOPPED: std::ops::Range<u64> = 4..16;

    /// The code with this number.
    pub(super) fn known(number: u64) -> MethodCode {
        MethodCode(number)
    }
}

/// What identifies a request to the server side of the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestId {
    pub(super) print: Print,
    /// The branch has no magic cookie: RFC 2543 rules.
    pub(super) legacy: bool,
}

impl RequestId {
    /// The bucket of a method under this identity.
    pub(super) fn bucket(print: Print, method: MethodCode) -> u64 {
        half(print.0) ^ method.0.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// What requests of one caller have in common (section 8.2.2.2).
pub(super) struct CallFacts<'a> {
    from_tag: &'a [u8],
    call_id: &'a [u8],
    number: u32,
}

impl CallFacts<'_> {
    pub(super) fn of(msg: &Message) -> CallFacts<'_> {
        CallFacts {
            from_tag: msg.from_tag().unwrap_or_default(),
            call_id: msg.call_id(),
            number: msg.cseq().map_or(0, |cseq| cseq.number),
        }
    }
}

/// The secret of one table.
pub(super) struct Secret {
    k0: u64,
    k1: u64,
}

impl Secret {
    pub(super) fn new(rng: &mut impl Rng) -> Secret {
        Secret { k0: rng.next_u64(), k1: rng.next_u64() }
    }

    /// Number of a method.
    pub(super) fn method(&self, method: &Method) -> MethodCode {
        MethodCode(match method {
            Method::Invite => 0,
            Method::Ack => 2,
            Method::Cancel => 3,
            Method::Bye => 4,
            Method::Register => 5,
            Method::Options => 6,
            Method::Prack => 7,
            Method::Update => 8,
            Method::Info => 9,
            Method::Refer => 10,
            Method::Notify => 11,
            Method::Subscribe => 12,
            Method::Message => 13,
            Method::Publish => 14,
            Method::Other(token) => self.hash64(b'm', &[token]) | 1 << 63,
        })
    }

    /// Identity of a request (section 17.2.3). ACK and CANCEL get that of their INVITE. `to_tag` counts only without
    /// the magic cookie.
    pub(super) fn request<'a>(
        &self,
        msg: &'a Message,
        via: &Via<'_>,
        to_tag: impl FnOnce() -> Option<&'a [u8]>,
    ) -> RequestId {
        if let Some(branch) = via.transaction_branch() {
            let mut hash = self.hasher(b'b');
            hash.part(branch.as_bytes());
            hash_host(&mut hash, &via.host);
            let port = via.port.map_or([0; 2], u16::to_be_bytes);
            hash.part(&port);
            return RequestId { print: Print(hash.finish()), legacy: false };
        }
        let mut hash = self.hasher(b'2');
        hash.part(msg.request_uri());
        hash.part(to_tag().unwrap_or_default());
        hash.part(msg.from_tag().unwrap_or_default());
        hash.part(msg.call_id());
        hash.part(&msg.cseq().map_or(0, |cseq| cseq.number).to_be_bytes());
        hash.part(msg.values(HeaderId::Via).next().unwrap_or_default());
        RequestId { print: Print(hash.finish()), legacy: true }
    }

    /// Hash of what merged requests have in common (section 8.2.2.2) and an ACK shares with its INVITE. Requests inside
    /// a dialog are told apart by their To tag.
    pub(super) fn call(&self, facts: &CallFacts<'_>, method: MethodCode, to_tag: Option<&[u8]>) -> u64 {
        let mut hash = self.hasher(if to_tag.is_some() { b'd' } else { b'c' });
        hash.part(facts.from_tag);
        hash.part(facts.call_id);
        hash.part(to_tag.unwrap_or_default());
        hash.write(&facts.number.to_be_bytes());
        hash.write(&method.0.to_be_bytes());
        half(hash.finish())
    }

    /// The To tag of answers whose user named none: the same for repeats of a request and for its CANCEL, as a stateless
    /// server needs it (section 8.2.7).
    pub(super) fn to_tag(&self, request: &Message) -> String {
        let facts = CallFacts::of(request);
        let parts = [facts.from_tag, facts.call_id, &facts.number.to_be_bytes()];
        let mut tag = String::with_capacity(16);
        push_hex(&mut tag, self.hash64(b't', &parts), 16);
        tag
    }

    /// Hash of any other key; `domain` keeps uses apart.
    pub(super) fn hash64(&self, domain: u8, parts: &[&[u8]]) -> u64 {
        let mut hash = self.hasher(domain);
        for part in parts {
            hash.part(part);
        }
        half(hash.finish())
    }

    fn hasher(&self, domain: u8) -> SipHash {
        let mut hash = SipHash::new(self.k0, self.k1);
        hash.write(&[domain]);
        hash
    }
}

/// Half of a hash is a hash.
fn half(hash: u128) -> u64 {
    (hash >> 64) as u64
}

/// Host names compare without case (section 19.1.4).
fn hash_host(hash: &mut SipHash, host: &Host<'_>) {
    match host {
        Host::Name(name) => {
            for chunk in name.as_bytes().chunks(64) {
                let mut lower = [0; 64];
                let lower = &mut lower[..chunk.len()];
                lower.copy_from_slice(chunk);
                lower.make_ascii_lowercase();
                hash.part(lower);
            }
        }
        Host::V4(ip) => hash.part(&ip.octets()),
        Host::V6(ip) => hash.part(&ip.octets()),
    }
}

/// The branch of a request of ours: cookie, shard, slot of the table, 64 random bits that a stranger cannot guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Branch {
    pub(super) shard: u8,
    pub(super) slot: u32,
    pub(super) random: u64,
}

impl Branch {
    const LEN: usize = BRANCH_COOKIE.len() + 2 + 8 + 16;

    pub(super) fn write(self, text: &mut String) {
        text.push_str(BRANCH_COOKIE);
        push_hex(text, u64::from(self.shard), 2);
        push_hex(text, u64::from(self.slot), 8);
        push_hex(text, self.random, 16);
    }

    /// Reads a branch of the form that `write` makes; other stacks' branches are `None`.
    pub(super) fn parse(branch: &str) -> Option<Branch> {
        let digits = branch.strip_prefix(BRANCH_COOKIE)?.as_bytes();
        if branch.len() != Self::LEN {
            return None;
        }
        let number = |hex: &[u8]| {
            hex.iter().try_fold(0u64, |sum, digit| {
                let value = match digit {
                    b'0'..=b'9' => digit - b'0',
                    b'a'..=b'f' => digit - b'a' + 10,
                    _ => return None,
                };
                Some(sum << 4 | u64::from(value))
            })
        };
        Some(Branch {
            shard: u8::try_from(number(&digits[..2])?).ok()?,
            slot: u32::try_from(number(&digits[2..10])?).ok()?,
            random: number(&digits[10..])?,
        })
    }
}

fn push_hex(text: &mut String, number: u64, digits: u32) {
    for digit in (0..digits).rev() {
        text.push(char::from(b"0123456789abcdef"[(number >> (digit * 4) & 15) as usize]));
    }
}

/// SipHash-2-4 with 128 bits of output (Aumasson and Bernstein, 2012): short keyed hashes that cannot be steered from
/// outside. The standard library offers no hasher with a given key and 128 bits.
struct SipHash {
    v: [u64; 4],
    pending: u64,
    /// Bits of it that are there, fewer than 64.
    filled: u32,
    length: u64,
}

impl SipHash {
    fn new(k0: u64, k1: u64) -> SipHash {
        let v = [
            k0 ^ 0x736f_6d65_7073_6575,
            k1 ^ 0x646f_7261_6e64_6f6d ^ 0xee,
            k0 ^ 0x6c79_6765_6e65_7261,
            k1 ^ 0x7465_6462_7974_6573,
        ];
        SipHash { v, pending: 0, filled: 0, length: 0 }
    }

    /// A part with its length, so that ("ab", "c") and ("a", "bc") differ.
    fn part(&mut self, bytes: &[u8]) {
        self.write(&(bytes.len() as u64).to_le_bytes()[..4]);
        self.write(bytes);
    }

    fn write(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.push(u64::from_le_bytes(*word), 64);
        }
        let (halves, rest) = rest.as_chunks::<4>();
        for half in halves {
            self.push(u64::from(u32::from_le_bytes(*half)), 32);
        }
        for byte in rest {
            self.push(u64::from(*byte), 8);
        }
    }

    /// Takes so many bits behind those that are pending, whole bytes.
    fn push(&mut self, bits: u64, count: u32) {
        self.pending |= bits << self.filled;
        let filled = self.filled + count;
        if filled >= 64 {
            self.absorb(self.pending);
            // What did not fit; of 64 bits behind none, nothing is left.
            self.pending = bits.checked_shr(64 - self.filled).unwrap_or(0);
        }
        self.filled = filled % 64;
    }

    fn absorb(&mut self, word: u64) {
        self.v[3] ^= word;
        self.rounds(2);
        self.v[0] ^= word;
    }

    fn rounds(&mut self, count: usize) {
        let [mut v0, mut v1, mut v2, mut v3] = self.v;
        for _ in 0..count {
            v0 = v0.wrapping_add(v1);
            v1 = v1.rotate_left(13) ^ v0;
            v0 = v0.rotate_left(32);
            v2 = v2.wrapping_add(v3);
            v3 = v3.rotate_left(16) ^ v2;
            v0 = v0.wrapping_add(v3);
            v3 = v3.rotate_left(21) ^ v0;
            v2 = v2.wrapping_add(v1);
            v1 = v1.rotate_left(17) ^ v2;
            v2 = v2.rotate_left(32);
        }
        self.v = [v0, v1, v2, v3];
    }

    fn finish(mut self) -> u128 {
        let last = self.pending | self.length << 56;
        self.absorb(last);
        self.v[2] ^= 0xee;
        self.rounds(4);
        let low = self.v.iter().fold(0, |sum, v| sum ^ v);
        self.v[1] ^= 0xdd;
        self.rounds(4);
        let high = self.v.iter().fold(0, |sum, v| sum ^ v);
        u128::from(high) << 64 | u128::from(low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the reference implementation's table for 128 bits: key 00..0f, input 00, 01, ... of the given length.
    #[test]
    fn siphash_agrees_with_the_reference_vectors() {
        let key = |from: u8| u64::from_le_bytes(std::array::from_fn(|i| from + i as u8));
        for (length, expected) in
            [(0, "a3817f04ba25a8e66df67214c7550293"), (1, "da87c1d86b99af44347659119b22fc45")]
        {
            let mut hash = SipHash::new(key(0), key(8));
            hash.write(&(0..length).collect::<Vec<u8>>());
            let got: String = hash.finish().to_le_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(got, expected, "length {length}");
        }
    }

    #[test]
    fn siphash_does_not_care_how_its_input_is_cut() {
        let text: Vec<u8> = (0..100).collect();
        let whole = |cut: usize| {
            let mut hash = SipHash::new(1, 2);
            hash.write(&text[..cut]);
            hash.write(&text[cut..]);
            hash.finish()
        };
        let expected = whole(0);
        assert!((0..=100).all(|cut| whole(cut) == expected));
    }

    #[test]
    fn a_branch_reads_back_as_it_was_written() {
        let branch = Branch { shard: 0xa7, slot: 123_456, random: 0x0123_4567_89ab_cdef };
        let mut text = String::new();
        branch.write(&mut text);
        assert_eq!(text, "z9hG4bKa70001e2400123456789abcdef");
        assert_eq!(Branch::parse(&text), Some(branch));
    }

    #[test]
    fn branches_of_other_stacks_are_not_ours() {
        for branch in [
            "z9hG4bK",
            "z9hG4bKa70001e2400123456789abcde",
            "z9hG4bKa70001e2400123456789abcdef0",
            "z9hG4bKa70001e2400123456789abcdeF",
            "z9hG4bKa70001e2400123456789abcd\u{e9}",
            "a70001e2400123456789abcdef0000000",
        ] {
            assert_eq!(Branch::parse(branch), None, "{branch}");
        }
    }
}
